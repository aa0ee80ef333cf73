"""What every kind of run is given: its order, the settings, the ledger, and how it is stopped, paused and watched."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup.catalog import Catalog
from backup.errors import RepositoryMissing
from backup.repository import Repository
from backup.sources.base import Source
from backup.sources.open import open_source
from backup.storage.base import Storage
from backup.storage.counting import Meter, Metered
from backup.storage.halting import Halt
from config.jobs import JobSettings
from config.settings import Settings
from keepwatch.orders import Order, Progress
from keepwatch.repositories import open_repository
from keepwatch.state import StateDirectory

LOCK_WAIT = timedelta(minutes=5)
"""How long a run waits for somebody else's lock on the repository."""
_LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that a kind of run needs."""

    order: Order
    settings: Settings
    state: StateDirectory
    catalog: Catalog
    clock: Callable[[], datetime]
    progress: Callable[[Progress], None]
    stop: threading.Event
    is_paused: Callable[[], bool]
    halts: list[Halt] = field(default_factory=list)
    meters: list[Meter] = field(default_factory=list)
    """What counts the requests to the storages that the run opened."""
    opened: dict[str, Repository] = field(default_factory=dict)
    """The repositories that the run opened, by name."""

    @property
    def job(self) -> JobSettings:
        """The job's settings."""
        return self.settings.jobs[self.order.job]

    def stopped(self) -> bool:
        """Say whether to stop; while the run is paused, do not answer unless it is to stop.

        Asked wherever work is handed out, so a pause falls between two packs: what was handed out is finished by the
        workers meanwhile, nothing more follows, and the repository's lock is renewed by its own thread. Sleeps instead
        of waiting for an event: a signal handler that sets an event whose lock is held here would never return.
        """
        while self.is_paused() and not self.stop.is_set():
            time.sleep(_LOOK_EVERY_SECONDS)
        for halt in self.halts:
            halt.is_set()  # which tells the workers that wait for a storage
        return self.stop.is_set()

    def source(self) -> Source:
        """Return what the job backs up; nothing of it is read yet."""
        workspace = self.state.scratch / f"source-{self.order.job}"
        return open_source(self.job.source, name=self.order.job, clock=self.clock, workspace=workspace)

    def open(self, *, may_create: bool = False) -> Repository:
        """Open the order's repository; make it only where none was ever seen.

        A repository that was there and is gone may be an unmounted disk: a new one in its place would hide that.
        """
        name = self.order.repository
        seen = name in self.catalog.repositories()
        try:
            return self.open_named(name, may_create=may_create and not seen)
        except RepositoryMissing as error:
            if seen:
                error.hint = (
                    "it was there before: is its disk mounted? To begin anew on purpose, give it another name or url"
                )
            raise

    def open_named(self, name: str, *, may_create: bool = False) -> Repository:
        """Open any configured repository."""
        settings, zone = self.settings.repositories[name], self.settings.daemon.zone
        repository = open_repository(
            settings, clock=self.clock, zone=zone, may_create=may_create, halt=self.make_halt()
        )
        self.watch(repository.storage)
        self.opened[name] = repository
        return repository

    def make_halt(self) -> Halt:
        """Make what ends the waiting for a storage when the run is to stop."""
        self.halts.append(Halt(self.stop.is_set))
        return self.halts[-1]

    def watch(self, storage: Storage) -> None:
        """Let the requests to a storage be among the run's figures, if it counts them."""
        if isinstance(storage, Metered):
            self.meters.append(storage.meter)

    def request_figures(self) -> dict[str, float]:
        """Add up what the storages were asked."""
        figures: Counter[str] = Counter()
        for meter in self.meters:
            figures.update(meter.figures())
        return dict(figures)
