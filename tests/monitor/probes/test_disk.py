"""File systems: real ones, full ones, and mounts that never answer."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.checks import Bound
from monitor.check import Check, run_check
from monitor.probes.disk import DiskProbe
from monitor.probes.file_systems import FileSystems, FileSystemUsage, NoAnswer
from monitor.result import ProbeError, Status

HANGS_ON_DEAD_PATHS = """
import sys, time
for line in sys.stdin.buffer:
    if b"dead" in bytes.fromhex(line.decode()):
        time.sleep(600)
    print("ok 4096 100 50 40 1000 900", flush=True)
"""
FULL = """
import sys
for line in sys.stdin.buffer:
    print("ok 4096 256 1 0 1000 20", flush=True)
"""


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", "-c", code


@pytest.fixture
def file_systems() -> Iterator[FileSystems]:
    real = FileSystems()
    yield real
    real.close()


@pytest.fixture
def hanging() -> Iterator[FileSystems]:
    """A real child to which a path with "dead" in it is a mount whose server is gone."""
    some = FileSystems(python(HANGS_ON_DEAD_PATHS))
    yield some
    some.close()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[tuple[str, FileSystems]]:
    """A real small file system that is full where we may mount one, else a child that says so."""
    if os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=50", "tmpfs", tmp_path], capture_output=True, check=False
    ).returncode == 0:  # fmt: skip
        some = FileSystems()
        for number in range(48):
            (tmp_path / f"file {number}").touch()
        with (tmp_path / "big").open("wb", buffering=0) as big, contextlib.suppress(OSError):
            while big.write(b"x" * 4096):
                pass
    else:
        some = FileSystems(python(FULL))
    yield str(tmp_path), some
    some.close()
    subprocess.run(["umount", tmp_path], capture_output=True, check=False)


def test_usage_is_what_statvfs_says(file_systems: FileSystems, tmp_path: Path) -> None:
    usage = file_systems.usage(str(tmp_path), 10)
    truth = os.statvfs(tmp_path)
    assert (usage.total_bytes, usage.inodes) == (truth.f_frsize * truth.f_blocks, truth.f_files)
    assert abs(usage.available_bytes - truth.f_frsize * truth.f_bavail) < 2**30


def test_a_name_with_any_character_can_be_asked_for(file_systems: FileSystems, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"line\nbreak \xff\xfe end")
    odd.mkdir()
    assert file_systems.usage(str(odd), 10).total_bytes > 0


def test_a_path_that_does_not_exist_is_an_error_with_its_reason(file_systems: FileSystems, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"gone: No such file or directory"):
        file_systems.usage(str(tmp_path / "gone"), 10)
    assert file_systems.usage(str(tmp_path), 10).total_bytes > 0


def test_one_child_answers_all_questions(file_systems: FileSystems, tmp_path: Path) -> None:
    file_systems.usage(str(tmp_path), 10)
    child = file_systems._idle
    assert child is not None
    threads = [threading.Thread(target=file_systems.usage, args=(str(tmp_path), 10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file_systems._idle is child


def test_a_dead_mount_is_given_up_and_others_are_still_answered(hanging: FileSystems) -> None:
    began = time.monotonic()
    with pytest.raises(ProbeError, match=r"/mnt/dead: no answer within 0\.3 s") as caught:
        hanging.usage("/mnt/dead", 0.3)
    assert "umount" in caught.value.hint
    assert time.monotonic() - began < 5
    assert hanging.usage("/mnt/alive", 10) == FileSystemUsage(409_600, 204_800, 163_840, 1000, 900)
    assert hanging.stuck_children == 0


def test_many_are_asked_for_at_once_and_a_dead_one_among_them_costs_its_own_time_only(hanging: FileSystems) -> None:
    paths = ["/mnt/alive", *(f"/mnt/alive/{number:0200}" for number in range(40)), "/mnt/dead", "/mnt/last"]
    began = time.monotonic()
    found = hanging.usages(paths, 0.5)
    assert time.monotonic() - began < 20
    assert list(found) == paths
    assert isinstance(found.pop("/mnt/dead"), NoAnswer)
    assert {usage.total_bytes for usage in found.values()} == {409_600}  # type: ignore[union-attr]


def test_a_dead_mount_does_not_hold_up_a_question_asked_meanwhile(hanging: FileSystems) -> None:
    def ask() -> None:
        with contextlib.suppress(ProbeError):
            hanging.usage("/mnt/dead", 2.5)

    waiting = threading.Thread(target=ask)
    waiting.start()
    began = time.monotonic()
    assert hanging.usage("/mnt/alive", 2).total_bytes == 409_600
    assert time.monotonic() - began < 2
    waiting.join()


def test_a_child_that_cannot_be_killed_is_counted_and_its_path_not_asked_again() -> None:
    spared: list[Any] = []
    some = FileSystems(python(HANGS_ON_DEAD_PATHS), kill=spared.append)
    try:
        with pytest.raises(ProbeError, match="no answer"):
            some.usage("/mnt/dead", 0.2)
        assert some.stuck_children == 1
        began = time.monotonic()
        with pytest.raises(ProbeError, match="hangs in the kernel"):
            some.usage("/mnt/dead", 10)
        assert time.monotonic() - began < 1
        assert some.usage("/mnt/alive", 10).total_bytes == 409_600
        spared[0].kill()
        spared[0].wait()
        assert some.stuck_children == 0
        with pytest.raises(ProbeError, match="no answer"):
            some.usage("/mnt/dead", 0.2)
    finally:
        some.close()
        for child in spared:
            child.kill()
            child.wait()


def test_a_stopped_child_is_replaced(file_systems: FileSystems, tmp_path: Path) -> None:
    file_systems.usage(str(tmp_path), 10)
    child = file_systems._idle
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ProbeError, match="no answer"):
        file_systems.usage(str(tmp_path), 0.3)
    assert file_systems.usage(str(tmp_path), 10).total_bytes > 0


def test_a_child_that_was_killed_is_replaced_without_a_word(file_systems: FileSystems, tmp_path: Path) -> None:
    file_systems.usage(str(tmp_path), 10)
    child = file_systems._idle
    assert child is not None
    child.kill()
    child.wait()
    assert file_systems.usage(str(tmp_path), 10).total_bytes > 0


def test_a_child_that_cannot_start_is_an_error() -> None:
    with pytest.raises(ProbeError, match="starting the child"):
        FileSystems(["/does/not/exist"]).usage("/", 1)


def test_a_child_that_dies_at_once_is_an_error() -> None:
    with pytest.raises(ProbeError, match="died"):
        FileSystems(python("")).usage("/", 5)


def test_the_child_ends_when_nobody_holds_its_input(file_systems: FileSystems) -> None:
    file_systems.usage("/", 10)
    child = file_systems._take_idle()
    assert child is not None
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(10) == 0
    assert child.stdout is not None
    child.stdout.close()


def test_a_full_disk_raises_the_alarm_for_space_and_inodes(full_disk: tuple[str, FileSystems]) -> None:
    path, file_systems = full_disk
    bounds = tuple(Bound.model_validate({"reading": name, "raise": "> 95%"}) for name in ("used", "inodes_used"))
    for bound in bounds:
        check = Check("disk", "disk", DiskProbe(path, 10, file_systems), path, critical=(bound,))
        (result,) = run_check(check, {}, _no_clock)
        assert result.status is Status.CRITICAL, result.message
        assert path in result.message


def test_space_is_counted_as_df_does_and_inodes_without_a_limit_are_not_used_up(values: Any) -> None:
    some = FileSystems(python("import sys\nfor line in sys.stdin: print('ok 10 100 15 10 0 0', flush=True)"))
    measured = values(DiskProbe("/", 10, some).measure())
    some.close()
    assert measured == {"used": 850 / 950, "free_bytes": 100, "total_bytes": 1000, "inodes_used": 0}


def test_a_pseudo_file_system_has_nothing_to_watch(file_systems: FileSystems) -> None:
    with pytest.raises(ProbeError, match="without space"):
        DiskProbe("/proc", 10, file_systems).measure()


def _no_clock() -> Any:
    return None
