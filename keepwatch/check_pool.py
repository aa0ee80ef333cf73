"""Runs checks on time on a few threads, and lets none hold up the others.

Each check has its own fixed rhythm on the monotonic clock; a run that is late does not shift the next one, and a check
never overlaps itself. A run that lasts longer than half a second (an address that swallows packets, a program that
hangs) takes its seat along, and another one is set up for those who wait. One that outlives its timeout by far is stuck
in the kernel (a dead mount, a driver): it is counted, and the check counts as unknown until it returns. The pool
neither judges nor keeps results: it hands them over.
"""

import heapq
import itertools
import logging
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue

from monitor.check import Before, Check, given_up, run_check
from monitor.result import Result, Status

log = logging.getLogger(__name__)

_STUCK_AFTER_SECONDS = 5.0
"""How long past its timeout a run may take; probes end themselves at the timeout, so more than this is no accident."""


_RETRY_SHARE = 0.25
_SLOW_SECONDS = 0.5
"""A run that has lasted so long waits for something rather than works."""
_MOST_SEATS = 256
"""Also with ever so many slow runs: each seat is a thread, with some tens of KiB of its own."""


@dataclass(slots=True)
class _Run:
    check: Check
    planned: float
    started: float | None = None
    given_up: bool = False
    results: list[Result] = field(default_factory=list)


class Lags:
    """How late runs began: counts by bound, for percentiles over any time between two scrapes."""

    BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, float("inf"))
    """Seconds."""

    def __init__(self) -> None:
        self._counts = [0] * len(self.BOUNDS)
        self.seconds = 0.0
        """All of them together."""

    def observe(self, seconds: float) -> None:
        """Count a run that began so late."""
        self._counts[bisect_left(self.BOUNDS, seconds)] += 1
        self.seconds += seconds

    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """Return how many runs began at most so late."""
        return tuple(zip(self.BOUNDS, itertools.accumulate(self._counts), strict=True))


