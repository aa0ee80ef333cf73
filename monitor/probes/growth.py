"""Counters between two runs: how much each grew, and what share of the growth one of them has.

A server that restarted counts from 0 again: its counter then grew by what it shows. At the first run nothing is known.
"""

from collections.abc import Mapping


class Growth:
    """Keeps counters by name."""

    def __init__(self) -> None:
        self._last: Mapping[str, float] = {}
        self._grown: dict[str, float] = {}

    def see(self, counters: Mapping[str, float]) -> None:
        """Take the counters as they stand now."""
        self._grown = {
            name: value - self._last[name] if value >= self._last[name] else value
            for name, value in counters.items()
            if name in self._last
        }
        self._last = dict(counters)

    def of(self, name: str) -> float | None:
        """Return how much a counter grew since the run before; None when that is not known."""
        return self._grown.get(name)

    def share(self, part: str, rest: str) -> float | None:
        """Return the share of ``part`` in the growth of both; None when neither grew, or it is not known."""
        one, other = self._grown.get(part), self._grown.get(rest)
        if one is None or other is None or one + other <= 0:
            return None
        return one / (one + other)
