"""Notices that the wall clock was set, by a second clock that nobody can set.

A minute is tolerated: what a time service slews is no step. A machine that slept looks like a clock set forward, and is
treated as one: what waits goes on to wait for the time that it is awake. The second clock counts from the machine's
start for all of its processes, so what it said is remembered over a restart of the daemon, with the name of that start.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitor.memory import Memories

_TOLERATED = timedelta(minutes=1)
_REMEMBERED_WITHIN = timedelta(seconds=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MEMORY = "clock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_name() -> str:
    """Return a name that this start of the machine has and no other one; empty where the kernel gives none."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class ClockSteps:
    """One thread at a time."""

    def __init__(
        self,
        memories: Memories | None = None,
        boot: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``boot``: which start of the machine ``monotonic`` counts from; by default what ``boot_name`` says."""
        self._memories = memories or Memories()
        self._boot = boot_name() if boot is None else boot
        self._monotonic = monotonic
        kept = self._memories.load(_MEMORY)
        known = bool(self._boot) and kept.get("boot") == self._boot
        self._apart = self._remembered = timedelta(seconds=kept["apart_seconds"]) if known else None

    def step(self, now: datetime) -> timedelta | None:
        """Return by how much the wall clock, which says ``now``, was set since the last call, be it that of a daemon
        before this one; None when it was not.
        """
        before, self._apart = self._apart, now - _EPOCH - timedelta(seconds=self._monotonic())
        if self._remembered is None or abs(self._apart - self._remembered) > _REMEMBERED_WITHIN:
            self._remembered = self._apart
            with contextlib.suppress(OSError):  # a full disk costs the next daemon this one step
                self._memories.save(_MEMORY, {"boot": self._boot, "apart_seconds": self._apart.total_seconds()})
        if before is None:
            return None
        by = self._apart - before
        return by if abs(by) > _TOLERATED else None
