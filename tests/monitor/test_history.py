"""Samples: written in batches, read back, forgotten in time, and never in anybody's way."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.history import History
from monitor.result import Reading, Result, Status
from monitor.store import MonitorStore, MonitorStoreError

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def store(tmp_path):
    opened = MonitorStore(tmp_path / "monitor.db", set_aside_corrupt=True)
    yield opened
    opened.close()


def fill(history: History, count: int, every: timedelta = 10 * SECOND, check: str = "disk", start: datetime = START):
    for number in range(count):
        at = start + number * every
        readings = (Reading("used", number / 10, "ratio"), Reading("free_bytes", 1.0, "bytes"))
        history.add([Result(check, "", Status.OK, "", at, 0.0, readings)])
    return start + count * every


def test_main_readings_are_written_in_one_batch_and_come_back(store) -> None:
    history = History(store)
    now = fill(history, 3)
    writes = store.database.revision()[0]
    history._pruned_at = now
    assert history.flush(now) == 3
    assert store.database.revision()[0] == writes + 1
    assert history.flush(now) == 0
    assert history.samples("disk", "", "used", START, START + 10 * SECOND) == [(START, 0.0), (START + 10 * SECOND, 0.1)]
    assert history.samples("disk", "", "free_bytes", START, now) == []


def test_a_result_without_readings_leaves_a_hole_and_no_zero(store, result) -> None:
    history = History(store)
    history.add([Result("disk", "", Status.UNKNOWN, "failed", START, 0.0)])
    assert history.flush(START) == 0
    assert history.trend("disk", "") == ()


def test_the_trend_is_the_newest_values_and_goes_on_over_a_restart(store) -> None:
    history = History(store)
    now = fill(history, 200)
    assert history.trend("disk", "", 3) == pytest.approx((19.7, 19.8, 19.9))
    assert len(history.trend("disk", "", 1000)) == 120
    history.flush(now)
    again = History(store)
    fill(again, 1, start=now)
    assert again.trend("disk", "", 3) == pytest.approx((19.8, 19.9, 0.0))


def test_entities_have_a_series_each(store) -> None:
    history = History(store)
    for entity, value in (("sda", 1.0), ("sdb", 2.0)):
        history.add([Result("disk_io", entity, Status.OK, "", START, 0.0, (Reading("busy", value, "ratio", entity),))])
    history.flush(START)
    assert history.trend("disk_io", "sdb") == (2.0,)
    assert history.samples("disk_io", "sda", "busy", START, START) == [(START, 1.0)]


def test_what_is_older_than_two_days_goes(store) -> None:
    history = History(store)
    now = fill(history, 49 * 6, every=10 * MINUTE)
    history.flush(now)
    kept = history.samples("disk", "", "used", START, now)
    assert kept[0][0] == now - 48 * HOUR
    later = now + 49 * HOUR
    history.flush(later)
    assert history.samples("disk", "", "used", START, later) == []
    assert len(history.rollups("disk", "", "used", START, later, HOUR)) == 49, "what they amounted to stays"
    later += timedelta(days=730)
    history.flush(later)
    assert history.rollups("disk", "", "used", START, later, HOUR) == []
    with store.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM series").fetchone()[0] == 0
    fill(history, 1, start=later)
    assert history.flush(later) == 1


def test_a_file_that_grows_beyond_its_cap_loses_its_oldest_samples(store) -> None:
    history = History(store, max_bytes=300_000)
    now = fill(history, 20_000, every=5 * SECOND)
    for round_ in range(40):
        history.flush(now + round_ * 10 * MINUTE)
    kept = history.samples("disk", "", "used", START, now)
    assert 0 < len(kept) < 20_000
    assert kept[-1][0] == now - 5 * SECOND, "the newest stay"
    with store.database.read() as connection:
        free, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    assert (pages - free) * 4096 <= 310_000


def test_a_store_that_fails_costs_nothing_until_too_much_waits(store) -> None:
    history = History(store, most_waiting=100)
    now = fill(history, 150)
    with store.database.read() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(MonitorStoreError, match="could not be written"):
        history.flush(now)
    assert history.trend("disk", "", 1) == pytest.approx((14.9,))
    with store.database.read() as connection:
        connection.execute("PRAGMA query_only = OFF")
    assert history.flush(now) == 100
    assert history.samples("disk", "", "used", START, now)[0][0] == START + 50 * 10 * SECOND


def test_after_a_damaged_file_was_set_aside_history_begins_again(store) -> None:
    history = History(store)
    now = fill(history, 3)
    history.flush(now)
    store.database._start_afresh()
    now = fill(history, 2, start=now)
    assert history.flush(now) == 2
    assert len(history.samples("disk", "", "used", START, now)) == 2


def test_five_minutes_and_hours_are_rolled_up_as_they_end(store) -> None:
    history = History(store)
    now = fill(history, 6 * 61, every=10 * SECOND)
    history.flush(now)
    with store.database.read() as connection:
        sql = "SELECT span_ms, count, low, mean, high, p95 FROM rollups ORDER BY span_ms, at_ms"
        rows = connection.execute(sql).fetchall()
    assert len(rows) == 13
    assert tuple(rows[0])[1:] == pytest.approx((30, 0.0, 1.45, 2.9, 2.8))
    assert tuple(rows[12])[1:] == pytest.approx((360, 0.0, 17.95, 35.9, 34.1))
    hour, minute = history.rollups("disk", "", "used", START, now, HOUR)
    assert (hour.count, hour.high, minute.count, minute.high) == (360, 35.9, 6, 36.5)


@pytest.mark.parametrize("width", [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR])
def test_rollups_of_any_width_say_what_the_samples_say(store, width) -> None:
    history = History(store)
    now = fill(history, 6 * 90, every=10 * SECOND)
    history.flush(now)
    kept = history.samples("disk", "", "used", START, now)
    for one in history.rollups("disk", "", "used", START, now, width):
        begin = datetime.fromtimestamp(one.at_ms / 1000, UTC)
        values = [value for at, value in kept if begin <= at < begin + width]
        assert (one.count, one.low, one.high) == (len(values), min(values), max(values))
        assert one.mean == pytest.approx(sum(values) / len(values))
        assert sorted(values)[int(0.9 * len(values))] <= one.p95 <= one.high


def test_a_restart_in_the_middle_of_an_hour_loses_nothing_of_it(store) -> None:
    first = History(store)
    now = fill(first, 100)
    first.flush(now)
    second = History(store)
    now = fill(second, 300, start=now)
    second.flush(now)
    [hour, _] = second.rollups("disk", "", "used", START, now, HOUR)
    assert (hour.count, hour.low) == (360, 0.0)


def test_a_series_that_falls_silent_is_rolled_up_all_the_same(store) -> None:
    history = History(store)
    fill(history, 3)
    history.flush(START + 2 * HOUR)
    with store.database.read() as connection:
        assert [tuple(row) for row in connection.execute("SELECT span_ms, count FROM rollups")] == [
            (300_000, 3), (3_600_000, 3),
        ]  # fmt: skip


def test_readings_that_are_followed_are_recorded_too_and_what_is_no_number_is_not(store) -> None:
    history = History(store)
    history.follow = {"disk": frozenset({"inodes_used"})}
    nothing = float("nan")
    readings = (Reading("used", nothing, "ratio"), Reading("inodes_used", 0.5, "ratio"), Reading("x", 1.0, "count"))
    history.add([Result("disk", "", Status.OK, "", START, 0.0, readings)])
    history.flush(START)
    assert history.series("disk") == [("", "inodes_used", "ratio")]


def test_the_same_hour_of_other_weeks_is_found(store) -> None:
    history = History(store)
    for week in range(4):
        now = fill(history, 10, every=MINUTE, start=START + week * timedelta(days=7))
    history.flush(now + HOUR)
    hours = [START + timedelta(days=7 * week, minutes=30) for week in range(-1, 5)]
    assert history.at_hours("disk", "", "used", hours) == pytest.approx([0.45] * 4)


def test_an_entity_that_is_gone_leaves_memory_and_one_that_comes_back_finds_its_past(store) -> None:
    history = History(store, keep=30 * 24 * HOUR)
    now = fill(history, 3)
    history.flush(now)
    now = fill(history, 3, check="cpu", start=now + 49 * HOUR)
    history.flush(now)
    assert history.trend("disk", "") == ()
    assert len(history._accumulators) == len(history._recent) == 1
    now = fill(history, 1, start=now)
    assert history.trend("disk", "") == pytest.approx((0.0, 0.1, 0.2, 0.0))
    history.flush(now + HOUR)
    hours = history.rollups("disk", "", "used", START, now, HOUR)
    assert [hour.count for hour in hours] == [3, 1]


def test_ten_thousand_checks_cost_one_transaction_a_second(store) -> None:
    history = History(store)
    results = [
        Result(f"check {n}", "", Status.OK, "", START, 0.0, (Reading("used", 0.5, "ratio"),)) for n in range(10_000)
    ]
    history.add(results)
    history.flush(START)
    history.add(replace(result, at=START + MINUTE) for result in results)
    writes = store.database.revision()[0]
    began = time.process_time()
    assert history.flush(START + MINUTE) == 10_000
    assert time.process_time() - began < 1.0
    assert store.database.revision()[0] == writes + 1
