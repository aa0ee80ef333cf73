"""Streams: a program's output becomes a file of a snapshot, whole or not at all."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup import streams
from backup.archiver import BackupReport, backup
from backup.chunker import MAX_BYTES, Chunker
from backup.errors import Interrupted, SourceError
from backup.repository import Repository
from backup.sources.base import Step, Stream
from backup.sources.command import CommandSource
from backup.sources.streams import StreamCapture, file, folder, output_of
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from tests.backup.conftest import Restic
from tests.backup.repositories import FakeClock, create, read_back

NOISE = random.Random(7).randbytes(9 << 20)


@dataclass(frozen=True)
class Given:
    """A source that gives the streams of a test."""

    streams: Iterable[Step]
    clock: FakeClock
    paths: tuple[str, ...] = ("/ledger",)
    live_paths: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    consistency: str = "application"

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        yield StreamCapture(folder("/ledger", self.streams, at=self.clock()), {"rows": 3})


def save(repository: Repository, source: object, **more: object) -> BackupReport:
    return backup(
        repository, source, job="ledger", host="erp-1", clock=repository.clock, workers=0, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def shell(script: str, clock: FakeClock) -> CommandSource:
    return CommandSource("ledger", clock, ("sh", "-c", script), "dump.sql")


def parts(content: bytes, length: int) -> Iterator[bytes]:
    for at in range(0, len(content), length):
        yield content[at : at + length]


@pytest.mark.parametrize("workers", [0, 2])
def test_restic_restores_what_programs_wrote(
    tmp_path: Path, clock: FakeClock, restic: Restic, workers: int
) -> None:
    files = {"big": NOISE, "paged": NOISE[5:], "small": b"x", "empty": b""} | {f"n{n}": b"%d" % n for n in range(300)}
    given = [
        file(f"/ledger/{name}", parts(content, 70_001), at=clock(), page_bytes=65_536 if name == "paged" else 0)
        for name, content in files.items()
    ]
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    report = backup(
        repository, Given(given, clock), job="ledger", host="erp-1", clock=clock, workers=workers,
    )  # fmt: skip
    assert (report.files_new, report.bytes_processed) == (len(files), sum(map(len, files.values())))
    assert report.manifest == {"rows": 3}
    assert "no errors were found" in restic("check", "--read-data").stdout
    restic("restore", "latest", "--target", str(tmp_path / "back"))
    back = {path.name: path.read_bytes() for path in (tmp_path / "back/ledger").iterdir()}
    assert back == files


def test_a_folder_within_a_stream_source_is_a_folder_of_the_snapshot(repository: Repository, clock: FakeClock) -> None:
    inner = folder("/ledger/base", [file("/ledger/base/1", [b"one"], at=clock())], at=clock())
    report = save(repository, Given([*inner, file("/ledger/manifest.json", [b"{}"], at=clock())], clock))
    assert read_back(repository, report.snapshot_id) == {"/ledger/base/1": b"one", "/ledger/manifest.json": b"{}"}


def test_streams_may_lie_in_folders_below_in_any_order(repository: Repository, clock: FakeClock) -> None:
    files = {"/ledger/a/b/1": b"1", "/ledger/c/2": b"2", "/ledger/a/3": b"3", "/ledger/4": b"4", "/ledger/a/b/5": b"5"}
    steps = [file(path, [content], at=clock()) for path, content in files.items()]
    report = save(repository, Given(steps, clock))
    assert read_back(repository, report.snapshot_id) == files
    clock.advance(hours=1)
    assert save(repository, Given(steps, clock)).files_new == 0


def test_pages_that_did_not_change_are_not_stored_again(repository: Repository, clock: FakeClock) -> None:
    save(repository, Given([file("/ledger/t", [NOISE], at=clock(), page_bytes=65_536)], clock))
    changed = bytearray(NOISE)
    changed[3 << 20] ^= 1
    clock.advance(hours=1)
    report = save(repository, Given([file("/ledger/t", [bytes(changed)], at=clock(), page_bytes=65_536)], clock))
    assert 65_536 < report.bytes_added < 65_536 + 20_000, "one page, and the tree that names all pages"


def test_an_insertion_into_a_dump_is_stored_and_not_all_that_follows(repository: Repository, clock: FakeClock) -> None:
    save(repository, Given([file("/ledger/dump", [NOISE], at=clock())], clock))
    longer = NOISE[: 1 << 20] + b"a new row" + NOISE[1 << 20 :]
    clock.advance(hours=1)
    report = save(repository, Given([file("/ledger/dump", [longer], at=clock())], clock))
    assert report.bytes_added <= MAX_BYTES


def test_pieces_are_the_stream(clock: FakeClock) -> None:
    for page_bytes in (0, 1, 1000, 1 << 20):
        for length in (1 << 20, 999, 12_345):
            content = NOISE[: 3000 if page_bytes == 1 else 3 << 20]
            stream = file("/a", parts(content, length), at=clock(), page_bytes=page_bytes)
            pieces = list(streams.cut(stream, Chunker(3)))
            assert b"".join(pieces) == content
            assert not page_bytes or {len(piece) for piece in pieces[:-1]} <= {page_bytes}


# ---- programs


def test_the_output_of_a_program_is_saved(repository: Repository, clock: FakeClock) -> None:
    report = save(repository, shell("echo one; echo noise >&2; echo two", clock))
    assert read_back(repository, report.snapshot_id) == {"/ledger/dump.sql": b"one\ntwo\n"}
    assert report.kind == "full"


def test_a_dump_that_fails_half_way_never_becomes_a_snapshot(repository: Repository, clock: FakeClock) -> None:
    script = "head -c 20000000 /dev/zero; echo 'connection lost' >&2; exit 3"
    with pytest.raises(SourceError, match=r"save the output of sh: sh ended with status 3: connection lost"):
        save(repository, shell(script, clock))
    assert not list(repository.storage.list(FileKind.SNAPSHOT))


def test_a_program_that_is_killed_fails_the_run(repository: Repository, clock: FakeClock) -> None:
    with pytest.raises(SourceError, match="sh was killed by signal 9"):
        save(repository, shell("echo begun; kill -9 $$", clock))


def test_a_program_that_is_not_there_is_named_with_a_hint(repository: Repository, clock: FakeClock) -> None:
    with pytest.raises(SourceError, match="no-such-dump: no such file or directory") as caught:
        save(repository, CommandSource("ledger", clock, ("no-such-dump",), "out"))
    assert "installed" in (caught.value.hint or "")


def test_a_program_is_ended_when_the_run_is_stopped(repository: Repository, clock: FakeClock, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec cat /dev/zero"
    asked = iter([False] * 3)
    with pytest.raises(Interrupted):
        save(repository, shell(script, clock), stop=lambda: next(asked, True))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_error_in_the_middle_of_a_stream_is_the_runs_error(repository: Repository, clock: FakeClock) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise SourceError("the server went away")

    stream: Stream = file("/ledger/dump", broken(), at=clock())
    with pytest.raises(SourceError, match="the server went away"):
        save(repository, Given([stream], clock))
    assert not repository.snapshots()


def test_long_complaints_of_a_program_are_cut_to_their_end(clock: FakeClock) -> None:
    script = "for n in $(seq 1 5000); do echo line $n >&2; done; exit 1"
    with pytest.raises(SourceError) as caught:
        list(output_of(["sh", "-c", script], what="dump"))
    assert str(caught.value).endswith("line 4998 | line 4999 | line 5000")
    assert len(str(caught.value)) < 300
