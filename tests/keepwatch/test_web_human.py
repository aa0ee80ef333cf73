"""Numbers and moments in words."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from keepwatch.web import human
from monitor.result import Reading

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"), (4.9, "just now"), (42, "42 s ago"), (99, "99 s ago"), (180, "3 min ago"),
        (95 * 60, "95 min ago"),
        (3 * 3600, "3 h ago"), (26 * 3600, "26 h ago"), (5 * 86_400, "5 d ago"), (90 * 86_400, "3 months ago"),
        (-3, "now"), (-720, "in 12 min"), (-3600 * 30, "in 30 h"),
    ],
)  # fmt: skip
def test_a_moment_is_told_as_seen_from_now(seconds: float, words: str) -> None:
    assert human.relative(NOW - timedelta(seconds=seconds), NOW) == words


def test_a_moment_in_full_follows_the_zone_s_daylight_saving() -> None:
    berlin = human.zone_of("Europe/Berlin")
    assert human.absolute(NOW - timedelta(hours=1), berlin) == "2026-03-29 01:30:00 CET"
    assert human.absolute(NOW, berlin) == "2026-03-29 03:30:00 CEST"


@pytest.mark.parametrize("name", ["no/such zone", "", "../../etc/passwd", "\0"])
def test_an_unknown_zone_is_shown_in_utc(name: str) -> None:
    assert NOW.astimezone(human.zone_of(name)).utcoffset() == timedelta(0)
    assert human.absolute(NOW.astimezone(timezone(timedelta(hours=5))), human.zone_of(name)).endswith("01:30:00 UTC")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.412, "ratio", "41 %"), (0.031, "ratio", "3.1 %"), (0.0, "ratio", "0 %"), (0.00012, "ratio", "0.012 %"),
        (1.5 * 2**30, "bytes", "1.5 GiB"), (2_345_678, "bytes_per_second", "2.24 MiB/s"), (0.0007, "seconds", "0.7 ms"),
        (0.043, "seconds", "43 ms"), (34.4 * 86_400, "seconds", "34d 9h"), (54.4, "celsius", "54 °C"),
        (1200, "rpm", "1,200 rpm"), (12.34, "per_second", "12.3/s"), (312, "count", "312"), (0.4, "count", "0.4"),
        (12_345.6, "count", "12,346"), (float("nan"), "ratio", "–"), (float("inf"), "seconds", "–"),
        (-2.5, "furlongs", "-2.5"),
    ],
)  # fmt: skip
def test_a_reading_is_written_in_its_unit(value: float, unit: str, words: str) -> None:
    assert human.reading_text(Reading("r", value, unit)) == words


def ys(spark: human.Spark | None) -> list[float]:
    assert spark is not None
    return [float(point.split(",")[1]) for point in spark.line.split()]


def test_a_trend_needs_two_finite_readings() -> None:
    assert human.sparkline((1.0,), "count") is None
    assert human.sparkline((float("nan"), float("inf"), 1.0), "count") is None
    assert human.sparkline((), "ratio") is None


def test_a_ratio_s_trend_stands_on_zero_to_one() -> None:
    heights = ys(human.sparkline((0.0, 0.5, 1.0), "ratio"))
    assert heights == [22.5, pytest.approx(12.0), pytest.approx(1.5)]
    assert max(ys(human.sparkline((0.5, 0.5), "ratio"))) < 13


def test_noise_is_not_blown_up_to_the_full_height() -> None:
    heights = ys(human.sparkline((100.0, 100.5, 99.5), "count"))
    assert max(heights) - min(heights) < 3


@pytest.mark.parametrize("values", [(0.0, 0.0), (1e300, -1e300), (5.0, 5.0), (-1.0, -2.0)])
def test_any_trend_stays_in_its_box(values: tuple[float, ...]) -> None:
    assert all(0 <= y <= human.SPARK_HEIGHT for y in ys(human.sparkline(values, "count")))


def test_a_trend_says_its_range_in_words() -> None:
    spark = human.sparkline((0.12, 0.43, 0.2), "ratio")
    assert spark is not None
    assert spark.description == "last 3 readings: 12 % to 43 %"
