"""The daemon's heartbeat: small recurring acts on one thread, by the ``schedule`` library.

Only acts that return within milliseconds belong here. What is *due* (a backup, a drill) is not decided by ``schedule``,
which forgets everything at a restart and thinks in naive local time: acts look at the run ledger each time. For the
same reason a step of the clock, or the hour that daylight saving repeats, would stall its ticks until the old time
comes round again; the ticker notices the step and plans them anew.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from schedule import Job, Scheduler

log = logging.getLogger(__name__)

_STEP_SECONDS = 2.0


class Ticker:
    """Runs acts every so many seconds. ``local_time`` must be what ``schedule`` itself reads: naive local time."""

    def __init__(self, local_time: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = Scheduler()
        self._local_time = local_time
        self._monotonic = monotonic
        self._offset = self._clock_offset()
        self.steps = 0
        """How often the clock was seen to jump."""

    def every(self, seconds: int, act: Callable[[], None]) -> None:
        """Run ``act`` every ``seconds`` from now on. An act that raises is logged as the bug it is, and goes on."""
        self._scheduler.every(seconds).seconds.do(_guarded(act))

    def run_pending(self) -> None:
        """Run what has come due."""
        offset = self._clock_offset()
        if abs(offset - self._offset) > _STEP_SECONDS:
            log.warning("clock stepped", extra={"seconds": round(offset - self._offset, 3)})
            self.steps += 1
            for job in self._scheduler.get_jobs():
                _plan_anew(job)
        self._offset = offset
        self._scheduler.run_pending()

    @property
    def idle_seconds(self) -> float:
        """How long until the next act is due; 0 when one is."""
        idle = self._scheduler.idle_seconds
        return 0.0 if idle is None else min(max(idle, 0.0), 1.0)

    def _clock_offset(self) -> float:
        return (self._local_time() - datetime(1970, 1, 1)).total_seconds() - self._monotonic()  # noqa: DTZ001


def _plan_anew(job: Job) -> None:
    job.last_run = None
    job._schedule_next_run()


def _guarded(act: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            act()
        except Exception:
            log.exception("tick failed", extra={"act": getattr(act, "__qualname__", repr(act))})

    return run
