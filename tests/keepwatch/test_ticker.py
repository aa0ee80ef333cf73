from datetime import datetime, timedelta

import pytest
import schedule

from keepwatch.ticker import Ticker


class Clocks:
    """Wall and monotonic time that a test moves; `schedule` reads the wall clock of its own module."""

    def __init__(self, monkeypatch):
        self.wall = datetime(2026, 10, 25, 2, 59, 50)  # noqa: DTZ001 - what `schedule` reads is naive
        self.steady = 1000.0
        clocks = self

        class Frozen(datetime):
            @classmethod
            def now(cls, tz=None):
                return clocks.wall if tz is None else clocks.wall.astimezone(tz)

        monkeypatch.setattr(schedule.datetime, "datetime", Frozen)

    def pass_seconds(self, seconds):
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


@pytest.fixture
def clocks(monkeypatch):
    return Clocks(monkeypatch)


@pytest.fixture
def ticker(clocks):
    return Ticker(lambda: clocks.wall, lambda: clocks.steady)


def test_acts_run_in_their_rhythm(clocks, ticker):
    ran = []
    ticker.every(1, lambda: ran.append("second"))
    ticker.every(5, lambda: ran.append("five"))
    for _ in range(10):
        clocks.pass_seconds(1)
        ticker.run_pending()
    assert ran.count("second") == 10
    assert ran.count("five") == 2


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(hours=1), timedelta(days=-400)])
def test_a_clock_step_neither_stalls_nor_floods_the_ticks(clocks, ticker, step):
    ran = []
    ticker.every(1, lambda: ran.append(clocks.steady))
    clocks.pass_seconds(1)
    ticker.run_pending()
    clocks.wall += step
    for _ in range(5):
        clocks.pass_seconds(1)
        ticker.run_pending()
    assert ticker.steps == 1
    assert 4 <= len(ran) <= 6


def test_an_act_that_raises_is_logged_and_the_others_go_on(clocks, ticker, caplog):
    ran = []
    ticker.every(1, lambda: 1 / 0)
    ticker.every(1, lambda: ran.append(1))
    for _ in range(3):
        clocks.pass_seconds(1)
        ticker.run_pending()
    assert len(ran) == 3
    assert "ZeroDivisionError" in caplog.text
