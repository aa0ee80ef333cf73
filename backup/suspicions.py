"""Remembers which snapshots the guard found suspicious, why, and who agreed to them: one table in the catalog.

The tag in the snapshot is the lasting mark; the row has the reasons and the agreement. A tagged snapshot without a row
(the catalog was lost, or the run died between both) gets one here, so that a suspicion is never lost, only agreed to.
Imports nothing that the idle daemon should not carry.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from config.said import Said, packed, unpacked

if TYPE_CHECKING:
    from backup.catalog import Catalog

TAG: Final = "suspicious"
"""Marks such a snapshot in the repository, for restic's eyes too."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS suspicions (
    repository TEXT NOT NULL, snapshot TEXT NOT NULL, job TEXT NOT NULL, taken_at TEXT NOT NULL, reasons TEXT NOT NULL,
    agreed_at TEXT, author TEXT, comment TEXT, PRIMARY KEY (repository, snapshot)
) WITHOUT ROWID;
"""
_REASONS_LOST = Said("it was flagged when it was taken; the reasons were lost with the catalog")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One flagged snapshot; pending until ``agreed_at``."""

    repository: str
    snapshot: str
    job: str
    taken_at: datetime
    reasons: tuple[str, ...] = (_REASONS_LOST,)
    """In words and figures."""
    agreed_at: datetime | None = None
    author: str | None = None
    comment: str | None = None

    def __str__(self) -> str:
        return f"snapshot {self.snapshot[:8]}: {'; '.join(self.reasons)}"


class Suspicions:
    """All of them, in every repository. Raises CatalogError."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog = catalog

    def add(self, found: Iterable[Suspicion]) -> None:
        """Note suspicions; one that is known already stays as it is, its agreement included."""
        rows = [(s.repository, s.snapshot, s.job, _text(s.taken_at), _written(s.reasons)) for s in found]
        sql = "INSERT OR IGNORE INTO suspicions (repository, snapshot, job, taken_at, reasons) VALUES (?, ?, ?, ?, ?)"
        if rows:
            self._catalog.change((sql, rows))

    def pending(self, *, job: str | None = None, repository: str | None = None) -> list[Suspicion]:
        """Return those that nobody agreed to yet, oldest first."""
        sql = "SELECT * FROM suspicions WHERE agreed_at IS NULL ORDER BY taken_at, snapshot"
        return [
            found
            for found in map(_suspicion, self._catalog.rows(sql))
            if job in (None, found.job) and repository in (None, found.repository)
        ]

    def agreed(self, repository: str) -> frozenset[str]:
        """Return the ids of the snapshots that somebody agreed to."""
        sql = "SELECT snapshot FROM suspicions WHERE repository = ? AND agreed_at IS NOT NULL"
        return frozenset(row["snapshot"] for row in self._catalog.rows(sql, (repository,)))

    def agree(self, found: Sequence[Suspicion], author: str, comment: str, now: datetime) -> None:
        """Record who agreed, when and why: what was suspicious is the new normal."""
        sql = "UPDATE suspicions SET agreed_at = ?, author = ?, comment = ? WHERE repository = ? AND snapshot = ?"
        self._catalog.change((sql, [(_text(now), author, comment, s.repository, s.snapshot) for s in found]))


def _suspicion(row: "Iterable[object]") -> Suspicion:
    repository, snapshot, job, taken_at, reasons, agreed_at, author, comment = row
    return Suspicion(
        str(repository), str(snapshot), str(job), datetime.fromisoformat(str(taken_at)),
        _read(str(reasons)), datetime.fromisoformat(str(agreed_at)) if agreed_at else None,
        str(author) if author else None, str(comment) if comment else None,
    )  # fmt: skip


def _written(reasons: Iterable[str]) -> str:
    """Write each as it reads, with what it was made of beside it."""
    return json.dumps([[reason, packed(reason)] for reason in reasons])


def _read(written: str) -> tuple[str, ...]:
    """Read what ``_written`` wrote; earlier versions wrote the texts alone."""
    return tuple(one if isinstance(one, str) else unpacked(*one) for one in json.loads(written))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
