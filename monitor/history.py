"""Readings over time: every one for two days, five minutes for a month, hours for two years; for graphs and judgement.

Samples wait in memory and are written in batches, one transaction each, together with what the five minutes and the
hours that ended amount to; the newest of each series stay in memory, so that whoever draws never waits for the disk.
Old samples go, and so do the finest and oldest when the file grows beyond its cap. Recorded are each check's main
reading and those that ``follow`` names. Holds numbers only, never statuses or alerts, and nothing that may not be lost
in a power cut.
"""

import math
import sqlite3
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from monitor.result import Reading, Result
from monitor.rollup import FIVE_MINUTES_MS, HOUR_MS, SPANS_MS, Accumulator, Rollup, merge
from monitor.store import MonitorStore, MonitorStoreError

_TREND_SAMPLES = 120
_PRUNE_EVERY = timedelta(minutes=10)
_IDLE = timedelta(days=2)
"""A series without readings for longer leaves memory: entities come and go, and the file still knows them."""
_CUT_SHARE = 0.1
"""How much of the time span goes when the file is too big."""
_LEAST_KEPT_MS = (HOUR_MS, 24 * HOUR_MS, 0)
"""How much of samples, five minutes and hours stays before the next coarser ones have to go."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Key = tuple[str, str, str]
"""Check, entity, reading."""


class History:
    """Samples and rollups of readings. One thread at a time."""

    def __init__(
        self,
        store: MonitorStore,
        *,
        keep: timedelta = timedelta(hours=48),
        keep_five_minutes: timedelta = timedelta(days=30),
        keep_hours: timedelta = timedelta(days=730),
        max_bytes: int = 512 * 2**20,
        most_waiting: int = 100_000,
    ) -> None:
        """``max_bytes`` caps the whole file; ``most_waiting`` the samples in memory while it cannot be written."""
        self._database = store.database
        self._keep, self._max_bytes = (keep, keep_five_minutes, keep_hours), max_bytes
        self._waiting: deque[tuple[Key, str, int, float]] = deque(maxlen=most_waiting)
        self._rolled: deque[tuple[Key, str, int, Rollup]] = deque(maxlen=most_waiting)
        self._series: dict[Key, int] = {}
        self._accumulators: dict[Key, tuple[str, Accumulator]] = {}
        self._recent: dict[tuple[str, str], tuple[str, array[float]]] = {}
        self._pruned_at: datetime | None = None
        self._swept_ms = 0
        self._files_lost = 0
        self.follow: Mapping[str, frozenset[str]] = {}
        """Check -> readings to record beside its main one."""

    def configure(
        self, keep: timedelta, keep_five_minutes: timedelta, keep_hours: timedelta, max_bytes: int
    ) -> None:
        """Go by other limits; they count from the next time that old samples are dropped."""
        self._keep, self._max_bytes, self._pruned_at = (keep, keep_five_minutes, keep_hours), max_bytes, None

    def add(self, results: Iterable[Result]) -> None:
        """Take what is to be recorded of each result."""
        for result in results:
            if not result.readings:
                continue
            main = result.readings[0]
            at_ms = _to_ms(result.at)
            values = self._load(result.check, result.entity, main.name)
            values.append(main.value)
            del values[:-_TREND_SAMPLES]
            followed = self.follow.get(result.check, ())
            self._add(result, main, at_ms)
            for reading in result.readings[1:]:
                if reading.name in followed:
                    self._add(result, reading, at_ms)

    def _add(self, result: Result, reading: Reading, at_ms: int) -> None:
        if not math.isfinite(reading.value):
            return
        key = (result.check, result.entity, reading.name)
        self._waiting.append((key, reading.unit, at_ms, reading.value))
        known = self._accumulators.get(key)
        if known is None:
            known = self._accumulators[key] = (reading.unit, self._accumulator(key, reading.unit, at_ms))
        for span, rollup in known[1].add(at_ms, reading.value):
            self._rolled.append((key, reading.unit, span, rollup))

    def flush(self, now: datetime) -> int:
        """Write what waits, drop what is too old; return how many samples were written. Call it every few seconds.

        Raises MonitorStoreError; what waits goes on waiting then, the oldest giving way when it becomes too much.
        """
        if self._files_lost != len(self._database.set_aside):
            self._series.clear()
            self._files_lost = len(self._database.set_aside)
        self._sweep(_to_ms(now))
        written = len(self._waiting)
        if written or self._rolled:
            known = dict(self._series)
            with self._database.write(durable=False, about="history") as connection:
                rows = [
                    (_series_id(connection, known, key, unit), at_ms, value)
                    for key, unit, at_ms, value in self._waiting
                ]
                connection.executemany("INSERT OR REPLACE INTO samples (series, at_ms, value) VALUES (?, ?, ?)", rows)
                rollups = [
                    (_series_id(connection, known, key, unit), span, r.at_ms, r.count, r.low, r.mean, r.high, r.p95)
                    for key, unit, span, r in self._rolled
                ]
                connection.executemany("INSERT OR REPLACE INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rollups)
            self._series = known
            self._waiting.clear()
            self._rolled.clear()
        if self._pruned_at is None or abs(now - self._pruned_at) >= _PRUNE_EVERY:
            self._prune(now)
            self._let_go(_to_ms(now - _IDLE))
            self._pruned_at = now
        return written

    def trend(self, check: str, entity: str, n: int = 60) -> tuple[float, ...]:
        """Return the last ``n`` values (at most 120) of the main reading, oldest first; from memory."""
        _, values = self._recent.get((check, entity), ("", array("d")))
        return tuple(values[-n:]) if n > 0 else ()

    def samples(
        self, check: str, entity: str, reading: str, since: datetime, until: datetime
    ) -> list[tuple[datetime, float]]:
        """Return what was written of one series between two moments, both included, oldest first."""
        return [
            (_EPOCH + at_ms * _MILLISECOND, value)
            for at_ms, value in self._samples((check, entity, reading), _to_ms(since), _to_ms(until))
        ]

    def rollups(
        self, check: str, entity: str, reading: str, since: datetime, until: datetime, width: timedelta
    ) -> list[Rollup]:
        """Return least, mean, greatest and 95th percentile of one series for each ``width`` between two moments, oldest
        first. Stretches without readings are left out.

        Made of hours where ``width`` is whole hours, of five minutes where it is a multiple of that, of samples
        otherwise and for what is not rolled up yet. Raises MonitorStoreError, and ValueError for a width below a
        millisecond.
        """
        width_ms = width // _MILLISECOND
        if width_ms < 1:
            raise ValueError("nothing happens in less than a millisecond")
        key = (check, entity, reading)
        begin, end = _to_ms(since), _to_ms(until)
        parts: list[Rollup] = []
        for span in reversed(SPANS_MS):
            if width_ms % span == 0:
                with self._database.read() as connection:
                    rows = connection.execute(
                        "SELECT at_ms, count, low, mean, high, p95 FROM rollups"
                        " WHERE series = ? AND span_ms = ? AND at_ms BETWEEN ? AND ? ORDER BY at_ms",
                        (_known_id(connection, key), span, begin, end),
                    ).fetchall()
                parts += [Rollup(*row) for row in rows]
                begin = parts[-1].at_ms + span if rows else begin
        parts += [Rollup(at_ms, 1, v, v, v, v) for at_ms, v in self._samples(key, begin, end)]
        return merge(parts, width_ms)

    def series(self, check: str) -> list[tuple[str, str, str]]:
        """Return entity, reading and unit of everything recorded of a check. Raises MonitorStoreError."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT entity, reading, unit FROM series WHERE check_name = ? ORDER BY id", (check,)
            ).fetchall()
        return [(row["entity"], row["reading"], row["unit"]) for row in rows]

    def at_hours(self, check: str, entity: str, reading: str, hours: Iterable[datetime]) -> list[float]:
        """Return the means of those hours (given by any moment in each) as recorded. Raises MonitorStoreError."""
        starts = [_to_ms(hour) // HOUR_MS * HOUR_MS for hour in hours]
        marks = ",".join("?" * len(starts))
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT mean FROM rollups WHERE series = ? AND span_ms = ? AND at_ms IN ({marks})",  # noqa: S608
                (_known_id(connection, (check, entity, reading)), HOUR_MS, *starts),
            ).fetchall()
        return [row["mean"] for row in rows]

    def _samples(self, key: Key, begin_ms: int, end_ms: int) -> list[tuple[int, float]]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT at_ms, value FROM samples WHERE series = ? AND at_ms BETWEEN ? AND ? ORDER BY at_ms",
                (_known_id(connection, key), begin_ms, end_ms),
            ).fetchall()
        return [(row["at_ms"], row["value"]) for row in rows]

    def _sweep(self, now_ms: int) -> None:
        """End the stretches of series that have had no reading since."""
        if now_ms // FIVE_MINUTES_MS == self._swept_ms // FIVE_MINUTES_MS:
            return
        self._swept_ms = now_ms
        for key, (unit, accumulator) in self._accumulators.items():
            for span, rollup in accumulator.end(now_ms):
                self._rolled.append((key, unit, span, rollup))

    def _accumulator(self, key: Key, unit: str, at_ms: int) -> Accumulator:
        """Return a series' accumulator with what a daemon before this one recorded of the hour that it did not end."""
        with suppress(MonitorStoreError), self._database.read() as connection:
            newest = connection.execute(
                "SELECT max(at_ms) FROM samples WHERE series = ?", (_known_id(connection, key),)
            ).fetchone()[0]
            if newest is not None and newest < at_ms:
                rows = self._samples(key, newest - newest % HOUR_MS, newest)
                accumulator = Accumulator(rows[0][0])
                for past_ms, value in rows:
                    # What ended then was written then, unless that daemon crashed; writing it again changes nothing.
                    self._rolled.extend((key, unit, *ended) for ended in accumulator.add(past_ms, value))
                return accumulator
        return Accumulator(at_ms)

    def _load(self, check: str, entity: str, reading: str) -> "array[float]":
        """Return the recent values of a series; the first time after a restart, those from the file."""
        name, values = self._recent.get((check, entity), ("", array("d")))
        if name == reading:
            return values
        rows: list[sqlite3.Row] = []
        # A file that cannot be read costs the sparkline its past, and nobody a result.
        with suppress(MonitorStoreError), self._database.read() as connection:
            rows = connection.execute(
                "SELECT value FROM samples WHERE series = ? ORDER BY at_ms DESC LIMIT ?",
                (_known_id(connection, (check, entity, reading)), _TREND_SAMPLES),
            ).fetchall()
        values = array("d", [row["value"] for row in reversed(rows)])
        self._recent[check, entity] = (reading, values)
        return values

    def _prune(self, now: datetime) -> None:
        with self._database.write(durable=False, about="history") as connection:
            ids = [row["id"] for row in connection.execute("SELECT id FROM series")]
            horizons = [_to_ms(now - kept) for kept in self._keep]
            if _used_bytes(connection) > self._max_bytes:
                self._cut(connection, ids, horizons, _to_ms(now))
            # By series, since that is how they lie; an index by time would be as big as the table.
            connection.executemany(
                "DELETE FROM samples WHERE series = ? AND at_ms < ?", [(one, horizons[0]) for one in ids]
            )
            for span, horizon in zip(SPANS_MS, horizons[1:], strict=True):
                connection.executemany(
                    "DELETE FROM rollups WHERE series = ? AND span_ms = ? AND at_ms < ?",
                    [(one, span, horizon) for one in ids],
                )
            connection.execute(
                "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM samples WHERE series = series.id)"
                " AND NOT EXISTS (SELECT 1 FROM rollups WHERE series = series.id)"
            )
            self._series.clear()

    def _let_go(self, horizon_ms: int) -> None:
        """Forget in memory the series without a reading since then."""
        for key in [key for key, (_, gathered) in self._accumulators.items() if gathered.last_ms < horizon_ms]:
            del self._accumulators[key]
        for gone in self._recent.keys() - {(check, entity) for check, entity, _ in self._accumulators}:
            del self._recent[gone]

    def _cut(self, connection: sqlite3.Connection, ids: list[int], horizons: list[int], now_ms: int) -> None:
        """Move the horizon of the finest samples of which there is enough left."""
        for index, least in enumerate(_LEAST_KEPT_MS):
            oldest = min(_firsts(connection, ids, index), default=now_ms)
            if now_ms - oldest > least:
                horizons[index] = max(horizons[index], oldest + round((now_ms - oldest) * _CUT_SHARE))
                return


