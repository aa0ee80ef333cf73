"""One job, two repositories: the source is read once, and both hold the same moment."""

import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backup.catalog import Catalog, RunRow
from backup.repository import Repository
from backup.restore_plan import plan_restore
from backup.restorer import execute_restore
from backup.snapshot import Snapshot
from config.loading import load
from keepwatch.duties import duties_of
from keepwatch.metric_families import backup_families
from keepwatch.orders import Ending, Order
from keepwatch.repositories import open_repository
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from keepwatch.view import View
from keepwatch.viewing import Viewer, read_backups
from tests.keepwatch.guarded import without_waiting

SETTINGS = """
[daemon]
state_dir = "{root}/state"
[repositories.local]
url = "{root}/local"
password_file = "{root}/password"
[repositories.offsite]
url = "{root}/offsite"
password_file = "{root}/password"
[jobs.documents]
source = {{ type = "files", paths = ["{root}/documents"] }}
repositories = ["local", "offsite"]
incremental = "every 1h"
full = "sunday 02:00"
before = ["echo before >> {root}/hooks"]
after = ["echo after >> {root}/hooks"]
"""


class Office:
    """A folder whose invoice changes between any two runs, unless a test says otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.config = root / "keepwatch.toml"
        self.config.write_text(SETTINGS.format(root=root))
        (root / "password").write_text("correct horse\n")
        (root / "password").chmod(0o600)
        self.invoice = root / "documents" / "invoice.txt"
        self.invoice.parent.mkdir()
        self.state = StateDirectory(root / "state")

    def clock(self) -> datetime:
        return self.now

    def run(self, repository: str, kind: str = "incremental", *, content: str = "", after: float = 1) -> Ending:
        """Carry one run out, some minutes later, with this in the invoice."""
        self.now += timedelta(minutes=after)
        if content:
            self.invoice.write_text(content)
        return carry_out(
            Order(0, kind, "documents", repository), load(self.config, environ={}), self.state, clock=self.clock,
            progress=lambda _: None, stop=threading.Event(),
        )  # fmt: skip

    def open(self, name: str) -> Repository:
        return open_repository(load(self.config, environ={}).repositories[name], clock=self.clock)

    def newest(self, name: str) -> Snapshot:
        return max(self.open(name).snapshots(), key=lambda snapshot: snapshot.time)

    def content(self, name: str) -> str:
        """What the newest snapshot of a repository gives back."""
        repository, target = self.open(name), self.root / f"back-{name}-{self.now:%H%M%S}"
        repository.load_index()
        execute_restore(plan_restore(repository, self.newest(name), target), repository)
        return (target / self.invoice.relative_to("/")).read_text()

    def hooks(self) -> list[str]:
        return (self.root / "hooks").read_text().split()

    def last_run(self) -> RunRow:
        with Catalog(self.state.backup_db) as catalog:
            return catalog.runs(1)[0]

    def view(self) -> View:
        settings = load(self.config, environ={})
        with Catalog(self.state.backup_db) as catalog:
            part = read_backups(
                catalog, settings, tuple(duties_of(settings, self.now, UTC)), catalog.standings(), {}
            )  # fmt: skip
        viewer = Viewer(settings, self.now, self.clock)
        viewer.put(backups=part)
        return viewer.view()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    without_waiting(monkeypatch)
    return Office(tmp_path)


def values(view: View, family: str) -> dict[str, float]:
    """One family's values, by repository."""
    found = text_string_to_metric_families("".join(backup_families(view)))
    return {sample.labels["repository"]: sample.value for f in found for sample in f.samples if sample.name == family}


