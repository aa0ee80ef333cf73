"""Forecasts: seen where something is heading somewhere, and nowhere else."""

import itertools
import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from config.checks.forecast import ForecastSettings
from monitor.forecast import Outlook, forecast, outlook, theil_sen
from monitor.forecaster import Forecaster
from monitor.history import History
from monitor.result import Reading, Result, Status
from monitor.store import MonitorStore

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DISK = ForecastSettings.model_validate({
    "reaches": "100%", "warning": {"within": "24h", "when": "> 60%"}, "critical": {"within": "4h", "when": "> 80%"},
})  # fmt: skip


def points(value, hours: float = 8, every: float = 300.0, seed: int = 1, noise: float = 0.0):
    """``value(hour)`` at hours up to now, which is hour 0 and the second 0."""
    chance = random.Random(seed)
    count = int(hours * 3600 / every)
    return [
        (-every * back, value(-every * back / 3600) + chance.gauss(0, noise)) for back in range(count, -1, -1)
    ]


def test_the_slope_of_a_line_is_its_slope_whatever_lies_beside_it() -> None:
    line = [(x, 3.0 * x) for x in range(50)]
    wild = [(x, 1e9 if x % 5 == 0 else y) for x, y in line]
    assert theil_sen(line).middle == pytest.approx(3)
    assert theil_sen(wild).middle == pytest.approx(3, rel=0.2)
    assert theil_sen(line[:5]) is None
    assert theil_sen([(1.0, y) for y in range(9)]) is None


def test_a_disk_that_fills_up_is_foreseen_with_a_range() -> None:
    filling = points(lambda hour: 0.9 + 0.03 * hour, noise=0.002)
    found = forecast(DISK, filling, 0.0, "used")
    assert found.status is CRITICAL
    assert 3 * 3600 < found.outlook.likely_seconds < 3.7 * 3600
    assert found.outlook.earliest_seconds <= found.outlook.likely_seconds <= found.outlook.latest_seconds
    assert found.text.startswith("used reaches 100% in ")


@pytest.mark.parametrize(
    ("what", "value", "noise"),
    [
        ("level", lambda _: 0.9, 0.0),
        ("noise around a level", lambda _: 0.9, 0.01),
        ("falling", lambda hour: 0.9 - 0.03 * hour, 0.001),
        ("too slow", lambda hour: 0.9 + 0.001 * hour, 0.0),
        ("a burst that is over", lambda hour: 0.9 if hour > -1.5 else 0.9 + 0.1 * (hour + 1.5), 0.0),
        ("a burst of half an hour", lambda hour: 0.85 + max(0.0, 0.1 * (hour + 0.5)), 0.0),
        ("up and down in turns", lambda hour: 0.9 + 0.05 * math.sin(hour * 4), 0.0),
        ("filling an almost empty disk", lambda hour: 0.5 + 0.02 * hour, 0.0),
    ],
)
def test_what_is_no_trend_or_not_soon_wakes_nobody(what: str, value, noise: float) -> None:
    assert forecast(DISK, points(value, noise=noise), 0.0, "used").status is OK


def test_a_forecast_counts_when_it_has_been_the_same_for_an_hour() -> None:
    def filling(for_hours: float):
        return points(lambda hour: 0.85 + 0.01 * max(0.0, hour + for_hours), hours=10)

    statuses = [forecast(DISK, filling(hours), 0.0, "used").status for hours in (2, 3.5, 8)]
    assert statuses == [OK, OK, WARNING]


def test_each_level_has_its_gate() -> None:
    fast = points(lambda hour: 0.7 + 0.1 * hour, hours=8)
    assert forecast(DISK, fast, 0.0, "used").status is WARNING, "critical only below a fifth free"


def test_a_status_ends_further_away_than_it_began() -> None:
    slower = points(lambda hour: 0.9 + 0.0038 * hour)  # 26 hours to go
    assert forecast(DISK, slower, 0.0, "used").status is OK
    assert forecast(DISK, slower, 0.0, "used", before=WARNING).status is WARNING


def test_what_falls_towards_nothing_is_foreseen_too() -> None:
    rule = ForecastSettings.model_validate({"reaches": "0", "warning": "14d", "over": "14d"})
    day = 86_400.0
    free = [(-3600.0 * back, 5e9 + 1e9 * back / 24) for back in range(24 * 16, -1, -1)]
    found = forecast(rule, free, 0.0, "free_bytes")
    assert found.status is WARNING
    assert found.outlook.likely_seconds == pytest.approx(5 * day, rel=0.01)


