"""A job and its repository under real runs, on a clock that a test moves."""

import random
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from backup.catalog import Catalog
from backup.repository import Repository
from config.loading import load
from config.settings import Settings
from keepwatch import bridge, repositories
from keepwatch.duties import duties_of
from keepwatch.orders import Ending, Order
from keepwatch.repositories import open_repository
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from keepwatch.view import View
from keepwatch.viewing import Viewer, read_backups
from monitor.result import Result
from tests.backup.repositories import CHEAP, PROMPT

SETTINGS = """
[daemon]
state_dir = "{root}/state"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/password"
verify = "daily 03:30"
read_all_within = "10d"
[jobs.documents]
source = {{ type = "files", paths = ["{root}/documents", "{root}/archive"] }}
repositories = ["local"]
incremental = "every 1h"
keep = {{ last = 1 }}
"""


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in no time, and locks without their pauses; what those cost is measured elsewhere."""
    quick = SimpleNamespace(
        open=partial(Repository.open, timing=PROMPT), create=partial(Repository.create, kdf=CHEAP, timing=PROMPT)
    )
    monkeypatch.setattr(repositories, "Repository", quick)


@dataclass
class Guarded:
    """Two folders, one job, one repository."""

    root: Path
    now: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC))

    def __post_init__(self) -> None:
        self.config = self.root / "keepwatch.toml"
        self.config.write_text(SETTINGS.format(root=self.root))
        (self.root / "password").write_text("correct horse\n")
        (self.root / "password").chmod(0o600)
        self.documents, self.archive = self.root / "documents", self.root / "archive"
        for folder, count in ((self.documents, 40), (self.archive, 25)):
            folder.mkdir()
            for number in range(count):
                self.write(folder / f"{number}.txt", number)

    def write(self, path: Path, seed: int) -> None:
        words = random.Random(seed)
        path.write_text("".join(f"invoice {words.random()}\n" for _ in range(300)))

    @property
    def settings(self) -> Settings:
        return load(self.config, environ={})

    @property
    def state(self) -> StateDirectory:
        return StateDirectory(self.root / "state")

    def catalog(self) -> Catalog:
        return Catalog(self.state.backup_db)

    def clock(self) -> datetime:
        return self.now

    def run(self, kind: str, *, after: timedelta = timedelta(hours=1), **more: object) -> Ending:
        """Carry out one run of the job, or of the repository, some time later."""
        self.now += after
        job = "" if kind in ("verify", "prune") else "documents"
        order = Order(0, kind, job, "local", **more)  # type: ignore[arg-type]
        stop = threading.Event()
        return carry_out(order, self.settings, self.state, clock=self.clock, progress=lambda _: None, stop=stop)

    def back_up(self) -> Ending:
        return self.run("incremental")

    def tags(self) -> list[set[str]]:
        """Of each snapshot, oldest first."""
        repository = open_repository(self.settings.repositories["local"], clock=self.clock)
        return [set(snapshot.tags) for snapshot in repository.snapshots()]

    def view(self) -> View:
        """What the daemon would show now."""
        settings = self.settings
        with self.catalog() as catalog:
            duties = tuple(duties_of(settings, self.now, settings.daemon.zone))
            part = read_backups(catalog, settings, duties, catalog.standings(), {})
        viewer = Viewer(settings, self.now, self.clock)
        viewer.put(backups=part)
        return viewer.view()

    def judged(self, check: str) -> Result:
        """What the monitor says of a check."""
        view = self.view()
        (found,) = [r for r in bridge.results(view.jobs, view.repositories, {}, self.now) if r.check == check]
        return found
