"""Drills as a job's settings ask for them: how far, of which snapshot, within what, and what must hold."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.catalog import Catalog
from backup.journal import Journal
from backup.lock_looks import LockLook, lock_looks
from backup.owner import Owner
from backup.past_drills import PastDrill, PastDrills
from backup.repository import Repository
from config.loading import load
from config.problems import ConfigProblems
from keepwatch import proving, saving
from keepwatch.orders import Ending, Order
from keepwatch.repositories import open_repository
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from tests.keepwatch.guarded import without_waiting

SETTINGS = """
[daemon]
state_dir = "{root}/state"
timezone = "Europe/Berlin"
[repositories.local]
url = "{root}/local"
password_file = "{root}/password"
verify = "daily 03:30"
read_all_within = "30d"
[jobs.documents]
source = {{ type = "files", paths = ["{root}/documents"] }}
repositories = ["local"]
incremental = "every 1h"
[jobs.documents.drill]
schedule = "daily 04:30"
{drill}
"""


class Office:
    """One job whose drill is set by each test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        (root / "password").write_text("correct horse\n")
        (root / "password").chmod(0o600)
        (root / "documents").mkdir()
        self.state = StateDirectory(root / "state")
        self.set("")

    def set(self, drill: str) -> None:
        self.config = self.root / "keepwatch.toml"
        self.config.write_text(SETTINGS.format(root=self.root, drill=drill))

    def run(self, kind: str = "drill", **order: object) -> Ending:
        self.now += timedelta(minutes=1)
        return carry_out(
            Order(0, kind, "documents", "local", **order), load(self.config, environ={}), self.state,  # type: ignore[arg-type]
            clock=lambda: self.now, progress=lambda _: None, stop=threading.Event(),
        )  # fmt: skip

    def save(self, text: str) -> str:
        (self.root / "documents" / "diary").write_text(text)
        ending = self.run("incremental")
        assert ending.outcome == "succeeded", ending.message
        return ending.snapshot

    def repository(self, clock: Callable[[], datetime]) -> Repository:
        settings = load(self.config, environ={}).repositories["local"]
        return open_repository(settings, clock=clock, environ={})

    def lock_look(self) -> LockLook:
        with Catalog(self.state.backup_db) as catalog:
            return lock_looks(catalog)["local"]

    def last(self) -> PastDrill:
        with Catalog(self.state.backup_db) as catalog:
            return PastDrills(catalog).latest(1)[0]


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    without_waiting(monkeypatch)
    return Office(tmp_path)


def test_snapshots_are_drilled_by_turns(office: Office) -> None:
    first, _, newest = office.save("one"), office.save("two"), office.save("three")
    office.set('snapshots = ["latest", "oldest"]\nlevel = "metadata"')
    assert [office.run().snapshot for _ in range(4)] == [newest, first, newest, first]
    assert office.run(snapshot="latest").snapshot == newest, "who asks for one gets that one"


def test_a_shallow_drill_passes_and_does_not_prove_a_snapshot(office: Office) -> None:
    snapshot = office.save("one")
    office.set('level = "sample"')
    assert office.run().outcome == "passed"
    assert office.last().level == "sample"
    with Catalog(office.state.backup_db) as catalog:
        assert PastDrills(catalog).proven() == {}
    assert office.run(level="restore").outcome == "passed"
    with Catalog(office.state.backup_db) as catalog:
        assert list(PastDrills(catalog).proven()) == [("local", snapshot)]


def test_what_a_drill_reads_is_remembered_for_the_next_one(office: Office) -> None:
    office.save("one")
    office.set('level = "read"')
    assert office.run().outcome == "passed"
    with Catalog(office.state.backup_db) as catalog:
        rows = [row[0] for row in catalog._read("SELECT verified_at FROM packs")]
    assert rows
    assert any(rows)


