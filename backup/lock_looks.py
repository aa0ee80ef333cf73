"""Remembers which locks runs left behind: for each repository, when somebody looked and how old the oldest lock was.

Locks are renewed every five minutes (backup/lock.py), so one that was half an hour old when it was seen belongs to
nobody any more, and could not be cleared away. One table in the catalog; the locks themselves are seen by the processes
that open repositories, and the daemon, which opens none, reads about them here. Decides nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup.catalog import Catalog

SCHEMA = """
CREATE TABLE IF NOT EXISTS lock_looks (
    repository TEXT PRIMARY KEY, looked_at TEXT NOT NULL, oldest_at TEXT
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class LockLook:
    """What was seen of one repository's locks."""

    repository: str
    looked_at: datetime
    oldest_at: datetime | None
    """When the lock that waits longest was made or last renewed; None when nobody else had one."""


def note_locks(catalog: "Catalog", look: LockLook) -> None:
    """Remember what was seen last. Raises CatalogError."""
    row = (look.repository, look.looked_at.isoformat(), look.oldest_at.isoformat() if look.oldest_at else None)
    catalog.change(("INSERT OR REPLACE INTO lock_looks VALUES (?, ?, ?)", [row]))


def lock_looks(catalog: "Catalog") -> dict[str, LockLook]:
    """Return what was seen last, by repository. Raises CatalogError."""
    return {
        row["repository"]: LockLook(
            row["repository"], datetime.fromisoformat(row["looked_at"]),
            datetime.fromisoformat(row["oldest_at"]) if row["oldest_at"] else None,
        )
        for row in catalog.rows("SELECT * FROM lock_looks")
    }  # fmt: skip