def _firsts(connection: sqlite3.Connection, ids: Iterable[int], index: int) -> Iterator[int]:
    """Yield when the oldest sample (index 0) or rollup of each series is from."""
    sql = "SELECT min(at_ms) FROM samples WHERE series = ?"
    if index:
        sql = f"SELECT min(at_ms) FROM rollups WHERE series = ? AND span_ms = {SPANS_MS[index - 1]}"  # noqa: S608
    for one in ids:
        first = connection.execute(sql, (one,)).fetchone()[0]
        if first is not None:
            yield first


def _series_id(connection: sqlite3.Connection, known: dict[Key, int], key: Key, unit: str) -> int:
    if key not in known:
        connection.execute(
            "INSERT OR IGNORE INTO series (check_name, entity, reading, unit) VALUES (?, ?, ?, ?)", (*key, unit)
        )
        known[key] = _known_id(connection, key)
    return known[key]


def _known_id(connection: sqlite3.Connection, key: Key) -> int:
    """Return a series' number; one that no row has, when it has none yet."""
    row = connection.execute(
        "SELECT id FROM series WHERE check_name = ? AND entity = ? AND reading = ?", key
    ).fetchone()
    return int(row["id"]) if row else -1


def _used_bytes(connection: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size


def _to_ms(moment: datetime) -> int:
    return round((moment - _EPOCH) / _MILLISECOND)
