"""Durations, sizes and ratios as an operator writes them: ``90s``, ``1h30m``, ``20 MiB``, ``85%``.

Refuses to guess: a bare number is not a duration, ``5 M`` is neither minutes nor megabytes, and a unit it does not
know is an error that names the ones it does.
"""

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from config.said import Said

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_BYTES = {
    "B": 1,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdwy])\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_duration(text: object) -> timedelta:
    """Turn ``"1h30m"`` into a timedelta. Raises ValueError for anything that is not number-and-unit pairs."""
    if isinstance(text, timedelta):
        return text
    if isinstance(text, str):
        parts = list(_DURATION_PART.finditer(text.strip()))
        if parts and "".join(p.group(0) for p in parts) == text.strip():
            try:
                seconds = sum(Decimal(p.group(1)) * Decimal(str(_SECONDS[p.group(2)])) for p in parts)
                return timedelta(microseconds=round(seconds * 10**6))  # floats lose microseconds beyond a century
            except OverflowError:
                raise ValueError("longer than anything lasts") from None
    raise ValueError("not a duration; write a number and a unit: ms, s, m, h, d, w or y, such as 90s or 1h30m")


def parse_size(text: object) -> int:
    """Turn ``"20 MiB"`` into bytes. A bare integer counts bytes. Raises ValueError otherwise."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    if isinstance(text, str) and (match := _SIZE.fullmatch(text.strip())):
        number, unit = match.groups()
        if (unit or "B") in _BYTES:
            return round(Decimal(number) * _BYTES[unit or "B"])
    raise ValueError(f"not a size; write a number and a unit: {', '.join(_BYTES)}, such as 20 MiB")


def parse_rate(text: object) -> float:
    """Turn ``"20 MiB/s"`` into bytes per second, ``"unlimited"`` into infinity. Raises ValueError otherwise."""
    if text == "unlimited" or text == math.inf:
        return math.inf
    if isinstance(text, str) and (size := re.fullmatch(r"(.+?)\s*/\s*s", text.strip())):
        rate = float(parse_size(size[1]))
        if rate > 0:
            return rate
        raise ValueError("nothing would ever arrive; write a rate above 0, or leave it out for no limit")
    raise ValueError("not a rate; write a size for each second, such as 20 MiB/s, or unlimited")


def parse_share(text: object) -> float:
    """Turn ``"85%"`` into 0.85; a bare number from 0 to 1 is a share already. Raises ValueError otherwise."""
    share = math.nan
    if isinstance(text, int | float) and not isinstance(text, bool):
        share = float(text)
    elif isinstance(text, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())):
        share = float(match[1]) / 100
    if not 0 <= share <= 1:
        raise ValueError("not a share; write a percentage from 0% to 100%, such as 50%")
    return share


def format_duration(value: timedelta | float) -> Said:
    """Write a duration (or seconds) with its two largest units: ``2h 5m``, ``3.2 s``, ``340 ms``."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        return Said("-%(time)s", time=format_duration(-seconds))
    if seconds < 1:
        return Said("%(count)s ms", count=f"{seconds * 1000:.0f}")
    if seconds < 60:
        return Said("%(count)s s", count=f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}")
    whole, parts = round(seconds), []
    for unit, size in (("%(count)sd", 86_400), ("%(count)sh", 3600), ("%(count)sm", 60), ("%(count)ss", 1)):
        if whole >= size:
            parts.append(Said(unit, count=whole // size))
            whole %= size
    return parts[0] if len(parts) == 1 else Said("%(first)s %(second)s", first=parts[0], second=parts[1])


def duration_text(value: timedelta) -> str:
    """Write a duration so that :func:`parse_duration` reads it back exactly."""
    for unit in ("w", "d", "h", "m", "s"):
        count, rest = divmod(value, timedelta(seconds=_SECONDS[unit]))
        if not rest and (count or unit == "s"):
            return f"{count}{unit}"
    whole, rest = divmod(value, timedelta(milliseconds=1))
    return f"{whole}.{rest.microseconds:03}ms" if rest else f"{whole}ms"


def size_text(value: int) -> str:
    """Write a size so that :func:`parse_size` reads it back exactly: ``20 MiB``, ``1500 kB``, ``7 B``."""
    for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]} {unit}"
    return f"{value} B"


def rate_text(value: float) -> str:
    """Write a rate so that :func:`parse_rate` reads it back exactly: ``20 MiB/s``."""
    return "unlimited" if value == math.inf else f"{size_text(round(value))}/s"


def share_text(value: float) -> str:
    """Write a share so that :func:`parse_share` reads it back: ``85%``."""
    return f"{value * 100:.10g}%"


def format_size(value: float) -> str:
    """Write bytes with a binary unit and three significant digits: ``1.46 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} PiB"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?\s*(ms|[smhdwy])\s*)+$", "examples": ["30s", "1h30m"]}),
]
ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(size_text, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["20 MiB"]}, {"type": "integer", "minimum": 0}]}),
]
ByteRate = Annotated[
    float,
    BeforeValidator(parse_rate),
    PlainSerializer(rate_text, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["20 MiB/s", "unlimited"]}),
]
Share = Annotated[
    float,
    BeforeValidator(parse_share),
    PlainSerializer(share_text, return_type=str),
    WithJsonSchema({"type": ["string", "number"], "minimum": 0, "maximum": 1, "examples": ["50%"]}),
]
