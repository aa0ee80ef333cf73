"""Durations and sizes: what an operator may write, what is refused, and that writing and reading agree."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.units import (
    duration_text,
    format_duration,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
    share_text,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("1h 30m", 5400), ("250ms", 0.25), ("1.5d", 129_600), ("2w", 1_209_600), ("0s", 0)],
)
def test_a_duration_is_number_and_unit_pairs(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", 5, 5.0, None, "5 minutes", "5M", "-5m", "1h 30", "m", True, "1h,30m"])
def test_what_is_not_a_duration_is_refused_naming_the_units(text: object) -> None:
    with pytest.raises(ValueError, match="ms, s, m, h, d, w or y"):
        parse_duration(text)


def test_a_duration_beyond_all_calendars_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="longer than anything lasts"):
        parse_duration("99999999999y")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_500)))
def test_every_duration_is_read_back_exactly(value: timedelta) -> None:
    assert parse_duration(duration_text(value)) == value


@pytest.mark.parametrize(
    ("text", "count"),
    [("20 MiB", 20 << 20), ("20MiB", 20 << 20), ("1.5 kB", 1500), ("7 B", 7), ("7", 7), (7, 7), ("2 TB", 2 * 10**12)],
)
def test_a_size_is_a_number_and_a_unit(text: object, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "5 M", "5 mib", "5 KB", -1, True, 1.5, None, "-5 B", "5 MiB/s"])
def test_what_is_not_a_size_is_refused_naming_the_units(text: object) -> None:
    with pytest.raises(ValueError, match="KiB"):
        parse_size(text)


@given(st.integers(0, 2**62))
def test_every_size_is_read_back_exactly(value: int) -> None:
    assert parse_size(size_text(value)) == value


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("0 %", 0), ("12.5%", 0.125), (1, 1), (0.25, 0.25)])
def test_a_share_is_a_percentage(text: object, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "50", "101%", "-1%", 1.5, -0.1, True, None, "half", float("nan")])
def test_what_is_not_a_share_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="from 0% to 100%"):
        parse_share(text)


@given(st.integers(0, 10_000))
def test_every_share_is_read_back(hundredths: int) -> None:
    assert parse_share(share_text(hundredths / 10_000)) == pytest.approx(hundredths / 10_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.34, "340 ms"), (3.21, "3.2 s"), (42, "42 s"), (7500, "2h 5m"), (86_400, "1d"), (90_061, "1d 1h"),
        (-4, "-4.0 s"),
    ],
)
def test_a_duration_is_shown_with_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512 B"), (1536, "1.5 KiB"), (1.46 * 2**30, "1.46 GiB"), (0, "0 B")])
def test_a_size_is_shown_with_three_digits(count: float, text: str) -> None:
    assert format_size(count) == text
