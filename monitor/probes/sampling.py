"""Counters into rates: two looks at what only ever grows, and the time between them.

The window normally reaches from the last run to this one. Where there is no last look, or the counters went backwards
in between (a driver reloaded, an interface made anew), it is a short one of its own: rates since boot, negative rates
and zeros that nobody measured would all be lies.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

SHORTEST_SECONDS = 0.2
"""Length of the window that is opened when there is no earlier look to measure from."""

Raw = TypeVar("Raw")
Counters = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Timing:
    """How time passes: a monotonic clock in seconds, and a way to wait."""

    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


REAL_TIME = Timing()


@dataclass(frozen=True, slots=True)
class Window(Generic[Raw]):
    """What the counters did for ``seconds``."""

    seconds: float
    growth: Counters
    """Entity -> how much each counter grew, never negative. Only entities that were there at both ends."""
    latest: Raw
    """The newer look as it was read."""


@dataclass(frozen=True, slots=True)
class _Look(Generic[Raw]):
    at: float
    raw: Raw
    counters: Counters


class Sampler(Generic[Raw]):
    """Keeps the last look at counters. ``slack`` is how far back a counter may wobble and still be the same one."""

    def __init__(
        self,
        read: Callable[[], Raw],
        counters: Callable[[Raw], Counters],
        timing: Timing,
        slack: float = 0.0,
    ) -> None:
        self._read = read
        self._counters = counters
        self._timing = timing
        self._slack = slack
        self._last: _Look[Raw] | None = None

    def window(self) -> Window[Raw]:
        """Look now and return the window since the last call; takes ``SHORTEST_SECONDS`` when it has to open one."""
        before, now = self._last, self._look()
        if before is None or now.at - before.at < SHORTEST_SECONDS or self._went_back(before, now):
            self._timing.pause(SHORTEST_SECONDS)
            before, now = now, self._look()
        self._last = now
        growth = {
            entity: tuple(max(0.0, new - old) for old, new in zip(before.counters[entity], counters, strict=True))
            for entity, counters in now.counters.items()
            if entity in before.counters
        }
        return Window(max(now.at - before.at, 1e-6), growth, now.raw)

    def _look(self) -> _Look[Raw]:
        raw = self._read()
        return _Look(self._timing.monotonic(), raw, self._counters(raw))

    def _went_back(self, before: _Look[Raw], now: _Look[Raw]) -> bool:
        return any(
            new < old - self._slack
            for entity, counters in now.counters.items()
            for old, new in zip(before.counters.get(entity, counters), counters, strict=True)
        )
