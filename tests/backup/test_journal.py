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
    anchor = journal.path.with_suffix(".anchor")
    whole, anchored = journal.path.read_bytes(), anchor.read_bytes()
    journal.append({"lost": True}, now=NOW)
    journal.path.write_bytes(journal.path.read_bytes()[: len(whole) + kept])
    anchor.write_bytes(anchored)
    assert (journal.verify().lines, journal.verify().torn) == (4, 1)
    assert journal.append({"next": True}, now=NOW) == 5
    check = journal.verify()
    assert (check.lines, check.broken_line, check.torn) == (5, None, 1)


def test_a_last_line_that_lacks_only_its_newline_counts(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes().rstrip(b"\n"))
    assert journal.append({"next": True}, now=NOW) == 5
    assert journal.verify().lines == 5


@pytest.mark.parametrize("left", [0, 1, 3])
def test_lines_that_were_cut_off_the_end_are_missed(journal: Journal, left: int) -> None:
    rows = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(rows[:left]))
    check = journal.verify()
    assert (check.lines, check.broken_line) == (left, left + 1)
    assert check.problem
    assert "the end was cut off: 4 lines were written" in check.problem


def test_lines_that_were_cut_off_stay_missed_when_others_follow(journal: Journal) -> None:
    rows = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(rows[:2]))
    for number in range(6):
        journal.append({"later": number}, now=NOW)
        problem = journal.verify().problem
        assert problem
        assert ("the end was cut off" if number == 0 else "line 4 is not the one that was written") in problem


def test_a_writer_that_died_between_line_and_anchor_is_no_loss(journal: Journal) -> None:
    anchor = journal.path.with_suffix(".anchor")
    before = anchor.read_bytes()
    journal.append({"number": 5}, now=NOW)
    anchor.write_bytes(before)
    assert journal.verify().problem is None
    journal.append({"number": 6}, now=NOW)
    assert journal.verify().problem is None
    assert json.loads(anchor.read_bytes()) == {"line": 6, "hash": journal.verify().last_hash}


def test_a_journal_from_before_there_were_anchors_gets_one(journal: Journal) -> None:
    anchor = journal.path.with_suffix(".anchor")
    anchor.unlink()
    assert journal.verify().problem is None
    journal.append({"number": 5}, now=NOW)
    assert json.loads(anchor.read_bytes())["line"] == 5
    assert anchor.stat().st_mode & 0o777 == 0o600


def test_an_anchor_that_cannot_be_read_is_told(journal: Journal) -> None:
    journal.path.with_suffix(".anchor").write_text("{")
    with pytest.raises(BackupError, match=r"drills\.anchor"):
        journal.verify()
    assert journal.append({"number": 5}, now=NOW) == 5


def test_a_chain_made_anew_is_found_by_a_hash_that_was_noted_elsewhere(journal: Journal) -> None:
    noted = journal.verify().last_hash
    assert journal.verify([noted]).problem is None
    for path in (journal.path, journal.path.with_suffix(".anchor")):
        path.unlink()
    journal.append({"job": "docs", "verdict": "PASSED"}, now=NOW)
    assert journal.verify().problem is None
    problem = journal.verify([noted]).problem
    assert problem
    assert noted in problem


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
    assert json.loads(path.with_suffix(".anchor").read_bytes()) == {"line": 60, "hash": check.last_hash}


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="could not write the drill journal") as error:
        Journal(tmp_path / "no folder" / "drills.jsonl").append({}, now=NOW)
    assert error.value.hint


def test_only_its_owner_may_read_it(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o600
