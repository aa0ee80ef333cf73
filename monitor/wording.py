"""Judged readings in words: one line for people, the value against its bound, in units that they read.

Pure text: it neither judges nor measures. ``subject`` is what the check is about (a path, an address, a program).
"""

from collections.abc import Sequence

from config.units import format_duration, format_size
from monitor.judge import Breach, held_by
from monitor.phrases import BESIDE, PHRASES
from monitor.result import Reading


def describe(check_type: str, subject: str, readings: Sequence[Reading], breach: Breach | None) -> str:
    """Return one line: the reading that matters (the main one when all is well), its bound, what stands beside it."""
    if not readings:
        return f"{subject}: nothing measured" if subject else "nothing measured"
    about = breach.reading if breach else readings[0]
    phrase = PHRASES.get((check_type, about.name), "{name} is {value}")
    line = phrase.format(subject=subject or check_type, value=format_value(about.value, about.unit), name=about.name)
    if breach:
        line += f", {_against_bound(breach)}"
    by_name = {reading.name: reading for reading in readings if reading.name != about.name}
    for name, words in BESIDE.get(check_type, ()):
        if name in by_name and (by_name[name].value or name == "free_bytes"):
            line += "" if words.startswith(" ") else ", "
            line += words.format(value=format_value(by_name[name].value, by_name[name].unit))
    return line


def format_value(value: float, unit: str) -> str:
    """Write a number of a base unit (see :class:`Reading`) for people: ``91 %``, ``12.3 GiB``, ``2h 5m``, ``48 °C``."""
    if unit == "ratio":
        return f"{value * 100:.3g} %" if abs(value) < 0.995 else f"{value * 100:.0f} %"
    if unit == "bytes":
        return format_size(value)
    if unit == "bytes_per_second":
        return f"{format_size(value)}/s"
    if unit == "seconds":
        return format_duration(value)
    number = f"{value:.0f}" if value == int(value) else f"{value:.3g}"
    return number + {"celsius": " °C", "rpm": " rpm", "per_second": "/s"}.get(unit, "")


def one_line(text: str, limit: int = 500) -> str:
    """Return ``text`` without line breaks and control characters, cut to ``limit`` characters."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _against_bound(breach: Breach) -> str:
    if not breach.held:
        return f"{breach.status.label} at {breach.bound.raise_.written}"
    fine = held_by(breach.bound, breach.reading).opposite()
    return f"{breach.status.label} until {fine.op} {format_value(fine.bound, breach.reading.unit)}"
