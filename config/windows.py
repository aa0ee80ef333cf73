"""Times of the week as an operator writes them: ``mon-fri 08:00-19:00``, ``sat,sun 00:00-24:00``, ``22:00-06:00``.

A window is a value that can say whether a moment lies in it; whose time zone that is, the caller decides.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"([01]?\d|2[0-3]):([0-5]\d)|(24):(00)"
_WINDOW = re.compile(rf"(?:([a-z,-]+)\s+)?(?:{_CLOCK})\s*-\s*(?:{_CLOCK})")
_FORMS = "not a window of the week; write days and times, such as 'mon-fri 08:00-19:00' or '22:00-06:00'"
_MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """From ``start`` until before ``end``, both in minutes of the day, on ``days`` (0 is Monday).

    A window that ends before it starts goes on after midnight, and belongs to the day on which it starts.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a window. Raises ValueError that shows how one is written."""
        match = _WINDOW.fullmatch(text.strip().lower()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(_FORMS)
        days, *clock = match.groups()
        start, end = _minutes(clock[:4]), _minutes(clock[4:])
        if start in (end, _MINUTES_A_DAY):
            raise ValueError("a window that never begins, or never ends; write 00:00-24:00 for a whole day")
        return cls(_days(days or "daily"), start, end)

    def contains(self, moment: datetime) -> bool:
        """Whether a moment, in the time zone in which the window is meant, lies in it."""
        day, minute = moment.weekday(), moment.hour * 60 + moment.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def _minutes(clock: list[str | None]) -> int:
    hours, minutes = (part for part in clock if part is not None)
    return int(hours) * 60 + int(minutes)


def _days(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ValueError(f"not a day of the week: '{part}'; write {', '.join(_DAYS)}, or mon-fri")
        begin = _DAYS.index(first)
        length = (_DAYS.index(last) - begin) % 7 if dash else 0
        found.update((begin + step) % 7 for step in range(length + 1))
    return frozenset(found)
