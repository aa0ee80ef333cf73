"""Readings and results in words."""

import pytest

from config.checks import TYPES, readings_of
from monitor.result import Reading
from monitor.wording import describe, format_value, one_line


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.915, "ratio", "91.5 %"),
        (0.0271, "ratio", "2.71 %"),
        (0.9999, "ratio", "100 %"),
        (0.0, "ratio", "0 %"),
        (12.3 * 2**30, "bytes", "12.3 GiB"),
        (1536, "bytes_per_second", "1.5 KiB/s"),
        (7500, "seconds", "2h 5m"),
        (-86_400, "seconds", "-1d"),
        (48.5, "celsius", "48.5 °C"),
        (1200, "rpm", "1200 rpm"),
        (2.5, "per_second", "2.5/s"),
        (82, "count", "82"),
        (0.15923, "number", "0.159"),
        (1, "something new", "1"),
    ],
)
def test_a_value_is_written_in_units_that_people_read(value: float, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


@pytest.mark.parametrize("kind", [kind for kind in TYPES if readings_of(kind)])
def test_every_reading_can_be_told(kind: str) -> None:
    for name, unit in readings_of(kind).items():
        line = describe(kind, "the thing", [Reading(name, 1, unit)], None)
        assert "{" not in line
        assert format_value(1, unit) in line


def test_a_full_disk_says_that_nothing_is_free() -> None:
    figures = (("used", 1.0, "ratio"), ("free_bytes", 0, "bytes"), ("total_bytes", 2**30, "bytes"))
    readings = [Reading(*figure) for figure in figures]
    assert describe("disk", "/", readings, None) == "/ is 100 % full, 0 B free of 1 GiB"


def test_text_from_outside_becomes_one_printable_line() -> None:
    assert one_line("  two\nlines\tand\x00\x1b[0m 数据 ") == "two lines and [0m 数据"
    assert len(one_line("x" * 9999)) == 500
