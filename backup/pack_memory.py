"""Remembers when each pack was last read and found sound, and what was wrong with it: two tables in the catalog.

What is remembered here is convenience, not truth: when it is lost, every pack counts as never verified and is read
again. It decides nothing; `rolling` chooses what to read. Imports nothing that the idle daemon should not carry.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup.catalog import Catalog

SCHEMA = """
CREATE TABLE IF NOT EXISTS packs (
    repository TEXT NOT NULL, pack TEXT NOT NULL, size INTEGER NOT NULL, seen_at TEXT NOT NULL, verified_at TEXT,
    problem TEXT, PRIMARY KEY (repository, pack)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pack_readings (
    repository TEXT PRIMARY KEY, oldest_at TEXT, by_hour TEXT NOT NULL, damaged TEXT NOT NULL
) WITHOUT ROWID;
"""
_HOUR = len("2026-03-01T12")


@dataclass(frozen=True, slots=True)
class PackRow:
    """One pack. ``problem`` is what was wrong when it was last read, None when it was sound or never read."""

    pack: str
    size: int
    seen_at: datetime
    """When it was first seen."""
    verified_at: datetime | None
    problem: str | None = None

    @property
    def unverified_since(self) -> datetime:
        """From when on nobody has proved it: its last proof, or its first appearance."""
        return self.verified_at or self.seen_at


@dataclass(frozen=True, slots=True)
class Reading:
    """What the readings of one repository amount to; sizes in bytes."""

    oldest_at: datetime | None
    """Since when the pack that waits longest was not verified; None without packs."""
    by_hour: Mapping[str, tuple[int, int]]
    """Packs and their bytes by the hour of their last proof (``2026-03-01T12``, UTC); under "" those without one, and
    those that were damaged since.
    """
    damaged: tuple[str, ...] = ()
    """Packs that were damaged when last read."""

    def verified_ratio(self, now: datetime, within: timedelta | None) -> float:
        """Give the share of bytes that were read and found sound ``within`` that time, or ever; 1 without packs."""
        since = "0" if within is None else _text(now - within)[:_HOUR]
        total = sum(size for _, size in self.by_hour.values())
        proven = sum(size for hour, (_, size) in self.by_hour.items() if hour >= since)
        return proven / total if total else 1.0


class PackMemory:
    """The packs of one repository, as the catalog remembers them. Raises CatalogError."""

    def __init__(self, catalog: "Catalog", repository: str) -> None:
        self._catalog = catalog
        self._repository = repository

    def packs(self) -> list[PackRow]:
        """Return every pack, by name."""
        rows = self._catalog.rows("SELECT * FROM packs WHERE repository = ? ORDER BY pack", (self._repository,))
        return [
            PackRow(row["pack"], row["size"], _moment(row["seen_at"]),
                    _moment(row["verified_at"]) if row["verified_at"] else None, row["problem"])
            for row in rows
        ]  # fmt: skip

    def sync(self, packs: Mapping[str, int], now: datetime) -> None:
        """Know exactly these packs (name to size in bytes): new ones are unverified, those that are gone drop out."""
        rows = self._catalog.rows("SELECT pack FROM packs WHERE repository = ?", (self._repository,))
        known = {row["pack"] for row in rows}
        gone, new = known - packs.keys(), packs.keys() - known
        if gone or new:
            self._catalog.change(
                ("DELETE FROM packs WHERE repository = ? AND pack = ?", [(self._repository, pack) for pack in gone]),
                (
                    "INSERT OR IGNORE INTO packs (repository, pack, size, seen_at) VALUES (?, ?, ?, ?)",
                    [(self._repository, pack, packs[pack], _text(now)) for pack in sorted(new)],
                ),
            )
            self._sum_up()

    def record(self, read: Iterable[tuple[str, str | None]], now: datetime) -> None:
        """Note packs that were read: each with what was wrong, or None. A damaged one keeps its last good proof."""
        sound, damaged = [], []
        for pack, problem in read:
            if problem is None:
                sound.append((_text(now), self._repository, pack))
            else:
                damaged.append((problem, self._repository, pack))
        self._catalog.change(
            ("UPDATE packs SET verified_at = ?, problem = NULL WHERE repository = ? AND pack = ?", sound),
            ("UPDATE packs SET problem = ? WHERE repository = ? AND pack = ?", damaged),
        )
        self._sum_up()

    def _sum_up(self) -> None:
        """Keep the sums beside the packs, so that showing them does not cost a walk over all."""
        sql = f"""
            SELECT CASE WHEN problem IS NULL THEN substr(coalesce(verified_at, ''), 1, {_HOUR}) ELSE '' END AS hour,
                count(*) AS packs, sum(size) AS bytes, min(coalesce(verified_at, seen_at)) AS oldest_at
            FROM packs WHERE repository = ? GROUP BY hour"""  # noqa: S608 - a constant of this module
        rows = self._catalog.rows(sql, (self._repository,))
        by_hour = {row["hour"]: (row["packs"], row["bytes"]) for row in rows}
        oldest_at = min((row["oldest_at"] for row in rows), default=None)
        bad = self._catalog.rows(
            "SELECT pack FROM packs WHERE repository = ? AND problem IS NOT NULL ORDER BY pack", (self._repository,)
        )
        row = (self._repository, oldest_at, json.dumps(by_hour), json.dumps([row["pack"] for row in bad]))
        self._catalog.change(("INSERT OR REPLACE INTO pack_readings VALUES (?, ?, ?, ?)", [row]))


def readings(catalog: "Catalog") -> dict[str, Reading]:
    """Return what the readings of every repository amount to, by its name."""
    return {
        row["repository"]: Reading(
            _moment(row["oldest_at"]) if row["oldest_at"] else None,
            {hour: (packs, size) for hour, (packs, size) in json.loads(row["by_hour"]).items()},
            tuple(json.loads(row["damaged"])),
        )
        for row in catalog.rows("SELECT * FROM pack_readings")
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
