"""Samples: written in batches, read back, forgotten in time, and never in anybody's way."""

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
