"""The drawings of a report as values for inline SVG: lines over time with a promise across, and bars. Pure.

Coordinates are in a box of WIDTH x HEIGHT with y downwards, as SVG has it; nothing here knows HTML.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WIDTH, HEIGHT = 240.0, 56.0
_EDGE = 4.0
_MOST_DOTS = 60
_MOST_CORNERS = 200


@dataclass(frozen=True, slots=True)
class Chart:
    """A line over the period."""

    line: str
    """``points`` of the line; empty when there is nothing to draw."""
    area: str
    """The same down to the floor."""
    dots: tuple[tuple[float, float, bool], ...]
    """x, y, and whether the value is past the promise."""
    promise_y: float | None
    """Where the promise lies; None without one."""
    highest: float
    lowest: float


def chart(
    points: Sequence[tuple[datetime, float]],
    since: datetime,
    until: datetime,
    *,
    promise: float | None = None,
    steps: bool = False,
) -> Chart:
    """Draw values over the period, which spans the width; zero and the promise are always within the height.

    ``steps`` keeps each value until the next one comes, as the size of something does.
    """
    points = thinned(points)
    values = [value for _, value in points]
    highest = max([*values, promise or 0.0, 0.0])
    lowest = min([*values, 0.0])
    span = (highest - lowest) or 1.0
    whole = (until - since).total_seconds() or 1.0

    def x(at: datetime) -> float:
        share = (at - since).total_seconds() / whole
        return _EDGE + min(max(share, 0.0), 1.0) * (WIDTH - 2 * _EDGE)

    def y(value: float) -> float:
        return HEIGHT - _EDGE - (value - lowest) / span * (HEIGHT - 2 * _EDGE)

    places = [(x(at), y(value)) for at, value in points]
    corners = places
    if steps:
        corners = [
            corner for n, (px, py) in enumerate(places) for corner in ((px, places[n - 1][1] if n else py), (px, py))
        ]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in corners)
    floor = y(max(lowest, 0.0))
    area = f"{corners[0][0]:.1f},{floor:.1f} {line} {corners[-1][0]:.1f},{floor:.1f}" if corners else ""
    late = [promise is not None and value > promise for value in values]
    marked = [] if steps or len(points) > _MOST_DOTS else list(zip(places, late, strict=True))
    dots = tuple((round(px, 1), round(py, 1), bad) for (px, py), bad in marked)
    return Chart(line, area, dots, y(promise) if promise is not None else None, highest, lowest)


def thinned(points: Sequence[tuple[datetime, float]]) -> Sequence[tuple[datetime, float]]:
    """Leave out points that nobody could tell apart, never the highest, the lowest, the first or the last."""
    if len(points) <= _MOST_CORNERS:
        return points
    ranked = sorted(range(len(points)), key=lambda n: points[n][1])
    kept = {0, ranked[0], ranked[-1], len(points) - 1} | set(range(0, len(points), len(points) // _MOST_CORNERS + 1))
    return [points[n] for n in sorted(kept)]


def per_slice(moments: Sequence[datetime], since: datetime, until: datetime, slices: int) -> list[int]:
    """Count moments by equal slices of a time."""
    counts = [0] * slices
    width = (until - since) / slices
    for moment in moments:
        counts[min(max(int((moment - since) / width), 0), slices - 1)] += 1
    return counts


def bars(counts: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """Return x, y, width and height of a bar for each count; the highest fills the height."""
    width = WIDTH / max(len(counts), 1)
    highest = max([*counts, 1])
    return [
        (round(n * width + 1, 1), round(HEIGHT * (1 - count / highest), 1), round(width - 2, 1),
         round(HEIGHT * count / highest, 1))
        for n, count in enumerate(counts)
    ]  # fmt: skip


def slice_starts(since: datetime, until: datetime, slices: int) -> list[datetime]:
    """Return when each slice begins."""
    width: timedelta = (until - since) / slices
    return [since + n * width for n in range(slices)]
