"""Numbers and moments in words, and the small drawings of the page. Pure functions; nothing here knows HTML.

Refuses to be exact where exactness is noise: the exact moment stands in the tooltip, the exact number in /metrics.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from config.said import Said, Say
from config.units import format_duration, format_size
from monitor.result import Reading

_STEPS = (
    (100, 1, "%(count)s s"), (100 * 60, 60, "%(count)s min"), (48 * 3600, 3600, "%(count)s h"),
    (60 * 86_400, 86_400, "%(count)s d"),
)  # fmt: skip
SPARK_WIDTH, SPARK_HEIGHT = 100, 24
_LEAST_SPAN = 0.2
"""A trend is never zoomed in beyond this share of its largest value, so that noise looks like noise."""


def zone_of(name: str) -> tzinfo:
    """Return the named zone; UTC when this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def span(seconds: float) -> Said:
    """Write a distance in time with one unit: ``42 s``, ``95 min``, ``26 h``, ``12 d``."""
    seconds = max(seconds, 0.0)
    for limit, unit_seconds, text in _STEPS:
        if seconds < limit:
            return Said(text, count=f"{seconds // unit_seconds:.0f}")
    return Said("%(count)s months", count=f"{seconds // (30 * 86_400):.0f}")


def relative(moment: datetime, now: datetime, _: Say = Said) -> str:
    """Write a moment as seen from ``now``: ``just now``, ``3 min ago``, ``in 12 min``, ``now``."""
    seconds = (now - moment).total_seconds()
    if seconds >= 0:
        return _("just now") if seconds < 5 else _("%(time)s ago", time=span(seconds))
    return _("now") if seconds > -5 else _("in %(time)s", time=span(-seconds))


def absolute(moment: datetime, zone: tzinfo) -> str:
    """Write a moment in full in the given zone: ``2026-03-01 14:32:05 CET``."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def number(value: float) -> str:
    """Write a plain number with at most three significant digits and thousands apart: ``12,345``, ``0.42``."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def quantity(value: float, unit: str) -> str:
    """Write a reading's value in its unit: ``41.2 %``, ``1.46 GiB``, ``12 ms``, ``54 °C``."""
    if unit not in _WRITERS or not math.isfinite(value):
        return number(value)
    return _WRITERS[unit](value)


def _percent(value: float) -> str:
    percent = value * 100
    return f"{percent:.0f} %" if abs(percent) >= 10 or percent == int(percent) else f"{percent:.2g} %"


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "ratio": _percent,
    "bytes": format_size,
    "bytes_per_second": lambda value: f"{format_size(value)}/s",
    "seconds": lambda value: f"{value * 1000:.2g} ms" if 0 < abs(value) < 0.01 else format_duration(value),
    "celsius": lambda value: f"{value:.0f} °C",
    "rpm": lambda value: f"{value:,.0f} rpm",
    "per_second": lambda value: f"{number(value)}/s",
}


def reading_text(reading: Reading) -> str:
    """Write a reading's value."""
    return quantity(reading.value, reading.unit)


@dataclass(frozen=True, slots=True)
class Spark:
    """A small line chart in a box of SPARK_WIDTH x SPARK_HEIGHT: SVG ``points`` of the line, and of the area below."""

    line: str
    area: str
    description: str


def sparkline(values: Sequence[float], unit: str) -> Spark | None:
    """Draw recent values, oldest first; None when there are fewer than two finite ones. Ratios stand on 0 to 1."""
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return None
    low, high = min(finite), max(finite)
    floor, ceiling = (min(0.0, low), max(1.0, high)) if unit == "ratio" else _room(low, high)
    step = SPARK_WIDTH / (len(finite) - 1)
    scale = (SPARK_HEIGHT - 3) / (ceiling - floor)
    line = " ".join(f"{i * step:.1f},{SPARK_HEIGHT - 1.5 - (v - floor) * scale:.1f}" for i, v in enumerate(finite))
    description = Said(
        "last %(count)s readings: %(low)s to %(high)s", count=len(finite), low=quantity(low, unit),
        high=quantity(high, unit),
    )  # fmt: skip
    return Spark(line, f"0,{SPARK_HEIGHT} {line} {SPARK_WIDTH},{SPARK_HEIGHT}", description)


def _room(low: float, high: float) -> tuple[float, float]:
    span_ = max(high - low, _LEAST_SPAN * max(abs(low), abs(high)), 1e-9)
    middle = (low + high) / 2
    floor = middle - span_ / 2
    return (max(floor, 0.0) if low >= 0 else floor), middle + span_ / 2
