import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.catalog import Catalog, CatalogError, Request, SnapshotRow
from backup.past_drills import PastDrill, PastDrills
from config.said import Said, numbered

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRILL = PastDrill(
    0, "docs", "local", "abc", "restore", "PASSED", NOW, NOW + HOUR, 12.5, 60.0, 3, 1000, "all back"
)  # fmt: skip
SNAPSHOT = SnapshotRow("local", "abc", "docs", "full", NOW, 3, 1000, 900, partial=False)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "backup.db")


def attempt(catalog: Catalog, outcome: str, *, at: datetime, kind: str = "full") -> int:
    run = catalog.start_run(kind, "docs", "local", now=at)
    catalog.end_run(run, outcome, f"it {outcome}", now=at + timedelta(minutes=5), figures={"files_new": 1})
    return run


def test_a_run_is_known_from_its_start_to_its_end(catalog: Catalog) -> None:
    run = catalog.start_run("full", "docs", "local", now=NOW, pid=7)
    (row,) = catalog.running_runs()
    assert (row.id, row.outcome, row.started_at, row.ended_at, row.pid) == (run, "running", NOW, None, 7)
    catalog.set_pid(run, 8)
    catalog.end_run(run, "partial", "one unreadable", now=NOW + HOUR, snapshot="abc", figures={"files_unreadable": 1})
    assert catalog.running_runs() == []
    row = catalog.run(run)
    assert (row.outcome, row.message, row.snapshot, row.pid) == ("partial", "one unreadable", "abc", 8)
    assert (row.ended_at, row.figures) == (NOW + HOUR, {"files_unreadable": 1})
    assert catalog.runs(10) == catalog.last_runs() == [row]
    with pytest.raises(KeyError):
        catalog.run(run + 1)


def test_a_standing_counts_outcomes_and_what_fell_short_since_the_last_success(catalog: Catalog) -> None:
    for hours, outcome in enumerate(["failed", "succeeded", "failed", "interrupted", "failed", "inconclusive"]):
        attempt(catalog, outcome, at=NOW + hours * HOUR)
    standing = catalog.standings()["full", "docs", "local"]
    assert (standing.runs, standing.failures, standing.partial, standing.inconclusive) == (6, 3, 0, 1)
    assert standing.last_success_at == NOW + HOUR
    assert standing.last_outcome == "inconclusive"
    assert standing.failures_in_row == 4


def test_a_run_dated_by_a_clock_that_was_ahead_is_not_the_last_success_for_ever(catalog: Catalog) -> None:
    attempt(catalog, "succeeded", at=NOW + 4000 * 24 * HOUR)
    attempt(catalog, "succeeded", at=NOW)
    assert catalog.standings()["full", "docs", "local"].last_success_at == NOW
    catalog.configure(["docs"], NOW + HOUR)
    catalog.configure(["docs"], NOW)
    catalog.configure(["docs"], NOW + HOUR)
    assert catalog.configured_at()["docs"] == NOW


def test_runs_of_other_duties_stand_for_themselves(catalog: Catalog) -> None:
    attempt(catalog, "succeeded", at=NOW)
    attempt(catalog, "failed", at=NOW, kind="incremental")
    standings = catalog.standings()
    assert standings["full", "docs", "local"].failures == 0
    assert standings["incremental", "docs", "local"].last_success_at is None


def test_drills_prove_snapshots_unless_a_fault_was_planted_or_they_failed(catalog: Catalog) -> None:
    run = attempt(catalog, "passed", at=NOW, kind="drill")
    drills = PastDrills(catalog)
    drills.add(run, DRILL)
    drills.add(run, replace(DRILL, snapshot="bad", verdict="FAILED", ended_at=NOW + 2 * HOUR))
    drills.add(run, replace(DRILL, snapshot="fake", ended_at=NOW + 3 * HOUR), planted="flipped-bit")
    assert drills.proven() == {("local", "abc"): NOW + HOUR}
    assert [row.snapshot for row in drills.latest(5)] == ["bad", "abc"]
    assert drills.last_of_jobs()["docs"].snapshot == "bad"
    assert replace(drills.latest(5)[1], id=0) == DRILL


def test_what_a_message_was_made_of_is_kept_for_other_languages(catalog: Catalog) -> None:
    for table in ("runs", "drills"):
        catalog.change((f"ALTER TABLE {table} DROP COLUMN said", [()]))  # as earlier versions left it
    catalog.close()
    message = Said("%(files)s back", files=numbered(3, "%(count)s file", "%(count)s files"))
    with Catalog(catalog.path) as reopened:
        run = attempt(reopened, "passed", at=NOW, kind="drill")
        reopened.end_run(run, "passed", message, now=NOW)
        PastDrills(reopened).add(run, replace(DRILL, message=message))
    with Catalog(catalog.path, to_read=True) as read:
        for kept in (read.run(run).message, PastDrills(read).latest(1)[0].message):
            assert kept == "3 files back"
            assert isinstance(kept, Said)
            assert kept.values["files"].text == "%(count)s files"


