"""An office with two jobs, two repositories and a folder of plans, on a clock that a test moves."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.loading import load
from config.plan_files import Plan, PlanBook, read_plans
from config.settings import Settings
from keepwatch.orders import Ending, Order
from keepwatch.plans.checking import Finding, findings
from keepwatch.plans.exercising import exercise
from keepwatch.plans.log import PlanLog
from keepwatch.plans.records import Exercise
from keepwatch.plans.shelf import Shelf
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from monitor.result import Result, Status

SETTINGS = """
[daemon]
state_dir = "{root}/state"
timezone = "UTC"
[repositories.local]
url = "{root}/local"
password_file = "{root}/password"
[repositories.offsite]
url = "{root}/offsite"
password_file = "{root}/password"
[jobs.documents]
source = {{ type = "files", paths = ["{root}/documents"] }}
repositories = ["local", "offsite"]
[jobs.ledger]
source = {{ type = "files", paths = ["{root}/ledger"] }}
repositories = ["local", "offsite"]
[plans]
risks = ["disaster"]
[[checks]]
name = "root disk"
type = "disk"
path = "/"
"""
FIRE = """+++
title = "Fire"
owner = "Anna Weber"
deputies = ["Li Wei"]
scope = "several"
rto = "4h"
rpo = "1h"
alerts = ["root disk", "backup documents"]
review_by = 2026-06-30
[risk]
kind = "disaster"
likelihood = "rare"
impact = "severe"
prevention = ["smoke detector"]
[[restore]]
job = "documents"
repository = "offsite"
after = ["ledger"]
[[restore]]
job = "ledger"
repository = "offsite"
+++
Nothing is left.

## Read the repository
person: Li Wei
goal: the snapshots are listed

## Restore
person: Anna Weber
goal: everything is back
"""


@dataclass
class Planned:
    """The office."""

    root: Path
    now: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC))

    def __post_init__(self) -> None:
        self.config = self.root / "keepwatch.toml"
        self.config.write_text(SETTINGS.format(root=self.root))
        (self.root / "password").write_text("correct horse\n")
        (self.root / "password").chmod(0o600)
        for name in ("documents", "ledger"):
            (self.root / name).mkdir()
            for number in range(5):
                (self.root / name / f"{number}.txt").write_text(f"{name} {number}\n" * 100)
        (self.root / "plans").mkdir()
        self.write()

    def write(self, *changes: tuple[str, str], name: str = "fire") -> None:
        """Write a plan, the good one but for these changes."""
        text = FIRE
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        (self.root / f"plans/{name}.md").write_text(text)

    @property
    def settings(self) -> Settings:
        return load(self.config, environ={})

    @property
    def state(self) -> StateDirectory:
        return StateDirectory(self.root / "state")

    @property
    def book(self) -> PlanBook:
        return read_plans(self.root / "plans")

    def plan(self, name: str = "fire") -> Plan:
        found = self.book.get(name)
        assert found, self.book.problems
        return found

    @property
    def log(self) -> PlanLog:
        return PlanLog(self.state.plan_log)

    def clock(self) -> datetime:
        return self.now

    def run(self, order: Order) -> Ending:
        return carry_out(
            order, self.settings, self.state, clock=self.clock, progress=lambda _: None, stop=threading.Event()
        )

    def back_up(self) -> None:
        for job in ("ledger", "documents"):
            for repository in ("local", "offsite"):
                assert self.run(Order(0, "full", job, repository)).exit_code == 0

    def exercise(self, name: str = "fire") -> Exercise:
        return exercise(
            self.plan(name), self.settings, self.state, by="anna", clock=self.clock, carry_out=self.run,
            stop=threading.Event(),
        )  # fmt: skip

    def findings(self) -> list[Finding]:
        return findings(self.book, self.settings, self.log.records(), self.now)

    def alarms(self) -> list[Result]:
        """What the running daemon's monitor would be told, in so far as it is bad."""
        results = Shelf(self.settings, self.state.plan_log).results(self.now)
        return [result for result in results if result.status is not Status.OK]

    def pass_time(self, **parts: float) -> None:
        self.now += timedelta(**parts)
