"""Remembers which jobs are paused: by whom, since when, until when and why. One table in the catalog.

A pause that has run out is over, whether or not somebody takes its row away. What a pause does to a run is not decided
here. Imports nothing that the idle daemon should not carry.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup.catalog import Catalog

SCHEMA = """
CREATE TABLE IF NOT EXISTS pauses (
    job TEXT PRIMARY KEY, author TEXT NOT NULL, comment TEXT NOT NULL, paused_at TEXT NOT NULL, until_at TEXT
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """One job that is to rest."""

    job: str
    author: str
    comment: str
    """Why; may be empty."""
    paused_at: datetime
    until_at: datetime | None
    """When it goes on by itself; None when somebody has to say so."""

    def lasts(self, now: datetime) -> bool:
        """Say whether it has not run out."""
        return self.until_at is None or now < self.until_at

    def __str__(self) -> str:
        return f"paused by {self.author}{f': {self.comment}' if self.comment else ''}"


class Pauses:
    """All of them. Raises CatalogError."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog = catalog

    def add(self, found: Iterable[Pause]) -> None:
        """Pause jobs; a job that is paused already goes by the new pause."""
        rows = [(p.job, p.author, p.comment, _text(p.paused_at), _text_or_none(p.until_at)) for p in found]
        self._catalog.change(("INSERT OR REPLACE INTO pauses VALUES (?, ?, ?, ?, ?)", rows))

    def remove(self, jobs: Iterable[str], now: datetime) -> list[Pause]:
        """Let jobs go on; return the pauses that this ended."""
        chosen = set(jobs)
        ended = [pause for job, pause in self.lasting(now).items() if job in chosen]
        self._catalog.change(("DELETE FROM pauses WHERE job = ?", [(job,) for job in chosen]))
        return ended

    def lasting(self, now: datetime) -> dict[str, Pause]:
        """Return what is paused now, by job."""
        return {pause.job: pause for pause in self.all() if pause.lasts(now)}

    def all(self) -> list[Pause]:
        """Return every row, those that have run out included."""
        return [
            Pause(job, author, comment, datetime.fromisoformat(since), datetime.fromisoformat(until) if until else None)
            for job, author, comment, since, until in self._catalog.rows("SELECT * FROM pauses ORDER BY job")
        ]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _text_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else _text(moment)
