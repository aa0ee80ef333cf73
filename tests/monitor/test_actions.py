"""Commands that critical alerts start, run for real."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from monitor.actions import ActionEntry, Actions
from monitor.alerting import ActionPolicy
from monitor.result import Status

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def critical_world(world, policy, run: str, limit: int = 1, **options: object):
    w = world(policy(on_critical=ActionPolicy(run, limit, HOUR)))
    w.actions = Actions(w.store, w.now, **options)
    return w


def until_over(w) -> ActionEntry:
    """Run the loop's part until the newest request has ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        w.actions.run_due(w.now)
        entry = w.actions.log()[0]
        if entry.ended_at is not None:
            return entry
        time.sleep(0.01)
    raise AssertionError(f"{entry} did not end")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_critical_alert_runs_its_command_and_the_audit_tells_how_it_went(world, policy, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    w = critical_world(world, policy, f'echo "$KEEPWATCH_CHECK $KEEPWATCH_SEVERITY" > {seen}; echo done; exit 3')
    w.see(CRITICAL)
    entry = until_over(w)
    assert seen.read_text() == "disk critical\n"
    assert (entry.outcome, entry.exit_code, entry.output, entry.check) == ("ended", 3, "done\n", "disk")
    assert entry.started_at is not None


def test_a_warning_runs_nothing(world, policy) -> None:
    w = critical_world(world, policy, "true")
    w.see(WARNING, WARNING)
    assert w.actions.run_due(w.now) == 0
    assert w.actions.log() == []


def test_an_alert_that_goes_on_firing_does_not_run_its_command_again(world, policy) -> None:
    w = critical_world(world, policy, "true", limit=9)
    w.see(CRITICAL)
    until_over(w)
    w.see(CRITICAL, UNKNOWN, CRITICAL)
    w.restart()
    w.actions = Actions(w.store, w.now)
    w.see(CRITICAL)
    assert w.actions.run_due(w.now) == 0
    assert len(w.actions.log()) == 1


def test_more_often_than_the_cap_is_refused_and_on_record_over_restarts_too(world, policy) -> None:
    w = critical_world(world, policy, "true")
    w.see(CRITICAL)
    assert until_over(w).outcome == "ended"
    w.see(OK)
    w.restart()
    w.actions = Actions(w.store, w.now)
    w.see(CRITICAL)
    assert until_over(w).outcome == "capped"
    w.see(OK)
    w.now += HOUR
    w.see(CRITICAL)
    assert until_over(w).outcome == "ended"


def test_a_cap_does_not_last_until_a_clock_that_was_set_back_comes_by_again(world, policy) -> None:
    w = critical_world(world, policy, "true")
    w.see(CRITICAL)
    assert until_over(w).outcome == "ended"
    w.see(OK)
    w.now -= 24 * HOUR
    w.engine.clock_stepped(-24 * HOUR, w.now)
    w.see(CRITICAL)
    assert until_over(w).outcome == "ended"
    w.see(OK, CRITICAL)
    assert until_over(w).outcome == "capped"


def test_a_command_that_has_just_ended_cools_down_first(world, policy) -> None:
    w = world(policy(on_critical=ActionPolicy("true", 9, HOUR, cooldown=600 * SECOND)))
    w.actions = Actions(w.store, w.now)
    w.see(CRITICAL)
    assert until_over(w).outcome == "ended"
    w.see(OK, CRITICAL)
    assert until_over(w).outcome == "cooling down"
    w.see(OK)
    w.now += 600 * SECOND
    w.see(CRITICAL)
    assert until_over(w).outcome == "ended"


def test_a_request_whose_alert_is_over_is_dropped(world, policy) -> None:
    w = critical_world(world, policy, "true")
    w.see(CRITICAL, OK)
    assert until_over(w).outcome == "dropped"


def test_a_command_that_takes_too_long_is_killed_with_its_children_and_nobody_waits(world, policy, tmp_path) -> None:
    pid = tmp_path / "pid"
    w = critical_world(world, policy, f"sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; wait", timeout_seconds=0.5)
    w.see(CRITICAL)
    began = time.monotonic()
    assert w.actions.run_due(w.now) == 1
    assert time.monotonic() - began < 0.4
    until(pid.exists)
    entry = until_over(w)
    assert (entry.outcome, entry.exit_code) == ("timed out", -9)
    sleeper = int(pid.read_text())
    until(lambda: not psutil.pid_exists(sleeper) or psutil.Process(sleeper).status() == psutil.STATUS_ZOMBIE)


def test_a_command_that_never_stops_talking_neither_blocks_nor_fills_memory(world, policy) -> None:
    w = critical_world(world, policy, "yes; true", timeout_seconds=2)
    w.see(CRITICAL)
    entry = until_over(w)
    assert entry.outcome == "timed out"
    assert 0 < len(entry.output) <= 4096


def test_a_command_that_a_crash_interrupted_is_on_record_and_not_run_again(world, policy, tmp_path) -> None:
    marks = tmp_path / "marks"
    w = critical_world(world, policy, f"echo x >> {marks}; sleep 60")
    w.see(CRITICAL)
    w.actions.run_due(w.now)
    until(marks.exists)
    another = Actions(w.store, w.now)
    assert another.log()[0].outcome == "interrupted"
    assert another.run_due(w.now) == 0
    w.actions.close(w.now)
    assert marks.read_text() == "x\n"


@pytest.mark.parametrize("after", ["request", "start"])
def test_what_was_requested_before_a_restart_runs_and_what_was_begun_does_not(world, policy, after) -> None:
    w = critical_world(world, policy, "true")
    w.see(CRITICAL)
    if after == "start":
        until_over(w)
    w.restart()
    w.actions = Actions(w.store, w.now)
    assert w.actions.run_due(w.now) == (1 if after == "request" else 0)
    until_over(w)
