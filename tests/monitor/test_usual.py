"""What is usual at this hour of the week, and a clock that is set."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from monitor.clock_steps import ClockSteps
from monitor.history import History
from monitor.memory import Memories
from monitor.result import Reading, Result, Status
from monitor.store import MonitorStore
from monitor.usual import UsualRanges, same_hours, usual_of

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=7)


def test_one_wild_week_does_not_change_what_is_usual() -> None:
    found = usual_of([10, 11, 9, 10, 12, 8, 10, 1000])
    assert found.middle == 10
    assert found.low < 8 < 12 < found.high < 20
    assert found.deviations(1000) > 100
    assert usual_of([10, 10, 10]) is None, "too few to say"


def test_what_never_moved_may_move_a_little() -> None:
    found = usual_of([10] * 8)
    assert found.low == pytest.approx(9.4)
    assert usual_of([0] * 8).deviations(5) == 0


def test_the_same_hour_is_that_of_peoples_clocks(tmp_path) -> None:
    summer = datetime(2026, 4, 6, 7, 30, tzinfo=UTC)  # 09:30 in Berlin, and so it was in winter
    hours = {hour.astimezone(UTC).hour for hour in same_hours(summer, ZoneInfo("Europe/Berlin"))}
    assert hours == {6, 7, 8, 9}


def test_the_page_hears_what_is_usual_for_a_series_with_a_past(tmp_path) -> None:
    store = MonitorStore(tmp_path / "monitor.db")
    history = History(store)
    for week in range(4):
        for hour in (-1, 0, 1):
            for minute in range(0, 60, 10):
                at = START + week * WEEK + hour * HOUR + minute * MINUTE
                history.add([Result("cpu", "", Status.OK, "", at, 0.0, (Reading("used", 0.5 + hour / 10, "ratio"),))])
    now = START + 4 * WEEK + MINUTE
    history.flush(now)
    ranges = UsualRanges(history, UTC, most_a_call=1)
    series = [("cpu", "", "used"), ("other", "", "used")]
    ranges.refresh(series, now)
    assert ranges.of("cpu", "").middle == pytest.approx(0.5)
    assert ranges.of("other", "") is None
    ranges.refresh(series, now)
    assert ("other", "") in ranges._known, "a few at a time"
    ranges.refresh(series[:1], now)
    assert list(ranges._known) == [("cpu", "")], "what is gone is forgotten"
    store.close()


def test_a_clock_that_is_set_is_noticed_and_one_that_drifts_is_not() -> None:
    ticks = iter([100.0, 101.0, 102.0, 103.0, 104.0])
    steps = ClockSteps(monotonic=lambda: next(ticks))
    second = timedelta(seconds=1)
    assert steps.step(START) is None
    assert steps.step(START + 2 * second) is None
    assert steps.step(START + 3 * second + HOUR) == HOUR
    assert steps.step(START + 4 * second + HOUR) is None
    assert steps.step(START + 5 * second) == -HOUR


@pytest.mark.parametrize(("boot", "expected"), [("first", HOUR), ("second", None), ("", None)])
def test_a_clock_that_is_set_while_no_daemon_runs_is_noticed_until_the_machine_starts_anew(
    tmp_path: Path, boot: str, expected: timedelta | None
) -> None:
    before = ClockSteps(Memories(tmp_path), "first", lambda: 100.0)
    assert before.step(START) is None
    after = ClockSteps(Memories(tmp_path), boot, lambda: 160.0)
    assert after.step(START + timedelta(seconds=60) + HOUR) == expected
    assert after.step(START + timedelta(seconds=60) + HOUR) is None
