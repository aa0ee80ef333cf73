"""Notices that the wall clock was set, by a second clock that nobody can set.

A minute is tolerated: what a time service slews is no step. A machine that slept looks like a clock set forward, and is
treated as one: what waits goes on to wait for the time that it is awake.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

_TOLERATED = timedelta(minutes=1)


class ClockSteps:
    """One thread at a time."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None

    def step(self, now: datetime) -> timedelta | None:
        """Return by how much the wall clock, which says ``now``, was set since the last call; None when it was not."""
        ticked = self._monotonic()
        last, self._last = self._last, (now, ticked)
        if last is None:
            return None
        by = now - last[0] - timedelta(seconds=ticked - last[1])
        return by if abs(by) > _TOLERATED else None