def test_the_second_repository_gets_the_moment_that_the_first_one_read(office: Office) -> None:
    first = office.run("local", content="as of noon")
    assert first.message.startswith("1 file,")
    second = office.run("offsite", content="changed since")
    assert second.outcome == "succeeded"
    assert second.message.startswith(f"copied from local: snapshot {first.snapshot[:8]}, 1 file, 10 B")
    assert office.content("offsite") == office.content("local") == "as of noon"
    copy, origin = office.newest("offsite"), office.newest("local")
    assert (copy.original, copy.time, copy.tree, copy.tags) == (origin.id, origin.time, origin.tree, origin.tags)
    assert copy.id == second.snapshot
    assert office.hooks() == ["before", "after"], "once for the read, not for the copy"
    for name in ("local", "offsite"):
        check = subprocess.run(
            ["restic", "--no-cache", "-r", office.root / name, "--password-file", office.root / "password", "check",
             "--read-data"], capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert check.returncode == 0, check.stdout + check.stderr


def test_a_copy_counts_as_a_backup_as_old_as_its_data(office: Office) -> None:
    office.run("local", content="as of noon")
    office.run("offsite", after=8)
    run, view = office.last_run(), office.view()
    assert run.started_at - office.newest("local").time == timedelta(minutes=8)
    assert run.data_at == office.newest("local").time
    assert {k: v for k, v in run.figures.items() if v} == {
        "files_new": 1, "bytes_processed": 10, "bytes_added": run.figures["bytes_added"],
        "bytes_stored": run.figures["bytes_stored"],
    }  # fmt: skip
    saved = values(view, "keepwatch_backup_last_success_timestamp_seconds")
    assert saved["offsite"] == saved["local"] == office.newest("local").time.timestamp()
    assert {snapshot.repository for snapshot in view.snapshots} == {"local", "offsite"}
    assert view.jobs[0].last_backup
    assert view.jobs[0].last_backup.repository == "offsite"


def test_later_runs_copy_what_is_new_and_nothing_twice(office: Office) -> None:
    for hour, content in enumerate(("one", "two", "three"), 1):
        office.run("local", content=content, after=60)
        assert office.run("offsite", content="too late").message.startswith("copied from local")
        assert office.content("offsite") == content
        assert len(office.open("offsite").snapshots()) == hour
    again = office.run("offsite", content="four")
    assert not again.message.startswith("copied"), "what is there already is no new backup"
    assert office.content("offsite") == "four"


def test_a_snapshot_that_is_too_old_is_not_copied(office: Office) -> None:
    office.run("local", content="as of noon")
    assert not office.run("offsite", content="later", after=10.5).message.startswith("copied")
    assert office.content("offsite") == "later"


def test_a_long_reading_counts_from_its_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def clock() -> datetime:
        office.now += timedelta(minutes=5)
        return office.now

    monkeypatch.setattr(office, "clock", clock)
    office.run("local", content="as of noon")
    monkeypatch.undo()
    without_waiting(monkeypatch)
    summary = office.newest("local").summary
    assert summary
    assert summary.backup_end - summary.backup_start > timedelta(minutes=4)
    assert office.now - summary.backup_start > timedelta(minutes=10)
    office.now = summary.backup_end
    assert office.run("offsite", content="later", after=8).message.startswith("copied from local")


def test_without_the_first_repository_the_source_is_read(office: Office) -> None:
    office.run("local", content="as of noon")
    (office.root / "local").rename(office.root / "lost")
    ending = office.run("offsite", content="later")
    assert (ending.outcome, ending.message.startswith("copied")) == ("succeeded", False)
    assert office.content("offsite") == "later"
    assert office.hooks() == ["before", "after"] * 2


def test_while_somebody_locks_the_first_repository_the_source_is_read(office: Office) -> None:
    office.run("local", content="as of noon")
    with office.open("local").lock(exclusive=True):
        assert not office.run("offsite", content="later").message.startswith("copied")
    assert office.content("offsite") == "later"


def test_a_damaged_first_repository_is_not_copied_from(office: Office) -> None:
    office.run("local", content="as of noon")
    for pack in (office.root / "local" / "data").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            pack.write_bytes(bytes(pack.stat().st_size))
    ending = office.run("offsite", content="later")
    assert (ending.outcome, ending.message.startswith("copied")) == ("succeeded", False)
    assert office.content("offsite") == "later"


@pytest.mark.parametrize("tag", ["partial", "suspicious"])
def test_a_doubtful_snapshot_is_not_passed_on(office: Office, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tags(job: str, kind: str, **_: object) -> list[str]:
        return ["keepwatch", f"job:{job}", f"kind:{kind}", tag]

    monkeypatch.setattr("backup.archiver._tags", tags)
    office.run("local", content="as of noon")
    monkeypatch.undo()
    without_waiting(monkeypatch)
    assert not office.run("offsite", content="later").message.startswith("copied")


def test_a_failed_first_run_leaves_the_second_to_read(office: Office) -> None:
    (office.root / "local").mkdir()
    (office.root / "local" / "config").write_bytes(b"not a repository")
    assert office.run("local", content="as of noon").outcome == "failed"
    assert office.run("offsite").outcome == "succeeded"
    assert office.content("offsite") == "as of noon"


def test_a_full_run_takes_nothing_less_than_a_full_snapshot(office: Office) -> None:
    office.run("local", content="one")
    office.run("offsite")
    office.run("local", content="two", after=60)
    assert not office.run("offsite", "full", content="three").message.startswith("copied")
    office.run("local", "full", content="four", after=60)
    assert office.run("offsite", "full", content="five").message.startswith("copied from local")
    assert office.content("offsite") == "four"


def test_a_full_run_reads_where_the_repository_lacks_packs(office: Office) -> None:
    office.run("local", content="one")
    office.run("offsite")
    for pack in (office.root / "offsite" / "data").rglob("*"):
        if pack.is_file():
            pack.unlink()
    office.run("local", "full", after=60)
    assert not office.run("offsite", "full").message.startswith("copied")
    assert office.content("offsite") == "one", "the lost packs are there again"


def test_a_catalog_of_an_earlier_version_gets_the_new_column(tmp_path: Path) -> None:
    with Catalog(tmp_path / "backup.db") as catalog:
        run = catalog.start_run("full", "documents", "local", now=datetime(2026, 3, 1, tzinfo=UTC))
        catalog.change(("ALTER TABLE runs DROP COLUMN data_at", [()]))
    at = datetime(2026, 2, 28, tzinfo=UTC)
    with Catalog(tmp_path / "backup.db") as catalog:
        assert catalog.problem is None
        catalog.end_run(run, "succeeded", "copied", now=datetime(2026, 3, 1, tzinfo=UTC), data_at=at)
        assert catalog.run(run).data_at == at
        assert catalog.standings()["full", "documents", "local"].last_success_at == at