def test_a_run_tells_how_old_the_oldest_lock_of_others_is_also_when_it_is_kept_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "LOCK_WAIT", timedelta(0))
    office.save("one")
    assert office.lock_look().oldest_at is None, "its own does not count"
    elsewhere = Owner("elsewhere", "ann", 7, 0, 0)
    renewed_at = office.now - timedelta(minutes=2)
    table = office.repository(clock=lambda: renewed_at).lock_table()
    held = table.write(elsewhere, exclusive=True)
    assert office.run("incremental").outcome == "failed"
    assert (office.lock_look().oldest_at, office.lock_look().looked_at) == (renewed_at, office.now)
    table.remove(held.name)
    office.save("two")
    assert office.lock_look().oldest_at is None


def test_assertions_of_the_settings_decide(office: Office) -> None:
    office.save("balanced")
    command = f"grep -q balanced {str(office.root)[1:]}/documents/diary"
    office.set(f'level = "application"\nassert = [{{ run = "{command}" }}]')
    ending = office.run()
    assert (ending.outcome, "holds: grep" in ending.message) == ("passed", True)
    office.save("not so")
    office.set(f'level = "application"\nassert = [{{ run = "{command.replace("balanced", "even")}" }}]')
    ending = office.run()
    assert (ending.outcome, ending.exit_code) == ("failed", 4)
    assert "exit status 1" in ending.message


def test_the_journal_has_what_it_takes_to_repeat_a_drill(office: Office) -> None:
    office.save("one")
    office.set('level = "sample"')
    office.run(seed=7)
    record = list(Journal(office.state.journal).lines())[-1].record
    assert (record["seed"], record["level"], record["chosen"]) == (7, "sample", "latest")


def test_a_stale_source_fails_the_drill(office: Office) -> None:
    office.save("for ever the same")
    office.now += timedelta(days=8)
    office.run("incremental")
    office.set('stale_after = "7d"')
    assert "has not changed for 8d" in office.run().message


def test_a_drill_waits_for_a_calm_machine_and_says_when_it_never_was(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.save("one")
    office.set('load_limit = 0.5\nload_wait = "0s"')
    monkeypatch.setattr(proving.os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    ending = office.run()
    assert (ending.outcome, ending.exit_code) == ("inconclusive", 3)
    assert "the load stayed above 0.5 per core" in ending.message
    monkeypatch.setattr(proving.os, "getloadavg", lambda: (0.0, 99.0, 99.0))
    assert office.run().outcome == "passed"


def test_scratch_its_budget_and_the_time_limit_come_from_the_settings(office: Office) -> None:
    office.save("one")
    office.set(f'scratch = "{office.root}/elsewhere"')
    assert office.run(keep_scratch=True).message.count(f"{office.root}/elsewhere/kept-") == 1
    office.set('scratch_budget = "10 B"')
    assert "the budget of scratch is 10 B" in office.run().message
    office.set('timeout = "0s"')
    assert office.run().outcome == "inconclusive"


@pytest.mark.parametrize(
    ("drill", "problem"),
    [
        ('assert = [{ sql = "select 1", run = "true" }]', "exactly one of sql and run"),
        ('assert = [{ run = "true", min = 1 }]', "a command tells by its exit status"),
        ('level = "everything"', "must be 'metadata' or 'read' or"),
        ("snapshots = []", "must not be empty"),
    ],
)
def test_settings_that_make_no_sense_are_told(office: Office, drill: str, problem: str) -> None:
    office.set(drill)
    with pytest.raises(ConfigProblems, match=problem):
        load(office.config, environ={})


BOUNDS: list[tuple[str, Callable[[object], bool]]] = [
    ('min = 1, max = "1h"', lambda made: made.min == 1 and made.max == timedelta(hours=1)),  # type: ignore[attr-defined]
    ('equals = "INV-7"', lambda made: made.equals == "INV-7"),  # type: ignore[attr-defined]
    ("max = 0.5", lambda made: made.max == 0.5),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("bounds", "is_so"), BOUNDS)
def test_bounds_are_numbers_time_spans_or_text(office: Office, bounds: str, is_so: Callable[[object], bool]) -> None:
    office.set(f'assert = [{{ sql = "select 1", {bounds} }}]')
    drill = load(office.config, environ={}).jobs["documents"].drill
    assert drill is not None
    assert is_so(proving._assertion(drill.assert_[0]))
