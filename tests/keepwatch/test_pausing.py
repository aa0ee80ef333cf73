"""Jobs that rest and go on: rows in the catalog, real children, and what is shown meanwhile."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.catalog import Catalog
from backup.pauses import Pause, Pauses
from config.loading import load
from keepwatch import bridge
from keepwatch.cli.app import run
from keepwatch.dispatcher import Dispatcher
from keepwatch.duties import duties_of
from keepwatch.job_runner import JobRunner
from keepwatch.metric_families import backup_families
from keepwatch.orders import Order
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from keepwatch.view import View
from keepwatch.viewing import Viewer, read_backups
from tests.keepwatch.guarded import without_waiting
from tests.keepwatch.test_web_app import serving

KEY = ("full", "documents", "local")
SETTINGS = """
[daemon]
state_dir = "{root}/state"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/password"
[jobs.documents]
source = {{ type = "files", paths = ["{root}/documents"] }}
repositories = ["local"]
full = "sunday 02:00"
timeout = "5m"
before = ["touch {root}/began; while [ ! -e {root}/go ]; do sleep 0.02; done"]
"""


class Office:
    """A job whose run waits in its hook until the test lets it ``go``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = datetime.now(UTC)
        self.config = root / "keepwatch.toml"
        self.config.write_text(SETTINGS.format(root=root))
        (root / "password").write_text("correct horse\n")
        (root / "password").chmod(0o600)
        (root / "documents").mkdir()
        (root / "documents" / "invoice.txt").write_text("invoice")
        self.settings = load(self.config, environ={})
        self.state = StateDirectory(root / "state")
        self.dispatcher = Dispatcher(self.settings, self.state, Catalog(self.state.backup_db), lambda: self.now)

    def pause(self, **more: object) -> Pause:
        pause = Pause("documents", "ann", "disk swap", self.now, None)
        until = more.get("until_at")
        made = Pause(pause.job, pause.author, pause.comment, pause.paused_at, until)  # type: ignore[arg-type]
        with Catalog(self.state.backup_db) as catalog:
            Pauses(catalog).add([made])
        return made

    def resume(self) -> None:
        with Catalog(self.state.backup_db) as catalog:
            Pauses(catalog).remove(["documents"], self.now)

    def until(self, reached: Callable[[], object]) -> None:
        """Tick until it is so."""
        deadline = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < deadline, self.dispatcher.catalog.runs(5)
            self.dispatcher.tick()
            time.sleep(0.02)

    def tick_for(self, seconds: float) -> None:
        """Give a real child the time in which it would go on if it did not rest."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.dispatcher.tick()
            time.sleep(0.02)

    def start_and_pause(self, **more: object) -> None:
        """Have a child that rests: it was paused in its hook, and the hook is over."""
        self.until((self.root / "began").exists)
        self.pause(**more)
        self.until(lambda: [child for child in self.dispatcher._runner._children if child.paused_at])
        (self.root / "go").touch()

    @property
    def outcome(self) -> str:
        return self.dispatcher.catalog.run(1).outcome

    def locks(self) -> list[str]:
        return [path.name for path in (self.root / "repository").glob("locks/*")]

    def view(self) -> View:
        with Catalog(self.state.backup_db) as catalog:
            duties = tuple(duties_of(self.settings, self.now, UTC))
            part = read_backups(catalog, self.settings, duties, catalog.standings(), {})
        viewer = Viewer(self.settings, self.now, lambda: self.now)
        viewer.put(backups=part)
        return viewer.view()


@pytest.fixture
def office(tmp_path: Path):
    made = Office(tmp_path)
    yield made
    made.dispatcher.kill()
    made.dispatcher.catalog.close()


def test_a_paused_job_begins_nothing_until_somebody_resumes_it(office: Office) -> None:
    (office.root / "go").touch()
    office.pause()
    for _ in range(3):
        office.dispatcher.tick()
    assert office.dispatcher.catalog.runs(9) == []
    with Catalog(office.state.backup_db) as catalog:
        catalog.request(*KEY, now=office.now)
    office.dispatcher.tick()
    assert office.dispatcher.catalog.runs(9) == [], "not even by request"
    office.resume()
    office.until(lambda: office.dispatcher.catalog.runs(9) and office.outcome == "succeeded")


def test_a_child_rests_and_goes_on(office: Office) -> None:
    office.start_and_pause()
    office.until(office.locks)
    office.tick_for(1.5)
    assert office.outcome == "running"
    assert len(office.locks()) == 1, "its lock stays"
    assert not list((office.root / "repository" / "snapshots").iterdir())
    office.resume()
    office.until(lambda: office.outcome == "succeeded")
    assert office.locks() == []


def test_a_pause_that_has_run_out_is_over(office: Office) -> None:
    office.start_and_pause(until_at=office.now + timedelta(hours=2))
    office.tick_for(0.5)
    assert office.outcome == "running"
    office.now += timedelta(hours=2)
    office.until(lambda: office.outcome == "succeeded")


def test_a_child_that_rests_still_stops_cleanly(office: Office) -> None:
    office.start_and_pause()
    office.until(office.locks)
    office.dispatcher.stop()
    office.until(lambda: office.outcome == "interrupted")
    assert office.dispatcher.catalog.run(1).message == "the backup was stopped before its snapshot"
    assert office.locks() == []


def test_a_child_that_rests_ends_with_its_daemon(office: Office) -> None:
    office.start_and_pause()
    (child,) = office.dispatcher._runner._children
    child.process.stdin.close()  # what the death of the daemon does
    assert child.process.wait(30) == 130
    child.process.stdin = None


def test_a_pause_does_not_count_against_the_time_limit(office: Office) -> None:
    moment = [0.0]
    runner = JobRunner(office.state.path, lambda: moment[0])
    with Catalog(office.state.backup_db) as catalog:
        order = Order(catalog.start_run(*KEY, now=office.now), *KEY)
    runner.start(order, office.settings)
    try:
        deadline = time.monotonic() + 30
        while not runner._children[0].understands:
            assert time.monotonic() < deadline
            runner.poll()
            time.sleep(0.02)
        runner.pause({"documents"})
        moment[0] += 3600
        runner.poll()
        assert not runner._children[0].stop_asked, "an hour of rest"
        runner.pause(set())
        moment[0] += 299
        runner.poll()
        assert not runner._children[0].stop_asked
        moment[0] += 2
        runner.poll()
        assert runner._children[0].stop_asked, "five minutes of work"
    finally:
        runner.kill_all()


def test_a_pause_falls_between_two_packs(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)
    (office.root / "go").touch()
    with (office.root / "documents" / "big.bin").open("wb") as file:
        for _ in range(10):
            file.write(os.urandom(16 << 20))
    repository, seen = office.root / "repository", []

    def is_paused() -> bool:
        seen.append({path: path.stat().st_size for path in (repository / "data").rglob("*") if path.is_file()})
        return 3 <= len(seen) < 25  # two seconds, asked ten times a second

    ending = carry_out(
        Order(0, *KEY), office.settings, office.state, clock=lambda: datetime.now(UTC), progress=lambda _: None,
        stop=threading.Event(), is_paused=is_paused,
    )  # fmt: skip
    assert ending.outcome == "succeeded"
    settled = seen[23]
    assert seen[18] == settled, "what was handed out is done, and nothing more follows"
    assert len(settled) < 8
    assert len([path for path in (repository / "data").rglob("*") if path.is_file()]) >= 10


def test_everybody_sees_who_paused_and_why(office: Office) -> None:
    office.now = datetime.now(UTC) + timedelta(days=30)
    office.pause(until_at=office.now + timedelta(hours=2))
    view = office.view()
    assert view.jobs[0].pause
    (overdue,) = [r for r in bridge.results(view.jobs, (), {}, office.now) if r.check == "backup documents"]
    assert overdue.message.endswith("; paused by ann: disk swap")
    assert 'keepwatch_job_paused{job="documents"} 1\n' in "".join(backup_families(view))
    with serving(lambda: view) as client:
        page = client.get("/").text
    assert "disk swap" in page
    assert "keepwatch resume documents" in page
    office.now += timedelta(hours=2)
    later = office.view()
    assert later.jobs[0].pause is None
    with serving(lambda: later) as client:
        assert "keepwatch resume" not in client.get("/").text
    assert 'keepwatch_job_paused{job="documents"} 0\n' in "".join(backup_families(later))


def test_the_commands_pause_show_and_resume(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(office.config)]
    assert run(["pause", "documents", "--for", "2h", "-c", "disk swap", "--author", "ann", *config]) == 0
    assert "documents: paused by ann: disk swap, until" in capsys.readouterr().out
    run(["status", *config])
    assert "paused by ann: disk swap" in capsys.readouterr().out
    assert run(["resume", *config]) == 0
    assert capsys.readouterr().out == "documents goes on; it was paused by ann: disk swap\n"
    assert run(["resume", *config]) == 0
    assert "none of them was paused" in capsys.readouterr().err
    assert run(["pause", "nothing-like-it", *config]) == 2
    assert run(["pause", "--for", "soon", *config]) == 2
    with Catalog(office.state.backup_db) as catalog:
        assert Pauses(catalog).all() == []


def test_a_run_in_the_foreground_rests_by_the_same_rows(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    (office.root / "go").touch()
    office.pause(until_at=office.now + timedelta(seconds=2))
    began = time.monotonic()
    assert run(["backup", "documents", "--config", str(office.config)]) == 0
    assert time.monotonic() - began > 0.5
    assert "documents is paused by ann: disk swap; it waits for" in capsys.readouterr().err
