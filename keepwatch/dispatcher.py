"""Starts what is due and keeps the run ledger true: the backup half under the daemon.

Decides by ``duties``, starts by ``job_runner``, records by the catalog; record first, then act. A run whose process
died without a word is ended in the ledger here, so that none stays "running" for ever. Nothing here waits.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from backup.catalog import Catalog, Standing
from backup.pauses import Pause, Pauses
from config.settings import Settings
from keepwatch.duties import Duty, Facts, Key, Ledger, configured_name, due, duties_of, ledger_of
from keepwatch.job_runner import Ended, JobRunner
from keepwatch.orders import Order, Progress
from keepwatch.state import StateDirectory

log = logging.getLogger(__name__)


class Dispatcher:
    """All methods belong to the daemon's loop."""

    def __init__(
        self, settings: Settings, state: StateDirectory, catalog: Catalog, clock: Callable[[], datetime]
    ) -> None:
        self.catalog = catalog
        self._state = state
        self._clock = clock
        self._runner = JobRunner(state.path)
        self._stopping = False
        self._asked: list[Duty] = []
        self._standings: dict[Key, Standing] | None = None
        self._pauses: list[Pause] | None = None
        self._resting: frozenset[str] = frozenset()
        self.duties: list[Duty] = []
        self.reconfigure(settings)
        self._end_abandoned()

    def reconfigure(self, settings: Settings) -> None:
        """Go by these settings from the next run on; runs under way end by their old ones."""
        now = self._clock()
        self._settings = settings
        self._zone = settings.daemon.zone
        self.duties = duties_of(settings, now, self._zone)
        self.catalog.configure([*settings.jobs, *map(configured_name, settings.repositories)], now)

    def tick(self) -> bool:
        """Look after the runs under way and start what is due. Return whether the ledger changed."""
        changed = self.catalog.changed()
        if changed:
            self._standings = self._pauses = None
        ended = self._runner.poll()
        for child in ended:
            self._settle(child)
        rested = self._resting
        self._rest()
        self._take_requests()
        started = False
        while not self._stopping and (duty := self._next()):
            self._start(duty)
            started = True
        return bool(ended) or started or changed or rested != self._resting

    @property
    def running(self) -> dict[Key, Progress | None]:
        """Runs under way, by key, with how far each is."""
        return self._runner.running

    def ledger(self) -> Ledger:
        """Return the facts of every duty as the ledger has them now."""
        return ledger_of(self.standings, self._runner.running, self._clock())

    @property
    def standings(self) -> dict[Key, Standing]:
        """What the runs of each duty amount to; read from the catalog only when it changed."""
        if self._standings is None:
            self._standings = self.catalog.standings()
        return self._standings

    def stop(self) -> None:
        """Start nothing any more and ask what runs to end cleanly."""
        self._stopping = True
        self._runner.stop_all()

    def kill(self) -> None:
        """End everything at once; the ledger says interrupted."""
        self._stopping = True
        self._runner.kill_all()
        self._end_abandoned()

    def _rest(self) -> None:
        """Let the runs of paused jobs rest, and those whose pause is over go on."""
        if self._pauses is None:
            self._pauses = Pauses(self.catalog).all()
        now = self._clock()
        self._resting = frozenset(pause.job for pause in self._pauses if pause.lasts(now))
        self._runner.pause(self._resting)

    def _next(self) -> Duty | None:
        """Choose the next duty that may start: a seat is free, and nothing else is at work on the same job."""
        running = self._runner.running
        if len(running) >= self._settings.daemon.max_parallel_jobs:
            return None
        held_jobs = {job for _, job, _ in running if job} | self._resting
        ledger = self.ledger()
        asked = [duty for duty in self._asked if not ledger.get(duty.key, Facts()).running]
        for duty in [*asked, *due(self.duties, ledger, self._clock(), self._zone)]:
            if duty.job in held_jobs or (duty.job and self._state.is_locked(f"job-{duty.job}")):
                continue
            if duty in self._asked:
                self._asked.remove(duty)
            return duty
        return None

    def _start(self, duty: Duty) -> None:
        run_id = self.catalog.start_run(duty.kind, duty.job, duty.repository, now=self._clock())
        order = Order(run_id, *duty.key)
        pid = self._runner.start(order, self._settings)
        self.catalog.set_pid(run_id, pid)
        self._standings = None
        fields = {"run": run_id, "kind": duty.kind, "job": duty.job, "repository": duty.repository}
        log.info("run started", extra=fields)

    def _settle(self, child: Ended) -> None:
        """Make sure that the ledger knows the end of a run whose process is gone."""
        self._standings = None
        run = self.catalog.run(child.order.run_id)
        if run.outcome == "running":
            now = self._clock()
            if child.status < 0 or self._stopping:
                reason = f"its process was ended by signal {-child.status}"
                self.catalog.end_run(run.id, "failed" if child.timed_out else "interrupted", reason, now=now)
            else:
                message = f"its process ended with status {child.status} and said nothing; the log above tells more"
                self.catalog.end_run(run.id, "failed", message, now=now)
        if child.timed_out:
            self.catalog.end_run(run.id, "failed", "stopped at its time limit", now=self._clock())
        run = self.catalog.run(run.id)
        level = logging.INFO if run.outcome in ("succeeded", "passed") else logging.WARNING
        fields = {"run": run.id, "kind": run.kind, "job": run.job, "outcome": run.outcome, "result": run.message}
        log.log(level, "run ended", extra=fields)

    def _take_requests(self) -> None:
        """Take up what people asked for by command line."""
        for request in self.catalog.take_requests():
            key = (request.kind, request.job, request.repository)
            found = next((duty for duty in self.duties if duty.key == key), None)
            self._asked.append(found or Duty(*key, schedule=None))

    def _end_abandoned(self) -> None:
        """Mark runs that an earlier daemon left running, unless their process still holds its lock."""
        alive = self._runner.running
        for run in self.catalog.running_runs():
            name = f"job-{run.job}" if run.job else f"repository-{run.repository}"
            if (run.kind, run.job, run.repository) not in alive and not self._state.is_locked(name):
                self.catalog.end_run(run.id, "interrupted", "the process that did it is gone", now=self._clock())
                log.warning("run was interrupted", extra={"run": run.id, "kind": run.kind, "job": run.job})


