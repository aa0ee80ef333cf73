"""Schedules over the changes of the clock and of the calendar, as cron's users expect them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from config.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
"""The day before 02:00 becomes 03:00."""
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
"""The day before 03:00 becomes 02:00."""


def due(text: str, after: datetime, count: int) -> list[str]:
    """The next due times, read on a clock in Berlin."""
    moments = []
    for _ in range(count):
        after = Schedule.parse(text).next_after(after, BERLIN)
        assert after.tzinfo is UTC
        moments.append(after.astimezone(BERLIN).strftime("%a %d.%m. %H:%M %Z"))
    return moments


def test_a_time_that_does_not_exist_runs_at_the_change() -> None:
    assert due("daily 02:30", SPRING, 2) == ["Sun 29.03. 03:00 CEST", "Mon 30.03. 02:30 CEST"]


def test_a_time_that_exists_twice_runs_once() -> None:
    assert due("daily 02:30", AUTUMN, 2) == ["Sun 25.10. 02:30 CEST", "Mon 26.10. 02:30 CET"]


def test_a_time_outside_the_change_keeps_its_hour_on_the_wall() -> None:
    assert due("daily 04:30", SPRING, 2) == ["Sun 29.03. 04:30 CEST", "Mon 30.03. 04:30 CEST"]
    assert due("sunday 02:00", AUTUMN, 2) == ["Sun 25.10. 02:00 CEST", "Sun 01.11. 02:00 CET"]


def test_an_hourly_cron_runs_every_real_hour_of_both_days() -> None:
    for start, hours in ((SPRING, 23), (AUTUMN, 25)):
        midnight = (start + timedelta(days=1)).replace(hour=0)
        moment, day = midnight.astimezone(UTC) - timedelta(seconds=1), []
        for _ in range(26):
            moment = Schedule.parse("cron 0 * * * *").next_after(moment, BERLIN)
            day.append(moment.astimezone(BERLIN).date())
        assert day.count(midnight.date()) == hours


def test_every_counts_elapsed_time_whatever_the_clock_does() -> None:
    every = Schedule.parse("every 6h")
    for start in (SPRING, AUTUMN):
        assert every.next_after(start, BERLIN) - start == timedelta(hours=6)


def test_the_spacing_of_a_day_with_a_change_is_23_or_25_hours() -> None:
    daily = Schedule.parse("daily 04:30")
    assert daily.spacing(SPRING - timedelta(days=2), BERLIN) == timedelta(hours=24)
    assert daily.spacing(SPRING - timedelta(hours=8), BERLIN) == timedelta(hours=23)
    assert daily.spacing(AUTUMN - timedelta(hours=8), BERLIN) == timedelta(hours=25)


def test_a_leap_day_comes_every_four_years() -> None:
    leap = Schedule.parse("cron 0 5 29 2 *")
    moment = leap.next_after(datetime(2026, 1, 1, tzinfo=UTC), UTC)
    assert moment == datetime(2028, 2, 29, 5, tzinfo=UTC)
    assert leap.next_after(moment, UTC) == datetime(2032, 2, 29, 5, tzinfo=UTC)


def test_a_monthly_on_the_31st_passes_over_short_months() -> None:
    assert due("monthly 31 03:00", datetime(2026, 1, 31, 12, tzinfo=UTC), 2) == [
        "Tue 31.03. 03:00 CEST", "Sun 31.05. 03:00 CEST",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("daily 02:05", "5 2 * * *"),
        ("Sunday  02:00", "0 2 * * 0"),
        ("monthly 1 03:00", "0 3 1 * *"),
        ("cron 15 2 * * 1-5", "15 2 * * 1-5"),
    ],
)
def test_calendar_forms_are_cron_lines(text: str, cron: str) -> None:
    assert Schedule.parse(text).cron == cron


@pytest.mark.parametrize(
    "text",
    [
        "", "hourly", "every", "every 0s", "every 100ms", "daily", "daily 25:00", "daily 2", "sun 02:00",
        "monthly 32 01:00", "monthly 01:00", "cron 1 2 3", "cron * * * * * *", "cron 0 0 30 2 *",
        "cron a b c d e", 5, None,
    ],
)  # fmt: skip
def test_what_is_not_a_schedule_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"schedule|duration|day"):
        Schedule.parse(text)


def test_a_schedule_prints_as_it_was_written() -> None:
    assert str(Schedule.parse("Sunday  02:00")) == "Sunday 02:00"
