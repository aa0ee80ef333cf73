import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from keepwatch.check_pool import CheckPool
from monitor.check import Check
from monitor.result import Measurement, Reading, Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Counting:
    """A probe that measures how often it was asked."""

    def __init__(self):
        self.asked = 0

    def measure(self):
        self.asked += 1
        return Measurement([Reading("count", self.asked, "count")])


class Held:
    """A probe that waits in the system until it is let go, and tells when it began."""

    def __init__(self):
        self.begun, self.release = threading.Event(), threading.Event()

    def measure(self):
        self.begun.set()
        self.release.wait(20)
        return Measurement([Reading("count", 1, "count")])


class Steady:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def steady():
    return Steady()


@pytest.fixture
def pool(steady):
    pool = CheckPool(lambda: NOW, seats=2, monotonic=steady)
    yield pool
    pool.stop()


def check(name, probe, **settings):
    return Check(name, "cpu", probe, **{"every": timedelta(seconds=10), "timeout": timedelta(seconds=2)} | settings)


def collect(pool, count, deadline_seconds=5.0):
    """Return the next ``count`` results; the pool's threads are real."""
    results, deadline = [], time.monotonic() + deadline_seconds
    while len(results) < count:
        assert time.monotonic() < deadline, f"only {results} came in"
        results += pool.collect()
        time.sleep(0.001)
    return results


def test_every_check_runs_at_once_and_then_in_its_own_rhythm(pool, steady):
    probe = Counting()
    pool.configure([check("a", probe)])
    pool.start_due()
    collect(pool, 1)
    for _ in range(60):
        steady.now += 1
        before = probe.asked
        pool.start_due()
        if pool.idle_seconds > 0 and probe.asked == before:
            pool.collect()
        while pool._running:
            pool.collect()
    assert probe.asked == 7


def test_a_check_never_overlaps_itself_and_holds_up_no_other(pool, steady):
    slow, quick = Held(), Counting()
    pool.configure([check("slow", slow, timeout=timedelta(minutes=5)), check("quick", quick)])
    pool.start_due()
    assert slow.begun.wait(5)
    for turn in range(5):
        assert [r.check for r in collect(pool, 1)] == ["quick"], turn
        slow.begun.clear()
        steady.now += 10
        pool.start_due()
    assert not slow.begun.is_set(), "the second run waits for the end of the first"
    slow.release.set()


def test_any_number_of_slow_checks_holds_up_no_other_and_their_seats_go_with_them(pool, steady):
    slow, quick = [Held() for _ in range(12)], Counting()
    minutes = timedelta(minutes=5)
    checks = [check(f"slow {number}", probe, timeout=minutes) for number, probe in enumerate(slow)]
    pool.configure([*checks, check("quick", quick)])
    for pair in range(6):
        pool.start_due()
        assert all(probe.begun.wait(5) for probe in slow[: 2 * pair + 2]), "two more begin each time"
        steady.now += 0.6
    pool.start_due()
    assert [r.check for r in collect(pool, 1)] == ["quick"]
    assert threads() >= 12
    for probe in slow:
        probe.release.set()
    collect(pool, 12)
    pool.collect()
    deadline = time.monotonic() + 5
    while threads() > 2:
        assert time.monotonic() < deadline, "two seats are enough again"
        time.sleep(0.001)


def threads():
    return sum(thread.name.startswith("check-") for thread in threading.enumerate())


def test_a_stuck_check_is_told_as_unknown_its_seat_is_replaced_and_it_may_come_back(pool, steady):
    stuck, other = Held(), Held()
    pool.configure([check("stuck", stuck), check("other", other)])
    pool.start_due()
    assert stuck.begun.wait(5)
    assert other.begun.wait(5)
    steady.now += 8
    results = collect(pool, 2)
    assert {(r.check, r.status) for r in results} == {("stuck", Status.UNKNOWN), ("other", Status.UNKNOWN)}
    assert "stuck in the system" in results[0].message
    assert pool.stuck == 2
    assert pool.collect() == [], "told once"
    third = Counting()
    pool.configure([check("stuck", stuck), check("third", third)])
    pool.start_due()
    assert [r.check for r in collect(pool, 1)] == ["third"], "two stuck seats do not cost the pool its work"
    stuck.release.set()
    other.release.set()
    deadline = time.monotonic() + 5
    while pool.stuck and time.monotonic() < deadline:
        pool.collect()
    assert pool.stuck == 0


def test_results_of_a_check_that_is_no_longer_configured_are_dropped(pool):
    held = Held()
    pool.configure([check("gone", held)])
    pool.start_due()
    assert held.begun.wait(5)
    pool.configure([])
    held.release.set()
    deadline = time.monotonic() + 5
    while pool._running and time.monotonic() < deadline:
        assert pool.collect() == []
    assert not pool._running


def test_checks_with_the_same_rhythm_are_spread_over_it(pool, steady):
    pool.configure([check(f"check {n}", Counting()) for n in range(100)])
    pool.start_due()
    collect(pool, 100)
    started = []
    for _ in range(20):
        steady.now += 1
        pool.start_due()
        started.append(len(pool._running))
        while pool._running:
            pool.collect()
    assert max(started) < 30
    assert min(started[5:15]) >= 1


def test_lateness_is_measured(pool, steady):
    pool.configure([check("a", Counting())])
    steady.now += 3
    pool.start_due()
    collect(pool, 1)
    assert pool.lag_seconds == 3


def test_a_pending_check_runs_four_times_as_often_until_it_is_decided(pool, steady):
    probe = Counting()
    pool.configure([check("a", probe, every=timedelta(seconds=8))])
    pool.start_due()
    collect(pool, 1)

    def asked_within(seconds):
        before = probe.asked
        for _ in range(seconds):
            steady.now += 1
            pool.start_due()
            while pool._running:
                pool.collect()
        return probe.asked - before

    assert asked_within(16) == 2
    pool.hasten(frozenset({"a"}))
    assert asked_within(16) == 8
    pool.hasten(frozenset())
    asked_within(8)
    assert asked_within(16) == 2


def test_a_pending_check_runs_at_the_interval_that_its_settings_name(pool, steady):
    probe = Counting()
    pool.configure([check("a", probe, every=timedelta(seconds=60), retry_interval=timedelta(seconds=5))])
    pool.start_due()
    collect(pool, 1)
    pool.hasten(frozenset({"a"}))
    before = probe.asked
    for _ in range(20):
        steady.now += 1
        pool.start_due()
        while pool._running:
            pool.collect()
    assert probe.asked - before == 4


def test_a_check_that_others_depend_on_is_run_at_once_and_goes_on_in_its_rhythm(pool, steady):
    probe = Counting()
    pool.configure([check("parent", probe, every=timedelta(hours=1))])
    pool.start_due()
    collect(pool, 1)
    pool.run_at_once({"parent", "nobody"})
    pool.start_due()
    collect(pool, 1)
    assert probe.asked == 2
    steady.now += 60
    pool.start_due()
    assert pool.collect() == []
