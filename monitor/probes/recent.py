"""How much a counter grew lately: for events that are told for a while after they happened.

A counter of errors since start would fire until the next restart of the machine; its growth between two runs would be
over before anybody has read the message.
"""

import time
from collections import deque
from collections.abc import Callable


class Recent:
    """Growth of one counter within the last ``window_seconds``. What it stood at first is nobody's news."""

    def __init__(self, window_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._window_seconds = window_seconds
        self._monotonic = monotonic
        self._last: float | None = None
        self._grown: deque[tuple[float, float]] = deque()

    def see(self, total: float) -> float:
        """Take the counter as it stands and return how much it grew lately; one that went back began anew at 0."""
        now = self._monotonic()
        if self._last is not None and total != self._last:
            self._grown.append((now, total - self._last if total > self._last else total))
        self._last = total
        while self._grown and now - self._grown[0][0] >= self._window_seconds:
            self._grown.popleft()
        return sum(growth for _, growth in self._grown)


class RecentByEntity:
    """The same for a counter of each of many things."""

    def __init__(self, window_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._window_seconds = window_seconds
        self._monotonic = monotonic
        self._counters: dict[str, Recent] = {}

    def see(self, totals: dict[str, float]) -> dict[str, float]:
        """Take all counters and return the growth of each; those that are gone are forgotten."""
        self._counters = {
            name: self._counters.get(name) or Recent(self._window_seconds, self._monotonic) for name in totals
        }
        return {name: self._counters[name].see(total) for name, total in totals.items()}
