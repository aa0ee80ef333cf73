"""What a Nagios plugin prints: text for people, and performance data as readings in base units.

Format: https://www.monitoring-plugins.org/doc/guidelines.html, "Plugin Output for Nagios" and "Performance data";
units beyond it as Icinga 2 reads them. Thresholds in the data are the plugin's own and not judged again: its exit code
says what it thinks of them.
"""

import math
import re
from dataclasses import dataclass

from monitor.result import Reading

_WORD = re.compile(r"\S*")
_VALUE = re.compile(r"([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?)([^\d\s]*)")
_UNITS: dict[str, tuple[str, float]] = {
    "": ("number", 1),
    "c": ("count", 1),
    "%": ("ratio", 0.01),
    "ns": ("seconds", 1e-9),
    "us": ("seconds", 1e-6),
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1),
    "m": ("seconds", 60),
    "h": ("seconds", 3600),
    "d": ("seconds", 86_400),
    "b": ("bytes", 1),
    "c°": ("celsius", 1),
    "celsius": ("celsius", 1),
} | {
    f"{letter}{middle}b": ("bytes", base**power)
    for power, letter in enumerate("kmgtp", start=1)
    for middle, base in (("", 1000), ("i", 1024))
}
"""Unit in lower case -> ours, and the factor to it."""
MOST_READINGS = 200


@dataclass(frozen=True, slots=True)
class PluginOutput:
    """``text``: the first line, for people. ``details``: the further lines. ``faults``: what could not be read."""

    text: str
    details: str
    readings: tuple[Reading, ...]
    faults: tuple[str, ...]


def parse_output(output: str) -> PluginOutput:
    """Take a plugin's output apart: text and data on the first line, then more text, and more data after its ``|``."""
    first, _, rest = output.partition("\n")
    text, _, data = first.partition("|")
    details, _, more_data = rest.partition("|")
    readings, faults = parse_perfdata(f"{data} {more_data}")
    return PluginOutput(text.strip(), details.strip(), readings, faults)


def parse_perfdata(data: str) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
    """Return readings, and the pieces that are none. ``U`` (the plugin could not tell) becomes NaN; the first of two
    with the same label counts; at most ``MOST_READINGS`` are kept.
    """
    readings: dict[str, Reading] = {}
    faults: list[str] = []
    data = data.strip()
    at = 0
    while at < len(data):
        label, value, end = _item(data, at)
        reading = _reading(label, value.split(";", 1)[0]) if label else None
        if reading is None:
            faults.append(data[at:end].strip())
        elif len(readings) == MOST_READINGS:
            faults.append(f"more than {MOST_READINGS} values")
            break
        else:
            readings.setdefault(label, reading)
        at = end
        while at < len(data) and data[at].isspace():
            at += 1
    return tuple(readings.values()), tuple(faults)


def _item(data: str, at: int) -> tuple[str, str, int]:
    """Return the label (empty for a piece that is no item), the value and the end of what starts at ``at``.

    Each character is looked at a fixed number of times, however broken the text is.
    """
    if data[at] == "'":
        closing = data.find("'", at + 1)
        while closing >= 0 and data[closing + 1 : closing + 2] == "'":
            closing = data.find("'", closing + 2)
        if closing < 0:
            return "", "", len(data)
        label, equals = data[at + 1 : closing].replace("''", "'"), closing + 1
    else:
        equals = data.find("=", at)
        if equals < 0:
            return "", "", len(data)
        label = data[at:equals]
    value = _WORD.match(data, equals)
    assert value
    end = max(value.end(), at + 1)
    if not value[0].startswith("="):
        return "", "", end
    return label.strip(), value[0][1:], end


def _reading(label: str, written: str) -> Reading | None:
    if written == "U":
        return Reading(label, math.nan, "number")
    match = _VALUE.fullmatch(written)
    if match is None or match[2].lower() not in _UNITS:
        return None
    unit, factor = _UNITS[match[2].lower()]
    return Reading(label, float(match[1].replace(",", ".")) * factor, unit)
