"""When a reading will reach something, should it go on like this: slopes, their doubts, and a range. Pure arithmetic.

The slope is Theil and Sen's (Theil 1950, Sen 1968): the median of the slopes between all pairs of points, so that up to
29 % of wild points change nothing. The doubt is the middle half of those slopes. A forecast is believed when

- the long window and its last sixth rise (or fall) alike: a burst that is over, or a plateau, is no trend,
- nearly all of the middle half runs the same way: noise around a level is none either,
- and it was so, evaluated anew, all through ``agreed_for``.

Refuses to see what is not in the points: no seasons, no releases, no month ends.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from config.checks.forecast import ForecastLevel, ForecastSettings, quantity
from config.said import Said
from config.units import format_duration
from monitor.result import Status

Point = tuple[float, float]
"""Seconds (since whenever), value."""

LOOKS = 5
"""How many times ``agreed_for`` is looked at, its ends included."""
_SHORT_SHARE = 1 / 6
_LEAST_POINTS = 6
_LEAST_SHARE = 0.5
"""How much of a window its points have to cover."""
_MOST_POINTS = 90
"""More are thinned out: pairs grow with the square, and certainty does not."""
_ALIKE = 3.0
"""Slopes of the two windows may differ by this factor."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Change a second: the median of all pairs, and the quarter and three quarters of them."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """In how many seconds the reading reaches its bound: at the earliest, most likely, at the latest (inf: never)."""

    earliest_seconds: float
    likely_seconds: float
    latest_seconds: float

    def text(self) -> Said:
        """Write the range: ``in 3h 10m to 5h 2m``."""
        early, late = (format_duration(max(s, 0.0)) for s in (self.earliest_seconds, self.likely_seconds))
        if math.isfinite(self.latest_seconds):
            late = format_duration(self.latest_seconds)
            if early == late:
                return Said("in %(time)s", time=early)
            return Said("in %(early)s to %(late)s", early=early, late=late)
        return Said("in %(early)s at the earliest, most likely in %(late)s", early=early, late=late)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A rule with what its reading is heading for."""

    status: Status
    """OK when nothing comes of it soon enough."""
    outlook: Outlook | None
    """None without a trend that can be believed."""
    text: str = ""
    """One line for people; empty without an outlook."""


def theil_sen(points: Sequence[Point]) -> Slope | None:
    """Return the slope through points of distinct times; None for fewer than six, or when they all have one time."""
    if len(points) < _LEAST_POINTS:
        return None
    thinned = points[:: max(1, math.ceil(len(points) / _MOST_POINTS))]
    slopes = sorted(
        (y2 - y1) / (x2 - x1)
        for index, (x1, y1) in enumerate(thinned)
        for x2, y2 in thinned[index + 1 :]
        if x2 != x1
    )
    if not slopes:
        return None
    return Slope(median(slopes), slopes[len(slopes) // 4], slopes[len(slopes) * 3 // 4])


def outlook(points: Sequence[Point], target: float, over_seconds: float, at: float) -> Outlook | None:
    """Return when the reading will be at ``target``, as seen at the moment ``at`` (in the points' seconds), by the
    points of the ``over_seconds`` before it. None when there is no believable way there.
    """
    long = _window(points, at - over_seconds, at)
    short = _window(points, at - over_seconds * _SHORT_SHARE, at)
    if not _covers(long, over_seconds) or not _covers(short, over_seconds * _SHORT_SHARE):
        return None
    slope, newest = theil_sen(long), theil_sen(short)
    if slope is None or newest is None:
        return None
    now = median(value for _, value in short[-3:])
    way = math.copysign(1.0, target - now)
    far, near = slope.middle * way, newest.middle * way
    # The short window is noisy by nature; it has to agree, and the long one has to be sure.
    certain = min(slope.low * way, slope.high * way)
    if far <= 0 or near <= 0 or certain <= 0 or not 1 / _ALIKE <= near / far <= _ALIKE:
        return None
    distance = abs(target - now)
    fastest = max(far, near, slope.low * way, slope.high * way)
    return Outlook(distance / fastest, distance / far, distance / min(far, near, certain))


def forecast(
    rule: ForecastSettings, points: Sequence[Point], now: float, reading: str, before: Status = Status.OK
) -> Forecast:
    """Judge one rule by all points of ``over`` and ``agreed_for`` before ``now``. ``before``: its last status, which
    ends only when the outlook is a quarter further away than it has to be for it to begin.
    """
    target = quantity(rule.reaches).bound
    agreed = rule.agreed_for.total_seconds()
    looks = [now - agreed * step / (LOOKS - 1) for step in range(LOOKS)]
    seen = [outlook(points, target, rule.over.total_seconds(), at) for at in looks]
    newest = seen[0]
    if newest is None or not points:
        return Forecast(Status.OK, None)
    value = points[-1][1]
    text = Said(
        "%(reading)s reaches %(bound)s %(when)s, should it go on like this", reading=reading, bound=str(rule.reaches),
        when=newest.text(),
    )  # fmt: skip
    for status, level in ((Status.CRITICAL, rule.critical), (Status.WARNING, rule.warning)):
        if level is not None and _holds(level, zip(looks, seen, strict=True), now, value, sticky=before >= status):
            return Forecast(status, newest, text)
    return Forecast(Status.OK, newest, text)


def _holds(
    level: ForecastLevel, seen: Iterable[tuple[float, Outlook | None]], now: float, value: float, *, sticky: bool
) -> bool:
    within = level.within.total_seconds() * (1.25 if sticky else 1.0)
    if level.when is not None:
        bound = level.when.default_clear() if sticky else level.when
        if not bound.is_past(value):
            return False
    # What is four hours away now was five hours away an hour ago, by the same forecast.
    return all(
        found is not None and found.likely_seconds <= within + (now - at)
        for at, found in seen
        if at == now or not sticky
    )


def needed(rule: ForecastSettings) -> timedelta:
    """How far back points are needed."""
    return rule.over + rule.agreed_for


def point_spacing(rule: ForecastSettings) -> timedelta:
    """How close points have to lie for both windows to have enough of them."""
    return max(timedelta(minutes=1), min(timedelta(hours=1), rule.over * _SHORT_SHARE / (2 * _LEAST_POINTS)))


def _window(points: Sequence[Point], begin: float, end: float) -> list[Point]:
    return [point for point in points if begin <= point[0] <= end]


def _covers(points: Sequence[Point], seconds: float) -> bool:
    return len(points) >= _LEAST_POINTS and points[-1][0] - points[0][0] >= _LEAST_SHARE * seconds