def test_snapshots_are_replaced_by_what_was_last_seen(catalog: Catalog) -> None:
    newer = replace(SNAPSHOT, id="def", taken_at=NOW + HOUR, partial=True)
    elsewhere = replace(SNAPSHOT, repository="offsite")
    catalog.replace_snapshots("local", [SNAPSHOT, newer])
    catalog.replace_snapshots("offsite", [elsewhere])
    assert catalog.snapshots()[0] == newer
    catalog.replace_snapshots("local", [newer])
    assert catalog.snapshots() == [newer, elsewhere]


def test_a_repository_keeps_its_findings_when_it_is_looked_at_again(catalog: Catalog) -> None:
    catalog.record_verify("local", "pack 12 is damaged", now=NOW)
    catalog.look_at_repository("local", now=NOW + HOUR, size_bytes=5, free_bytes=6)
    row = catalog.repositories()["local"]
    assert (row.problem, row.verified_at, row.looked_at) == ("pack 12 is damaged", NOW, NOW + HOUR)
    assert (row.size_bytes, row.free_bytes) == (5, 6)
    catalog.record_verify("local", None, now=NOW + HOUR)
    assert catalog.repositories()["local"].problem is None
    assert catalog.repositories()["local"].size_bytes == 5


def test_a_job_is_configured_since_it_was_first_seen(catalog: Catalog) -> None:
    catalog.configure(["docs"], NOW)
    catalog.configure(["docs", "mail"], NOW + HOUR)
    assert catalog.configured_at() == {"docs": NOW, "mail": NOW + HOUR}


def test_a_request_is_taken_once(catalog: Catalog) -> None:
    catalog.request("full", "docs", "local", now=NOW)
    assert catalog.take_requests() == [Request("full", "docs", "local")]
    assert catalog.take_requests() == []


def test_changes_of_other_processes_are_noticed_and_own_ones_are_not(catalog: Catalog) -> None:
    assert not catalog.changed()
    catalog.configure(["docs"], NOW)
    assert not catalog.changed()
    with Catalog(catalog.path) as other:
        other.configure(["mail"], NOW)
    assert catalog.changed()
    assert not catalog.changed()


def test_what_was_written_is_there_after_reopening(catalog: Catalog) -> None:
    run = attempt(catalog, "succeeded", at=NOW)
    catalog.close()
    with Catalog(catalog.path) as again:
        assert again.run(run).outcome == "succeeded"
        assert again.problem is None


def test_several_processes_write_at_once(catalog: Catalog) -> None:
    code = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path; from backup.catalog import Catalog\n"
        "catalog = Catalog(Path(sys.argv[1])); now = datetime(2026, 3, 1, tzinfo=UTC)\n"
        "for n in range(40):\n"
        "    catalog.end_run(catalog.start_run('full', 'docs', 'local', now=now), 'failed', '', now=now)\n"
    )
    command = [sys.executable, "-c", code, str(catalog.path)]
    children = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert catalog.standings()["full", "docs", "local"].failures == 120


@pytest.mark.parametrize("damage", ["header", "page"])
def test_a_damaged_catalog_is_set_aside_and_started_afresh(catalog: Catalog, damage: str) -> None:
    for hours in range(300):
        attempt(catalog, "succeeded", at=NOW + hours * HOUR)
    catalog.close()
    content = bytearray(catalog.path.read_bytes())
    if damage == "header":
        content[:100] = b"x" * 100
    else:
        content[4096 * 3 : 4096 * 5] = b"x" * 8192
    catalog.path.write_bytes(content)
    with Catalog(catalog.path) as again:
        assert again.standings() == {}
        assert again.problem is not None
        assert "backup.db.damaged-1" in again.problem
        attempt(again, "succeeded", at=NOW)
    aside = catalog.path.with_name("backup.db.damaged-1")
    assert aside.read_bytes() == bytes(content)


def test_a_catalog_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as error:
        Catalog(tmp_path / "no such folder" / "backup.db")
    assert error.value.hint


def test_only_its_owner_may_read_it(catalog: Catalog) -> None:
    assert catalog.path.stat().st_mode & 0o777 == 0o600


def test_importing_the_catalog_loads_nothing_heavy() -> None:
    code = "import sys, backup.catalog; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    heavy = {"cryptography", "zstandard", "boto3", "fastcdc", "orjson", "pydantic"}
    assert not heavy & set(done.stdout.split())