def test_an_hour_of_points_says_nothing_about_a_week() -> None:
    assert outlook(points(lambda hour: 0.9 + hour / 100, hours=1), 1.0, 7 * 86_400.0, 0.0) is None
    assert outlook([], 1.0, 3600.0, 0.0) is None


def test_a_range_is_written_in_words() -> None:
    assert Outlook(3 * 3600, 4 * 3600, 5 * 3600).text() == "in 3h to 5h"
    assert Outlook(3600, 7200, math.inf).text() == "in 1h at the earliest, most likely in 2h"


@pytest.mark.parametrize(
    "settings",
    [{"reaches": "100%"}, {"reaches": "full", "warning": "1d"}, {"reaches": "1", "warning": "1d", "over": "5m"}],
)
def test_a_forecast_that_says_nothing_is_refused(settings) -> None:
    with pytest.raises(ValidationError):
        ForecastSettings.model_validate(settings)


@pytest.fixture
def history(tmp_path):
    store = MonitorStore(tmp_path / "monitor.db")
    yield History(store)
    store.close()


def disk(at: datetime, used: float, status: Status = OK) -> Result:
    return Result("disk", "", status, f"/ is {used:.0%} full", at, 0.0, (Reading("used", used, "ratio"),))


def fill_up(history: History, forecaster: Forecaster, hours: int, a_minute: float = 0.0005, start: float = 0.55):
    now, seen = START, []
    for minute in range(hours * 60):
        now = START + minute * MINUTE
        result = disk(now, start + a_minute * minute)
        history.add([result])
        history.flush(now)
        seen += forecaster.applied([result], now)
    return now, seen


def test_a_filling_disk_becomes_a_warning_and_then_critical_in_words_that_say_when(history) -> None:
    forecaster = Forecaster(history, {"disk": [DISK]})
    _, seen = fill_up(history, forecaster, 12, a_minute=0.0006, start=0.5)
    worse = [after for before, after in itertools.pairwise(seen) if after.status > before.status]
    changes = [(result.status, result.message) for result in worse]
    assert [status for status, _ in changes] == [WARNING, CRITICAL]
    for _, message in changes:
        assert message.startswith("used reaches 100% in ")
        assert "; / is " in message
    assert forecaster.outlook("disk", "").startswith("used reaches 100% in ")
    assert forecaster.outlook("cpu", "") is None


def test_a_restart_forecasts_the_same_again(history) -> None:
    now, seen = fill_up(history, Forecaster(history, {"disk": [DISK]}), 9, a_minute=0.0006, start=0.6)
    [again] = Forecaster(history, {"disk": [DISK]}).applied([disk(now, 0.92)], now)
    assert again.status is seen[-1].status is CRITICAL


def test_a_forecast_never_makes_a_result_better_or_judges_what_is_not_known(history) -> None:
    forecaster = Forecaster(history, {"disk": [DISK]})
    now, _ = fill_up(history, forecaster, 9, a_minute=0.0006, start=0.6)
    unknown = Result("disk", "", UNKNOWN, "no answer", now, 0.0)
    other = Result("cpu", "", OK, "", now, 0.0)
    assert forecaster.applied([unknown, other], now) == [unknown, other]
    worst = disk(now, 0.99, CRITICAL)
    assert forecaster.applied([worst], now) == [worst]


def test_rules_that_change_begin_anew(history) -> None:
    forecaster = Forecaster(history, {"disk": [DISK]})
    now, _ = fill_up(history, forecaster, 9, a_minute=0.0006, start=0.6)
    forecaster.configure({"disk": [DISK.model_copy(update={"critical": None})]})
    assert forecaster.outlook("disk", "") is None
    assert forecaster.applied([disk(now, 0.92)], now)[0].status is WARNING


def test_the_forecast_of_an_entity_that_is_gone_is_forgotten(tmp_path) -> None:
    store = MonitorStore(tmp_path / "monitor.db")
    forecaster = Forecaster(History(store), {"disk": [DISK]})
    for at, entity in ((START, "/media/stick"), (START + 49 * HOUR, "/")):
        reading = Reading("used", 0.5, "ratio", entity)
        forecaster.applied([Result("disk", entity, OK, "", at, 0.0, (reading,))], at)
    forecaster.applied([], START + 98 * HOUR)
    assert {entity for _, entity, _ in forecaster._looks} == set()
    store.close()
