"""The main readings of the last two days: what sparklines and the history page are drawn from.

Samples wait in memory and are written in batches, one transaction each; the newest of each series stay in memory, so
that whoever draws never waits for the disk. Old samples go, and so do the oldest when the file grows beyond its cap.
Holds numbers only, never statuses or alerts, and nothing that may not be lost in a power cut.
"""

import sqlite3
from array import array
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from monitor.result import Result
from monitor.store import MonitorStore, MonitorStoreError

_TREND_SAMPLES = 120
_PRUNE_EVERY = timedelta(minutes=10)
_CUT_SHARE = 0.1
"""How much of the time span goes when the file is too big."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Key = tuple[str, str, str]
"""Check, entity, reading."""


class History:
    """Samples of main readings. One thread at a time."""

    def __init__(
        self,
        store: MonitorStore,
        *,
        keep: timedelta = timedelta(hours=48),
        max_bytes: int = 256 * 2**20,
        most_waiting: int = 100_000,
    ) -> None:
        """``max_bytes`` caps the whole file; ``most_waiting`` the samples in memory while it cannot be written."""
        self._database = store.database
        self._keep, self._max_bytes = keep, max_bytes
        self._waiting: deque[tuple[Key, str, int, float]] = deque(maxlen=most_waiting)
        self._series: dict[Key, int] = {}
        self._recent: dict[tuple[str, str], tuple[str, array[float]]] = {}
        self._pruned_at: datetime | None = None
        self._files_lost = 0

    def add(self, results: Iterable[Result]) -> None:
        """Take the main reading of each result that has one."""
        for result in results:
            if result.readings:
                main = result.readings[0]
                key = (result.check, result.entity, main.name)
                self._waiting.append((key, main.unit, _to_ms(result.at), main.value))
                values = self._load(result.check, result.entity, main.name)
                values.append(main.value)
                del values[:-_TREND_SAMPLES]

    def flush(self, now: datetime) -> int:
        """Write what waits, drop what is too old; return how many samples were written. Call it every few seconds.

        Raises MonitorStoreError; what waits goes on waiting then, the oldest giving way when it becomes too much.
        """
        if self._files_lost != len(self._database.set_aside):
            self._series.clear()
            self._files_lost = len(self._database.set_aside)
        written = len(self._waiting)
        if written:
            known = dict(self._series)
            with self._database.write(durable=False) as connection:
                rows = []
                for key, unit, at_ms, value in self._waiting:
                    if key not in known:
                        connection.execute(
                            "INSERT OR IGNORE INTO series (check_name, entity, reading, unit) VALUES (?, ?, ?, ?)",
                            (*key, unit),
                        )
                        known[key] = connection.execute(
                            "SELECT id FROM series WHERE check_name = ? AND entity = ? AND reading = ?", key
                        ).fetchone()[0]
                    rows.append((known[key], at_ms, value))
                connection.executemany("INSERT OR REPLACE INTO samples (series, at_ms, value) VALUES (?, ?, ?)", rows)
            self._series = known
            self._waiting.clear()
        if self._pruned_at is None or abs(now - self._pruned_at) >= _PRUNE_EVERY:
            self._prune(now)
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
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT at_ms, value FROM samples JOIN series ON series.id = samples.series"
                " WHERE check_name = ? AND entity = ? AND reading = ? AND at_ms BETWEEN ? AND ? ORDER BY at_ms",
                (check, entity, reading, _to_ms(since), _to_ms(until)),
            ).fetchall()
        return [(_EPOCH + row["at_ms"] * _MILLISECOND, row["value"]) for row in rows]

    def _load(self, check: str, entity: str, reading: str) -> "array[float]":
        """Return the recent values of a series; the first time after a restart, those from the file."""
        name, values = self._recent.get((check, entity), ("", array("d")))
        if name == reading:
            return values
        rows: list[sqlite3.Row] = []
        # A file that cannot be read costs the sparkline its past, and nobody a result.
        with suppress(MonitorStoreError), self._database.read() as connection:
            rows = connection.execute(
                "SELECT value FROM samples WHERE series ="
                " (SELECT id FROM series WHERE check_name = ? AND entity = ? AND reading = ?)"
                " ORDER BY at_ms DESC LIMIT ?",
                (check, entity, reading, _TREND_SAMPLES),
            ).fetchall()
        values = array("d", [row["value"] for row in reversed(rows)])
        self._recent[check, entity] = (reading, values)
        return values

    def _prune(self, now: datetime) -> None:
        with self._database.write(durable=False) as connection:
            ids = [row["id"] for row in connection.execute("SELECT id FROM series")]
            horizon = _to_ms(now - self._keep)
            if _used_bytes(connection) > self._max_bytes:
                firsts = (
                    connection.execute("SELECT min(at_ms) FROM samples WHERE series = ?", (one,)).fetchone()[0]
                    for one in ids
                )
                oldest = min((first for first in firsts if first is not None), default=horizon)
                horizon = max(horizon, oldest + round((_to_ms(now) - oldest) * _CUT_SHARE))
            # By series, since that is how they lie; an index by time would be as big as the table.
            old = [(one, horizon) for one in ids]
            connection.executemany("DELETE FROM samples WHERE series = ? AND at_ms < ?", old)
            connection.execute("DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM samples WHERE series = series.id)")
            self._series.clear()


def _used_bytes(connection: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size


def _to_ms(moment: datetime) -> int:
    return round((moment - _EPOCH) / _MILLISECOND)
