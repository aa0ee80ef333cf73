"""Drills that let the application judge, shown on SQLite: what bytes cannot show is found and named."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backup.applications.sqlite import SqliteApplication
from backup.archiver import backup
from backup.drills.assertions import Assertion
from backup.drills.drill import run_drill
from backup.drills.levels import Level
from backup.drills.report import DrillReport, DrillWishes, Verdict
from backup.repository import Repository
from backup.sources.sqlite import SqliteSource
from backup.storage.local import LocalStorage
from tests.backup.repositories import PASSWORD, FakeClock, create


class Office:
    """A ledger of two accounts and three thousand invoices, saved once."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        self.root, self.clock = root, clock
        self.repository: Repository = create(LocalStorage(root / "repository"), clock)
        self.ledger = root / "ledger.db"
        with closing(sqlite3.connect(self.ledger)) as db, db:
            db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
            db.execute("CREATE TABLE invoice (number TEXT PRIMARY KEY, created_at TEXT, note TEXT)")
            db.executemany("INSERT INTO account VALUES (?, ?)", [(1, 700), (2, 300)])
            rows = ((f"INV-{n:05}", "2026-03-01 11:30:00", "x" * 60) for n in range(3000))
            db.executemany("INSERT INTO invoice VALUES (?, ?, ?)", rows)
        self.save()

    def save(self) -> None:
        source = SqliteSource("ledger", self.clock, self.ledger, self.root / "work", newest=("invoice.number",))
        backup(self.repository, source, job="ledger", host="h", clock=self.clock, workers=0)
        self.clock.advance(minutes=20)

    def drill(self, **wishes: object) -> DrillReport:
        usual: dict[str, object] = {
            "job": "ledger", "workers": 0, "level": Level.APPLICATION, "applications": {"/ledger": SqliteApplication()}
        }  # fmt: skip
        asked = DrillWishes(scratch=self.root / "scratch", clock=self.clock, **usual | wishes)  # type: ignore[arg-type]
        report = run_drill(LocalStorage(self.root / "repository"), PASSWORD, asked)
        assert list((self.root / "scratch").iterdir()) == []
        return report


@pytest.fixture
def office(tmp_path: Path, clock: FakeClock) -> Office:
    return Office(tmp_path, clock)


def test_a_database_that_answers_as_it_did_passes(office: Office) -> None:
    balanced = Assertion(sql="SELECT sum(balance) FROM account", equals=1000.0)
    many = Assertion(sql="SELECT count(*) FROM invoice", min=3000.0)
    report = office.drill(assertions=[balanced, many], rto_objective=timedelta(minutes=1))
    assert report.verdict is Verdict.PASSED
    assert "2 tables, 3002 rows, none missing" in report.proofs[0]
    assert report.proofs[1:] == (f"holds: {balanced}", f"holds: {many}")
    assert (report.rto_met, report.rpo_seconds) == (True, 20 * 60)


def test_an_assertion_that_does_not_hold_fails_the_drill_and_is_named(office: Office) -> None:
    report = office.drill(assertions=[Assertion(sql="SELECT sum(balance) FROM account", equals=999.0)])
    assert report.verdict is Verdict.FAILED
    assert "SELECT sum(balance) FROM account is exactly 999.0: gave 1000" in report.message
    report = office.drill(assertions=[Assertion(sql="SELECT nonsense", min=1.0)])
    assert (report.verdict, "nonsense" in report.message) == (Verdict.FAILED, True)


@pytest.mark.parametrize("fault", ["dropped-table", "fewer-rows", "truncated-dump", "flipped-bit", "swapped-blob"])
def test_damage_is_found_by_name_at_the_level_of_the_application(office: Office, fault: str) -> None:
    report = office.drill(plant=fault)
    assert (report.verdict, report.plant_found) == (Verdict.FAILED, True), report.message
    if fault in ("dropped-table", "fewer-rows"):
        assert "table invoice" in report.message
    assert office.drill().verdict is Verdict.PASSED


def test_rows_that_were_lost_before_the_backup_are_for_an_assertion_to_find(office: Office) -> None:
    with closing(sqlite3.connect(office.ledger)) as db, db:
        db.execute("DELETE FROM invoice WHERE number > 'INV-00010'")
    office.save()
    assert office.drill().verdict is Verdict.PASSED, "it came back just as it was saved"
    report = office.drill(assertions=[Assertion(sql="SELECT count(*) FROM invoice", min=1000.0)])
    assert (report.verdict, "gave 11" in report.message) == (Verdict.FAILED, True)


def test_what_this_machine_lacks_is_inconclusive(office: Office) -> None:
    class Absent(SqliteApplication):
        missing = "no server of version 15 on the PATH"

    report = office.drill(applications={"/ledger": Absent()})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "no server of version 15" in report.message


def test_a_moment_is_beyond_a_database_without_a_log(office: Office) -> None:
    report = office.drill(level=Level.POINT_IN_TIME, until="random")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "no log records follow this snapshot" in report.message
