"""Judged readings in words: one line for people, the value against its bound, in units that they read.

Pure text: it neither judges nor measures. ``subject`` is what the check is about (a path, an address, a program).
"""

from collections.abc import Sequence

from config.said import Said, listed
from config.units import format_duration, format_size
from monitor.judge import Breach, held_by
from monitor.phrases import BESIDE, OF, PHRASES
from monitor.result import Reading


def describe(check_type: str, subject: str, readings: Sequence[Reading], breach: Breach | None) -> str:
    """Return one line: the reading that matters (the main one when all is well), its bound, what stands beside it."""
    if not readings:
        nothing = Said("nothing measured")
        return Said("%(subject)s: %(what)s", subject=subject, what=nothing) if subject else nothing
    about = breach.reading if breach else readings[0]
    phrase = PHRASES.get((check_type, about.name), "%(name)s is %(value)s")
    value = format_value(about.value, about.unit)
    told: list[str] = [Said(phrase, subject=subject or check_type, value=value, name=about.name)]
    if breach:
        told.append(_against_bound(breach))
    sentence = len(told)
    by_name = {reading.name: reading for reading in readings if reading.name != about.name}
    for name, words in BESIDE.get(check_type, ()):
        if name in by_name and (by_name[name].value or name == "free_bytes"):
            value = format_value(by_name[name].value, by_name[name].unit)
            if words != OF:
                told.append(Said(words, value=value))
            elif len(told) > sentence:
                told[-1] = Said(OF, before=told[-1], value=value)
    return listed(told)


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
    if flat == text and len(flat) <= limit:
        return text
    if isinstance(text, Said) and len(flat) <= limit:
        return Said(text.text, **{k: one_line(v, limit) if isinstance(v, str) else v for k, v in text.values.items()})
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _against_bound(breach: Breach) -> str:
    status = Said(breach.status.label)
    if not breach.held:
        return Said("%(status)s at %(bound)s", status=status, bound=breach.bound.raise_.written)
    fine = held_by(breach.bound, breach.reading).opposite()
    bound = format_value(fine.bound, breach.reading.unit)
    return Said("%(status)s until %(operator)s %(bound)s", status=status, operator=fine.op, bound=bound)
