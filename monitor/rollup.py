"""Readings of a stretch of time in five numbers, and how such stretches add up. Pure arithmetic; keeps nothing.

Least, mean and greatest add up exactly. The 95th percentile is exact for the stretch it was made of; of several
stretches together it is the weighted 95th percentile of theirs, which is close and never beyond the greatest.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FIVE_MINUTES_MS = 5 * 60_000
HOUR_MS = 60 * 60_000
SPANS_MS = (FIVE_MINUTES_MS, HOUR_MS)


@dataclass(frozen=True, slots=True)
class Rollup:
    """What ``count`` readings from ``at_ms`` (milliseconds since 1970 in UTC) on amount to."""

    at_ms: int
    count: int
    low: float
    mean: float
    high: float
    p95: float


def roll_up(at_ms: int, values: Sequence[float]) -> Rollup:
    """Return what finite readings, at least one, amount to."""
    ordered = sorted(values)
    p95 = ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]
    return Rollup(at_ms, len(ordered), ordered[0], math.fsum(ordered) / len(ordered), ordered[-1], p95)


def merge(parts: Iterable[Rollup], width_ms: int) -> list[Rollup]:
    """Add up what lies within the same ``width_ms``, oldest first."""
    by_start: dict[int, list[Rollup]] = {}
    for part in parts:
        by_start.setdefault(part.at_ms - part.at_ms % width_ms, []).append(part)
    return [_sum(start, by_start[start]) for start in sorted(by_start)]


def _sum(at_ms: int, parts: Sequence[Rollup]) -> Rollup:
    count = sum(part.count for part in parts)
    mean = math.fsum(part.mean * part.count for part in parts) / count
    reached = 0
    p95 = -math.inf
    for part in sorted(parts, key=lambda one: one.p95):
        reached += part.count
        p95 = part.p95
        if reached >= 0.95 * count:
            break
    return Rollup(at_ms, count, min(part.low for part in parts), mean, max(part.high for part in parts), p95)


class Accumulator:
    """Gathers one series' readings as they come, and gives away each stretch as it ends. One thread at a time."""

    __slots__ = ("_from", "_starts", "_values", "last_ms")

    def __init__(self, at_ms: int) -> None:
        """``at_ms``: when the first reading was."""
        self._values: array[float] = array("d")
        self._from = [0, 0]
        self._starts = [at_ms - at_ms % span for span in SPANS_MS]
        self.last_ms = at_ms
        """When the latest reading was."""

    def add(self, at_ms: int, value: float) -> list[tuple[int, Rollup]]:
        """Take a reading; return what ended before it, with its span in milliseconds."""
        ended = self.end(at_ms)
        self._values.append(value)
        self.last_ms = at_ms
        return ended

    def end(self, now_ms: int) -> list[tuple[int, Rollup]]:
        """Return the stretches that are over now, each once."""
        ended = []
        for index, span in enumerate(SPANS_MS):
            start = now_ms - now_ms % span
            if start == self._starts[index]:
                continue
            if values := self._values[self._from[index] :]:
                ended.append((span, roll_up(self._starts[index], values)))
            self._from[index] = len(self._values)
            self._starts[index] = start
        if self._from[1] == len(self._values):  # the longest one is over: nobody needs them any more
            del self._values[:]
            self._from = [0, 0]
        return ended
