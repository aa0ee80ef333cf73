import json
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.errors import BackupError
from backup.journal import Journal

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "drills.jsonl")
    for number in range(1, 5):
        assert journal.append({"job": "docs", "verdict": "PASSED", "number": number}, now=NOW) == number
    return journal


def rewrite(journal: Journal, change: str, line: int) -> None:
    lines = journal.path.read_bytes().splitlines(keepends=True)
    if change == "edit":
        lines[line - 1] = lines[line - 1].replace(b"PASSED", b"FAILED")
    elif change == "remove":
        del lines[line - 1]
    elif change == "repeat":
        lines.insert(line - 1, lines[line - 1])
    elif change == "swap":
        lines[line - 1], lines[line] = lines[line], lines[line - 1]
    else:
        lines[line - 1] = b"garbage\n"
    journal.path.write_bytes(b"".join(lines))


def test_a_journal_keeps_what_was_recorded_and_its_chain_holds(journal: Journal) -> None:
    check = journal.verify()
    assert (check.lines, check.broken_line, check.problem, check.torn) == (4, None, None, 0)
    assert [line.record["number"] for line in journal.lines()] == [1, 2, 3, 4]
    assert [line.at for line in journal.lines()] == ["2026-03-01T12:00:00Z"] * 4
    assert check.last_hash == list(journal.lines())[-1].hash


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "none")
    assert journal.verify().lines == 0
    assert list(journal.lines()) == []


@pytest.mark.parametrize(
    ("change", "line", "broken"),
    [
        ("edit", 1, 1), ("edit", 3, 3), ("edit", 4, 4), ("remove", 1, 1), ("remove", 2, 2), ("repeat", 2, 3),
        ("swap", 2, 2), ("garbage", 2, 2),
    ],
)  # fmt: skip
def test_a_changed_journal_is_found_out_at_the_first_broken_line(
    journal: Journal, change: str, line: int, broken: int
) -> None:
    rewrite(journal, change, line)
    check = journal.verify()
    assert check.broken_line == broken
    assert check.problem


def test_a_changed_record_whose_hash_was_made_to_fit_breaks_the_next_line(journal: Journal) -> None:
    lines = journal.path.read_bytes().splitlines()
    entry = next(journal.lines())
    document = json.loads(lines[0])
    document["record"] = forged = {**entry.record, "verdict": "FAILED"}
    document["hash"] = type(entry)(entry.line, entry.at, entry.before, forged, "").expected_hash()
    journal.path.write_bytes(b"\n".join([json.dumps(document, sort_keys=True).encode(), *lines[1:]]) + b"\n")
    assert journal.verify().broken_line == 2


@pytest.mark.parametrize("kept", [1, 20, 100])
def test_a_line_that_a_dying_writer_tore_is_survived(journal: Journal, kept: int) -> None:
    whole = journal.path.read_bytes()
    journal.append({"lost": True}, now=NOW)
    journal.path.write_bytes(journal.path.read_bytes()[: len(whole) + kept])
    assert (journal.verify().lines, journal.verify().torn) == (4, 1)
    assert journal.append({"next": True}, now=NOW) == 5
    check = journal.verify()
    assert (check.lines, check.broken_line, check.torn) == (5, None, 1)


def test_a_last_line_that_lacks_only_its_newline_counts(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes().rstrip(b"\n"))
    assert journal.append({"next": True}, now=NOW) == 5
    assert journal.verify().lines == 5


def _append_many(path: Path) -> None:
    for number in range(20):
        Journal(path).append({"number": number, "pid": os.getpid()}, now=NOW)


def test_several_processes_keep_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "drills.jsonl"
    writers = [multiprocessing.get_context("fork").Process(target=_append_many, args=(path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    check = Journal(path).verify()
    assert (check.lines, check.problem) == (60, None)


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="could not write the drill journal") as error:
        Journal(tmp_path / "no folder" / "drills.jsonl").append({}, now=NOW)
    assert error.value.hint


def test_only_its_owner_may_read_it(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o600