class CheckPool:
    """Up to ``seats`` checks at once, and the slow ones. All methods but the seats' own loop belong to one thread."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        seats: int = 8,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._seats = seats
        self._work: SimpleQueue[_Run | None] = SimpleQueue()
        self._done: SimpleQueue[_Run] = SimpleQueue()
        self._heap: list[tuple[float, int, Check]] = []
        self._due: dict[str, float] = {}
        self._hasty: frozenset[str] = frozenset()
        self._order = itertools.count()
        self._running: dict[str, _Run] = {}
        self._seated: dict[int, _Run] = {}
        self._seat_numbers = itertools.count(1)
        self._current: dict[str, Check] = {}
        self._last: dict[str, Before] = {}
        self._threads = 0
        self.stuck = 0
        """Seats written off that have not come back."""
        self.lag_seconds = 0.0
        """The longest that a check of the last round waited past its time."""
        self.lags = Lags()

    def configure(self, checks: Iterable[Check], statuses: Mapping[str, Mapping[str, Status]] | None = None) -> None:
        """Run these checks from now on, each at once and then in its rhythm. Runs under way end on their own.

        ``statuses`` (check -> entity -> last status) restores the stickiness of thresholds after a restart.
        """
        now = self._monotonic()
        self._current = {check.name: check for check in checks}
        self._heap = []
        self._due = {}
        for check in self._current.values():
            self._plan(check, now)
        known: dict[str, Before] = dict(statuses or {}) | self._last
        self._last = {name: known[name] for name in self._current if name in known}

    @property
    def idle_seconds(self) -> float:
        """How long until the next check is due."""
        return max(0.0, self._heap[0][0] - self._monotonic()) if self._heap else 3600.0

    def start_due(self) -> None:
        """Hand every due check to a free seat; one that is still running skips this turn."""
        now = self._monotonic()
        while self._heap and self._heap[0][0] <= now:
            planned, _, check = heapq.heappop(self._heap)
            if self._due.get(check.name) != planned:
                continue  # it was planned anew meanwhile
            retry_at = now + _retry_seconds(check)
            self._plan(check, retry_at if check.name in self._hasty else _next_turn(check, planned, now))
            if check.name in self._running:
                continue
            run = self._running[check.name] = _Run(check, planned)
            self._work.put(run)
        self._set_up_seats(now)

    def hasten(self, names: frozenset[str]) -> None:
        """Run these checks at their retry interval, a quarter of the usual one by default, until told otherwise.

        An alert that is pending shall not wait a whole interval for each of the samples that it needs.
        """
        now = self._monotonic()
        for name in names - self._hasty:
            if (check := self._current.get(name)) is not None:
                self._plan(check, min(self._due[name], now + _retry_seconds(check)))
        self._hasty = names

    def run_at_once(self, names: Iterable[str]) -> None:
        """Run these checks now, once, besides their rhythm: others depend on what they say."""
        now = self._monotonic()
        for name in names:
            if (check := self._current.get(name)) is not None and name not in self._running:
                self._plan(check, min(self._due[name], now))

    def _plan(self, check: Check, at: float) -> None:
        if self._due.get(check.name) != at:
            self._due[check.name] = at
            heapq.heappush(self._heap, (at, next(self._order), check))

    def collect(self) -> list[Result]:
        """Return what has come in since the last call, and an unknown for every check whose run got stuck meanwhile."""
        results: list[Result] = []
        lags: list[float] = []
        while not self._done.empty():
            run = self._done.get()
            self._running.pop(run.check.name, None)
            lag = (run.started or run.planned) - run.planned
            lags.append(lag)
            self.lags.observe(lag)
            if run.given_up:
                self.stuck -= 1
                log.warning("stuck check returned", extra={"check": run.check.name})
            if self._current.get(run.check.name) is run.check:
                self._last[run.check.name] = {result.entity: result for result in run.results}
                results += run.results
        if lags:
            self.lag_seconds = max(lags)
        results += self._give_up_stuck()
        self._remove_seats()
        return results

    def stop(self) -> None:
        """Start nothing any more; seats end after their current run."""
        self._heap.clear()
        for _ in range(self._threads):
            self._work.put(None)

    def _give_up_stuck(self) -> list[Result]:
        now = self._monotonic()
        results = []
        for run in self._running.values():
            check = run.check
            limit = check.timeout.total_seconds() + _STUCK_AFTER_SECONDS
            if run.started is None or run.given_up or now - run.started < limit:
                continue
            run.given_up = True
            self.stuck += 1
            log.error("check stuck", extra={"check": check.name, "seconds": round(now - run.started)})
            results += given_up(check, self._last.get(check.name, {}), self._clock(), now - run.started)
        return results

    def _set_up_seats(self, now: float) -> None:
        """Let as many sit down as have work, up to the usual number and those who are slow."""
        if self._threads >= len(self._running):
            return
        slow = sum(
            run.started is not None and now - run.started > _SLOW_SECONDS for run in list(self._seated.values())
        )
        for _ in range(min(self._seats + slow, _MOST_SEATS, len(self._running)) - self._threads):
            self._threads += 1
            number = next(self._seat_numbers)
            threading.Thread(target=self._sit, args=(number,), name=f"check-{number}", daemon=True).start()

    def _remove_seats(self) -> None:
        """Send home those that were set up for slow runs which are over."""
        for _ in range(self._threads - max(self._seats, len(self._running))):
            self._threads -= 1
            self._work.put(None)

    def _sit(self, number: int) -> None:
        while (run := self._work.get()) is not None:
            self._seated[number] = run
            run.started = self._monotonic()
            run.results = run_check(run.check, self._last.get(run.check.name, {}), self._clock)
            del self._seated[number]
            self._done.put(run)


def _retry_seconds(check: Check) -> float:
    """How soon a check with a pending alert runs again; never later than it would anyway."""
    every = check.every.total_seconds()
    return min(every, check.retry_interval.total_seconds() if check.retry_interval else _RETRY_SHARE * every)


def _next_turn(check: Check, planned: float, now: float) -> float:
    """Return the next moment of the check's rhythm; its phase is fixed by its name, so that checks spread evenly."""
    every = check.every.total_seconds()
    phase = zlib.crc32(check.name.encode()) % max(1, int(every))
    turns = (now - phase) // every + 1
    following = phase + turns * every
    return following if following - planned > every / 4 else following + every
