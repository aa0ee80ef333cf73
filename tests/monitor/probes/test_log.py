"""Logs: each line counts once, whatever rotates, whoever restarts, and however long the line is."""

import bz2
import gzip
import lzma
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor.memory import Memories
from monitor.probes.log import LineRules, LogProbe
from monitor.probes.log_files import LONGEST_LINE_BYTES, LogFiles
from monitor.result import Measurement, NoData, ProbeError
from tests.servers.journal import write_journal

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Write = Callable[..., None]


class Office:
    """A log in a folder, a check of it, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log" / "erp.log"
        self.path.parent.mkdir()
        self.path.write_text("ERROR of yesterday\n", encoding="utf-8")
        self.state = folder / "state"
        self.now = NOW
        self.restart()

    def restart(self, **about: Any) -> None:
        settings: dict[str, Any] = {
            "rules": LineRules(["ERROR"], ["harmless"]), "files": [str(self.path)], "window": timedelta(minutes=5),
            "timeout_seconds": 20, "memories": Memories(self.state), "clock": lambda: self.now,
        }  # fmt: skip
        self.probe = LogProbe("erp", **(settings | about))

    def write(self, *lines: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def look(self) -> Measurement:
        self.now += timedelta(seconds=30)
        return self.probe.measure()

    def matches(self) -> float:
        return self.look().readings[0].value


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_what_was_there_before_the_check_is_not_looked_at(office: Office) -> None:
    assert office.matches() == 0


def test_lines_that_match_count_and_the_last_of_them_are_told(office: Office) -> None:
    office.look()
    office.write("all well", "ERROR 1", "ERROR but harmless", "ERROR 2", "ERROR 3", "ERROR 4", "bye")
    measured = office.look()
    assert measured.readings[0].value == 4
    assert measured.readings[1].value == pytest.approx(7 / 30)
    assert measured.notes == {"": "ERROR 2 | ERROR 3 | ERROR 4"}


def test_matches_count_for_the_window_and_are_then_forgotten(office: Office) -> None:
    office.look()
    office.write("ERROR 1")
    assert office.matches() == 1
    office.now += timedelta(minutes=4)
    office.write("ERROR 2")
    assert office.matches() == 2
    office.now += timedelta(minutes=1)
    assert office.matches() == 1
    office.now += timedelta(minutes=5)
    assert office.look().notes == {}


def test_a_restart_neither_loses_a_line_nor_counts_one_twice(office: Office) -> None:
    office.look()
    office.write("ERROR 1")
    office.look()
    office.restart()
    office.write("ERROR 2")
    assert office.matches() == 2
    office.restart()
    assert office.matches() == 2


def test_a_line_counts_when_it_is_whole(office: Office) -> None:
    office.look()
    with office.path.open("a", encoding="utf-8") as file:
        file.write("ERR")
        file.flush()
        assert office.matches() == 0
        file.write("OR at last\n")
    assert office.matches() == 1


def rename(path: Path) -> None:
    path.rename(f"{path}.1")


def compress(opener: Any, suffix: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        with opener(f"{path}.1{suffix}", "wb") as file:
            file.write(path.read_bytes())
        path.unlink()

    return act


def copy_and_truncate(path: Path) -> None:
    shutil.copy(path, f"{path}.1")
    os.truncate(path, 0)


ROTATIONS = {
    "renamed": rename, "gzip": compress(gzip.open, ".gz"), "bzip2": compress(bz2.open, ".bz2"),
    "xz": compress(lzma.open, ".xz"), "copytruncate": copy_and_truncate,
}  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_rotation_between_two_looks_loses_nothing(office: Office, rotation: str, restarted: bool) -> None:
    office.look()
    office.write("ERROR 1")
    assert office.matches() == 1
    office.write("ERROR 2 just before")
    ROTATIONS[rotation](office.path)
    office.write("ERROR 3 just after")
    if restarted:
        office.restart()
    measured = office.look()
    assert measured.readings[0].value == 3
    assert measured.notes == {"": "ERROR 1 | ERROR 2 just before | ERROR 3 just after"}
    assert office.matches() == 3


def test_a_truncated_file_that_has_outgrown_its_old_size_is_known_to_be_a_new_one(office: Office) -> None:
    office.look()
    copy_and_truncate(office.path)
    office.write("ERROR in a fresh file, which is longer than the old one was")
    assert office.matches() == 1


def test_a_file_that_appears_later_is_read_from_its_beginning(office: Office, tmp_path: Path) -> None:
    office.restart(files=[str(tmp_path / "log" / "*.log")])
    office.look()
    (tmp_path / "log" / "new.log").write_text("ERROR at once\n", encoding="utf-8")
    measured = office.look()
    assert measured.readings[0].value == 1
    assert measured.notes == {"": "new.log: ERROR at once"}


def test_a_file_that_is_gone_for_a_moment_is_gone_on_with(office: Office) -> None:
    office.look()
    away = office.path.with_suffix(".away")
    office.path.rename(away)
    with pytest.raises(ProbeError, match="there is no such file"):
        office.look()
    away.rename(office.path)
    office.write("ERROR 1")
    assert office.matches() == 1


def test_a_hundred_megabytes_in_one_line_are_cut_and_read_in_bounded_memory(office: Office) -> None:
    office.look()
    with office.path.open("ab") as file:
        file.write(b"ERROR ")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
    assert office.matches() == 1
    with office.path.open("ab") as file:
        file.write(b"ERROR is still the same line\nERROR next\n")
    assert office.matches() == 2
    files = LogFiles([str(office.path)], {})
    began = time.process_time()
    longest = max(len(line) for _, line in files.lines(time.monotonic() + 30))
    assert longest == LONGEST_LINE_BYTES
    assert time.process_time() - began < 5


def test_invalid_utf8_and_null_bytes_are_read_as_what_they_can_be(office: Office) -> None:
    office.look()
    with office.path.open("ab") as file:
        file.write(b"\xff\xfe ERROR \x80\x00 here\r\n")
    measured = office.look()
    assert measured.readings[0].value == 1
    assert "ERROR" in measured.notes[""]


def test_what_is_left_at_the_deadline_is_read_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("", encoding="utf-8")
    files = LogFiles([str(path)])
    list(files.lines(time.monotonic() + 1))
    path.write_bytes(b"line\n" * 100_000)
    assert len(list(files.lines(time.monotonic() - 1))) == 0
    first = 0
    for _ in files.lines(time.monotonic() + 10):
        first += 1
        if first == 10:
            break
    rest = LogFiles([str(path)], files.memory)
    assert first + len(list(rest.lines(time.monotonic() + 10))) == 100_000


def test_a_file_that_cannot_be_read_is_an_error_and_one_of_several_a_note(office: Office, tmp_path: Path) -> None:
    (tmp_path / "log" / "dir.log").mkdir()
    office.restart(files=[str(tmp_path / "log" / "dir.log")])
    with pytest.raises(ProbeError, match="is a directory"):
        office.look()
    office.restart(files=[str(tmp_path / "log" / "*.log")])
    assert "dir.log: is a directory" in office.look().notes[""]


def test_a_damaged_memory_begins_afresh(office: Office) -> None:
    office.look()
    for path in office.state.glob("*.json"):
        path.write_bytes(b"\0\0\0")
    office.restart()
    office.write("ERROR before")
    assert office.matches() == 0
    office.write("ERROR 1")
    assert office.matches() == 1
    assert list(office.state.glob("*.corrupt"))


def test_the_journal_is_followed_by_its_cursor(office: Office, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    nginx = {"_SYSTEMD_UNIT": "nginx.service", "SYSLOG_IDENTIFIER": "nginx"}
    write_journal(folder / "a.journal", [{"MESSAGE": "ERROR of yesterday", **nginx}])
    about: dict[str, Any] = {
        "files": (), "journal": ["_SYSTEMD_UNIT=nginx.service"], "journal_where": [f"--directory={folder}"],
    }  # fmt: skip
    office.restart(**about)
    assert office.matches() == 0
    write_journal(
        folder / "a.journal",
        [{"MESSAGE": "ERROR 1", **nginx}, {"MESSAGE": "ERROR elsewhere", "_SYSTEMD_UNIT": "other.service"},
         {"MESSAGE": b"ERROR \xff\xfe bytes", **nginx}],
        first=2,
    )  # fmt: skip
    measured = office.look()
    assert measured.readings[0].value == 2
    assert measured.notes[""].startswith("nginx: ERROR 1 | nginx: ERROR ")
    office.restart(**about)
    assert office.matches() == 2


def test_a_machine_without_a_journal_has_nothing_to_look_at(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    office.restart(files=(), journal=[])
    with pytest.raises(NoData, match="no systemd journal"):
        office.look()
