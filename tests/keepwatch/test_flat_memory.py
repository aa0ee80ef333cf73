"""What the watch remembers does not grow with the time that it runs: days of results by a clock that the test moves."""

import gc
import random
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest

from config.loading import load
from keepwatch.watch import Watch
from monitor.clock_steps import ClockSteps
from monitor.memory import Memories
from monitor.result import Reading, Result, Status

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SETTINGS = '[daemon]\ntimezone = "UTC"\nhost = "erp-1"\n'
CHECK = '[[checks]]\nname = "check {number}"\ntype = "users"\nkeep_firing_for = "40m"\n'


def statuses(chance: random.Random) -> Iterator[Status]:
    """Mostly well, now and then bad for a while, and sometimes unknown."""
    while True:
        yield from [Status.OK] * chance.randrange(20, 60)
        yield from [chance.choice([Status.WARNING, Status.CRITICAL, Status.UNKNOWN])] * chance.randrange(1, 12)


class Days:
    """A watch with checks whose results come by, one step after the other."""

    def __init__(self, folder: Path, checks: int, step: timedelta) -> None:
        config = folder / "keepwatch.toml"
        config.write_text(SETTINGS + "".join(CHECK.format(number=number) for number in range(checks)))
        self.now, self.step = START, step
        self.watch = Watch(
            load(config, environ={}, state_dir=folder), folder / "monitor.db", lambda: self.now,
            memories=Memories(folder / "memories"),
        )  # fmt: skip
        self.watch.pool.stop()
        self.watch._clock_steps = ClockSteps(monotonic=lambda: (self.now - START).total_seconds())
        chance = random.Random(7)
        self.statuses = [statuses(chance) for _ in range(checks)]
        self.entities = [cycle([""]), *(cycle(["", f"gone {number}"]) for number in range(checks - 1))]

    def until(self, hours: float) -> int:
        """Live until so many hours after the start; return the bytes that Python's objects take then."""
        while self.now < START + timedelta(hours=hours):
            self.now += self.step
            self.watch.take([self.result(number) for number in range(len(self.statuses))], self.now)
            self.watch.evaluate(self.now, {})
            self.watch.keep_history(self.now)
            self.watch.part(self.now)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def result(self, number: int) -> Result:
        status, value = next(self.statuses[number]), float(self.now.minute)
        readings = (Reading("count", value, "count"),) if status <= Status.CRITICAL else ()
        entity = next(self.entities[number])
        return Result(f"check {number}", entity, status, f"{value:g} users", self.now, 0.01, readings)


def grown(folder: Path, checks: int, step: timedelta, hours: tuple[float, float]) -> tuple[int, int]:
    """Return the bytes at two moments."""
    days = Days(folder, checks, step)
    tracemalloc.start(1)
    try:
        return days.until(hours[0]), days.until(hours[1])
    finally:
        tracemalloc.stop()
        days.watch.close()


def test_half_a_day_more_takes_no_more_memory(tmp_path: Path) -> None:
    # Alerts that were resolved are kept for a day, so that is how long it takes until nothing grows any more.
    before, after = grown(tmp_path, 6, timedelta(minutes=20), (36, 48))
    assert after < before * 1.1 + 20_000, f"{before} bytes after 36 hours, {after} after 48"


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_two_days_of_a_hundred_checks_take_no_more_memory(tmp_path: Path) -> None:
    # The sparklines of each entity are full after 120 of its results, which takes twenty hours here.
    before, after = grown(tmp_path, 100, timedelta(minutes=5), (26, 50))
    assert after < before * 1.05 + 50_000, f"{before} bytes after 26 hours, {after} after 50"
