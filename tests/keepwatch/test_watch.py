"""The monitor half as the daemon drives it: real store, real checks, a clock that the test moves."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.loading import load
from keepwatch import bridge
from keepwatch.watch import Watch
from monitor.memory import Memories
from monitor.result import Reading, Result, Status

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SETTINGS = """
[daemon]
timezone = "UTC"
host = "erp-1"

[[checks]]
name = "disk"
type = "disk"
every = "1h"
warning = "> 95%"
forecast = { reaches = "100%", warning = "24h", over = "1h", agreed_for = "15m" }
"""


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path, clock: Clock) -> Iterator[Watch]:
    made = open_watch(tmp_path, clock)
    yield made
    made.close()


def open_watch(folder: Path, clock: Clock) -> Watch:
    config = folder / "keepwatch.toml"
    config.write_text(SETTINGS)
    settings = load(config, environ={}, state_dir=folder)
    made = Watch(settings, folder / "monitor.db", clock, memories=Memories(folder / "memories"))
    made.pool.stop()
    return made


def disk(at: datetime, used: float) -> Result:
    return Result("disk", "", Status.OK, f"{used:.0%}", at, 0.0, (Reading("used", used, "ratio"),))


def firing(watch: Watch, now: datetime) -> dict[str, str]:
    return {one.check: one.message for one in watch.part(now).alerts if one.state == "firing"}


def test_a_filling_disk_fires_before_it_is_full_and_the_page_says_when(watch: Watch, clock: Clock) -> None:
    for minute in range(120):
        clock.now = START + minute * MINUTE
        watch.take([disk(clock.now, 0.5 + 0.001 * minute)], clock.now)
        watch.keep_history(clock.now)
    assert firing(watch, clock.now)["disk"].startswith("used reaches 100% in ")
    [check] = watch.part(clock.now).checks
    assert check.outlook.startswith("used reaches 100% in ")
    assert check.status is Status.WARNING


def test_what_is_usual_at_this_hour_is_shown_and_tells_nobody(watch: Watch, clock: Clock) -> None:
    for week in range(4):
        for minute in range(0, 180, 10):
            clock.now = START + week * timedelta(days=7) + minute * MINUTE
            watch.take([disk(clock.now, 0.30 + minute / 100_000)], clock.now)
        watch.keep_history(clock.now)
    clock.now = START + 4 * timedelta(days=7) + HOUR
    watch.take([disk(clock.now, 0.6)], clock.now)
    watch.keep_history(clock.now)
    [check] = watch.part(clock.now).checks
    assert check.usual is not None
    assert check.usual[0] < 0.3 < check.usual[1] < 0.5
    assert firing(watch, clock.now) == {}


def test_a_clock_set_forward_an_hour_fires_nothing_that_has_not_lasted(watch: Watch, clock: Clock) -> None:
    bad = Result("keepwatch", "mounts", Status.CRITICAL, "hang", clock.now, 0.0)
    watch.take([bad], clock.now)
    watch.evaluate(clock.now, {})
    [before] = [one for one in watch.part(clock.now).alerts if one.check == "keepwatch"]
    clock.now += HOUR
    watch.evaluate(clock.now, {})
    [after] = [one for one in watch.part(clock.now).alerts if one.check == "keepwatch"]
    assert clock.now - after.since < MINUTE
    assert before.since == START


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_job_explains_its_load_after_the_clock_was_set_and_no_longer_than_it_runs(
    watch: Watch, clock: Clock, by: timedelta
) -> None:
    running = {("backup", "documents", ""): None}
    watch.evaluate(clock.now, running)
    clock.now += by
    watch.evaluate(clock.now, running)
    [window] = watch._load_windows(running, clock.now)
    assert abs(window.opened_at - clock.now) < MINUTE
    watch.evaluate(clock.now, {})
    assert watch._load_windows({}, clock.now + MINUTE) != []
    assert watch._load_windows({}, clock.now + 3 * MINUTE) == []


def test_a_clock_that_is_set_while_the_daemon_is_down_fires_nothing_that_has_not_lasted(
    tmp_path: Path, clock: Clock
) -> None:
    since = []
    for _ in range(2):
        watch = open_watch(tmp_path, clock)
        watch.take([Result("keepwatch", "mounts", Status.CRITICAL, "hang", clock.now, 0.0)], clock.now)
        watch.evaluate(clock.now, {})
        since += [clock.now - one.since for one in watch.part(clock.now).alerts]
        watch.close()
        clock.now += HOUR
    assert max(since) < MINUTE


def test_a_corrupt_monitor_db_is_set_aside_started_afresh_and_alerted_with_its_name(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "monitor.db").write_bytes(b"this is no database" * 500)
    watch = open_watch(tmp_path, clock)
    try:
        problems = watch.problems()
        watch.take(bridge.results([], [], problems, clock.now), clock.now)
        message = firing(watch, clock.now)["keepwatch"]
        assert "monitor.db was damaged, is now monitor.db.corrupt-1" in message
        assert (tmp_path / "monitor.db.corrupt-1").exists()
        watch.take([disk(clock.now, 0.5)], clock.now)
        watch.keep_history(clock.now)
        assert watch.history.samples("disk", "", "used", START, START) == [(START, 0.5)]
    finally:
        watch.close()


def test_room_that_runs_out_and_restores_that_outgrow_their_promise_are_foreseen(tmp_path: Path) -> None:
    config = tmp_path / "keepwatch.toml"
    config.write_text(
        '[repositories.local]\nurl = "/srv/r"\npassword_file = "/p"\n'
        '[jobs.a]\nsource = { type = "files", paths = ["/srv"] }\nrepositories = ["local"]\nfull = "daily 02:00"\n'
        'rto = "30m"\n'
    )
    settings = load(config, environ={}, state_dir=tmp_path)
    found = bridge.forecasts(settings.jobs, settings.repositories)
    assert {(check, rule.reading, rule.reaches) for check, rules in found.items() for rule in rules} == {
        ("repository local", "free_bytes", "0"), ("drill a", "rto", "1800s"),
    }  # fmt: skip
