"""What is usual for a reading at this hour of the week: median and spread of the same hour in the weeks before.

Robust by median and median absolute deviation, so that last week's accident is not this week's normal. For the eye on
the page only: nobody is paged for being unusual. Pure but for what it remembers of history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from statistics import median

from monitor.history import History
from monitor.store import MonitorStoreError

_WEEKS = 8
_LEAST_HOURS = 6
"""Fewer hours on record say nothing; the hours beside the one in question count, so this is two weeks."""
_NORMAL = 1.4826
"""Median absolute deviation to standard deviation, for what is normally distributed."""
_LEAST_SPREAD = 0.02
"""Share of the median below which a spread is not believed: what never moved may move a little."""
_CLOSE = 3.0
"""How many spreads around the median are usual."""
_KEEP = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Usual:
    """Middle and spread (as a standard deviation) of a reading at some hour of the week."""

    middle: float
    spread: float

    @property
    def low(self) -> float:
        """The lower end of what is usual."""
        return self.middle - _CLOSE * self.spread

    @property
    def high(self) -> float:
        """The upper end of what is usual."""
        return self.middle + _CLOSE * self.spread

    def deviations(self, value: float) -> float:
        """How many spreads ``value`` is away."""
        return abs(value - self.middle) / self.spread if self.spread else 0.0


def usual_of(means: Sequence[float]) -> Usual | None:
    """Return what those hours amount to; None when they are too few."""
    if len(means) < _LEAST_HOURS:
        return None
    middle = median(means)
    spread = _NORMAL * median(abs(value - middle) for value in means)
    return Usual(middle, max(spread, _LEAST_SPREAD * abs(middle)))


def same_hours(now: datetime, zone: tzinfo) -> list[datetime]:
    """Return this hour of the week, and those beside it, in the weeks before: by the clock of ``zone``, as people
    live.
    """
    local = now.astimezone(zone).replace(tzinfo=None)
    return [
        (local - timedelta(weeks=week) + timedelta(hours=beside)).replace(tzinfo=zone)
        for week in range(1, _WEEKS + 1)
        for beside in (-1, 0, 1)
    ]


class UsualRanges:
    """Remembers for an hour what is usual, of the series last asked about. One thread at a time."""

    def __init__(self, history: History, zone: tzinfo, most_a_call: int = 200) -> None:
        """``most_a_call``: how many series one ``refresh`` looks up, so that ten thousand hold nobody up."""
        self._history, self._zone, self._most = history, zone, most_a_call
        self._known: dict[tuple[str, str], tuple[datetime, Usual | None]] = {}

    def refresh(self, series: Sequence[tuple[str, str, str]], now: datetime) -> None:
        """Look up some of what is not known for this hour. ``series``: check, entity, reading."""
        if len(self._known) > len(series):
            for gone in self._known.keys() - {(check, entity) for check, entity, _ in series}:
                del self._known[gone]
        hours: list[datetime] | None = None
        left = self._most
        for check, entity, reading in series:
            known = self._known.get((check, entity))
            if known is not None and abs(now - known[0]) < _KEEP:
                continue
            hours = hours or same_hours(now, self._zone)
            try:
                found = usual_of(self._history.at_hours(check, entity, reading, hours))
            except MonitorStoreError:
                return  # told elsewhere; the page shows less meanwhile
            self._known[check, entity] = (now, found)
            left -= 1
            if left == 0:
                return

    def of(self, check: str, entity: str) -> Usual | None:
        """Return what is usual now for an entity's main reading, as far as known."""
        known = self._known.get((check, entity))
        return known[1] if known else None
