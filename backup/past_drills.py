"""Remembers which drills ended, and what they proved. One table in the catalog.

The journal is the evidence; this is what can be asked for: the latest, each job's last, which snapshots are proven. A
drill in whose way a fault was planted tests the drill, not the job: it is kept, and none of the questions counts it.
Imports nothing that the idle daemon should not carry.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backup.drills.levels import WHOLE
from config.said import packed, unpacked

if TYPE_CHECKING:
    from backup.catalog import Catalog

SCHEMA = """
CREATE TABLE IF NOT EXISTS drills (
    id INTEGER PRIMARY KEY, run INTEGER, job TEXT NOT NULL, repository TEXT NOT NULL, snapshot TEXT NOT NULL,
    level TEXT NOT NULL, verdict TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT NOT NULL,
    rto_seconds REAL, rpo_seconds REAL, files INTEGER NOT NULL, bytes INTEGER NOT NULL, message TEXT NOT NULL,
    planted TEXT, said TEXT
);
"""
_WHOLE = f"({', '.join(repr(level.value) for level in WHOLE)})"


@dataclass(frozen=True, slots=True)
class PastDrill:
    """A restore drill that ended."""

    id: int
    job: str
    repository: str
    snapshot: str
    level: str
    verdict: str
    """``PASSED``, ``FAILED`` or ``INCONCLUSIVE``."""
    started_at: datetime
    ended_at: datetime
    rto_seconds: float | None
    """Measured time to have everything back."""
    rpo_seconds: float | None
    """Measured age of the data that came back."""
    files: int
    bytes: int
    message: str
    """What was compared, or what failed, by name."""


class PastDrills:
    """All of them. Raises CatalogError."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog = catalog

    def add(self, run: int, drill: PastDrill, *, planted: str | None = None) -> None:
        """Remember a drill that ended, by the number of its run; its ``id`` is given here. ``planted`` names the fault
        that was put in its way on purpose.
        """
        sql = """
            INSERT INTO drills (run, job, repository, snapshot, level, verdict, started_at, ended_at, rto_seconds,
                rpo_seconds, files, bytes, message, planted, said)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        row = (
            run, drill.job, drill.repository, drill.snapshot, drill.level, drill.verdict, _text(drill.started_at),
            _text(drill.ended_at), drill.rto_seconds, drill.rpo_seconds, drill.files, drill.bytes, drill.message,
            planted, packed(drill.message),
        )  # fmt: skip
        self._catalog.change((sql, [row]))

    def latest(self, limit: int) -> list[PastDrill]:
        """Return the latest ones, newest first."""
        rows = self._catalog.rows("SELECT * FROM drills WHERE planted IS NULL ORDER BY id DESC LIMIT ?", (limit,))
        return [_drill(row) for row in rows]

    def last_of_jobs(self) -> dict[str, PastDrill]:
        """Return each job's latest one."""
        sql = "SELECT * FROM drills WHERE id IN (SELECT max(id) FROM drills WHERE planted IS NULL GROUP BY job)"
        return {row["job"]: _drill(row) for row in self._catalog.rows(sql)}

    def proven(self) -> dict[tuple[str, str], datetime]:
        """Return when each snapshot was last proven, by repository and snapshot id."""
        sql = f"""
            SELECT repository, snapshot, max(ended_at) AS at FROM drills
            WHERE verdict = 'PASSED' AND planted IS NULL AND level IN {_WHOLE} GROUP BY repository, snapshot"""  # noqa: S608 - a constant of this module
        return {(row["repository"], row["snapshot"]): _moment(row["at"]) for row in self._catalog.rows(sql)}


def _drill(row: sqlite3.Row) -> PastDrill:
    return PastDrill(
        row["id"], row["job"], row["repository"], row["snapshot"], row["level"], row["verdict"],
        _moment(row["started_at"]), _moment(row["ended_at"]), row["rto_seconds"], row["rpo_seconds"], row["files"],
        row["bytes"], unpacked(row["message"], row["said"]),
    )  # fmt: skip


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
