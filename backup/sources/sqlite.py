"""A SQLite database as one file of a snapshot, copied by SQLite's own backup interface while others write.

The copy is one moment of the database. With a write-ahead log nobody waits for it. Without one, it is taken in small
steps between which others may write; as that starts it over, the third time it is taken in one go, which keeps
writers out for as long as the copying takes and no longer.

The copy lies in the state directory until the snapshot is made: it wants as much room there as the database. Its pages
stay where they are from one day to the next, so only changed ones are stored.
"""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from backup.applications import manifest, sqlite_facts
from backup.applications.manifest import Manifest
from backup.errors import SourceError
from backup.sources.streams import PART_BYTES, StreamCapture, StreamSource, emptied, file, folder
from config.databases import SqliteSource as SqliteSettings
from config.units import format_duration

PIECE_BYTES = 64 << 10
"""A multiple of every page size that SQLite has (https://www.sqlite.org/fileformat.html#pages)."""
_STEP_PAGES = 1024
_PAUSE_SECONDS = 0.01
_WAIT_SECONDS = 0.2
_STARTS = 3
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StartedOverTooOften(Exception):  # noqa: N818 - no error: another way is gone
    """Others write so often that steps never reach the end."""


class _Held(Exception):  # noqa: N818
    """Somebody kept the whole file to themselves for too long."""


@dataclass(slots=True)
class Watch:
    """Looks on while a database is copied: the interface itself would try for ever."""

    busy_seconds: float
    starts: int = _STARTS
    _remaining: int = sys.maxsize
    _held_since: float | None = None

    def __call__(self, status: int, remaining: int, _total: int) -> None:
        """Judge one step. Raises StartedOverTooOften, or that somebody kept the file to themselves for too long."""
        if status in _BUSY:
            self._held_since = self._held_since or time.monotonic()
            if time.monotonic() - self._held_since > self.busy_seconds:
                raise _Held
            return
        self._held_since = None
        self.starts -= remaining > self._remaining
        self._remaining = remaining
        if not self.starts:
            raise StartedOverTooOften


@dataclass(frozen=True, slots=True)
class SqliteSource(StreamSource):
    """A database file; it becomes ``/NAME/manifest.json`` and ``/NAME/FILE``."""

    path: Path
    workspace: Path
    """Where its copy lies meanwhile."""
    newest: tuple[str, ...] = ()
    busy_seconds: float = 30

    @classmethod
    def from_settings(
        cls, settings: SqliteSettings, name: str, clock: Callable[[], datetime], workspace: Path
    ) -> "SqliteSource":
        """Make the source that a job's settings describe."""
        seconds = settings.busy_timeout.total_seconds()
        return cls(name, clock, settings.path, workspace, tuple(settings.newest), seconds)

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        """Copy the database, and count what is in the copy. Raises SourceError when either fails."""
        with emptied(self.workspace) as place:
            copy = place / self.path.name
            try:
                taken_at = self._copy(copy)
                counted = sqlite_facts.count(copy, self.newest, taken_at)
                self._require_newest(counted)
            except sqlite3.Error as error:
                raise SourceError(
                    f"could not copy the database {self.path}: {error}",
                    hint="`sqlite3 FILE 'pragma integrity_check'` tells whether the database itself is sound",
                ) from None
            except ValueError as error:
                raise SourceError(str(error), hint="name another column in `newest`") from None
            path = f"/{self.name}"
            steps = [
                file(f"{path}/{manifest.FILE_NAME}", [counted.to_json()], at=taken_at),
                file(f"{path}/{copy.name}", _parts(copy), at=taken_at, page_bytes=PIECE_BYTES),
            ]
            yield StreamCapture(folder(path, steps, at=taken_at), json.loads(counted.to_json()))

    def _copy(self, copy: Path) -> datetime:
        """Copy the database as of one moment; give the latest moment of which it is certain that it holds all."""
        if not self.path.is_file():
            raise SourceError(
                f"could not copy the database {self.path}: no such file",
                hint="correct the path; is a disk not mounted?",
            )
        uri = f"file:{quote(os.fspath(self.path))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)) as live:
            try:
                if live.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    with suppress(StartedOverTooOften):
                        return self._copy_in(_STEP_PAGES, live, copy)
                    copy.unlink()
                return self._copy_in(-1, live, copy)
            except _Held:
                seconds = format_duration(self.busy_seconds)
                raise SourceError(
                    f"could not copy the database {self.path}: somebody has kept it locked for {seconds}",
                    hint="who has it open? `fuser -v FILE` tells; `busy_timeout` says how long to wait",
                ) from None

    def _copy_in(self, pages: int, live: sqlite3.Connection, copy: Path) -> datetime:
        """Copy in steps of so many pages, -1 for all at once."""
        taken_at = self.clock()
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")  # whatever happens to this machine, the copy is not for later
            live.backup(target, pages=pages, progress=Watch(self.busy_seconds), sleep=_PAUSE_SECONDS)
        return taken_at

    def _require_newest(self, counted: Manifest) -> None:
        for column in self.newest:
            table = column.partition(".")[0]
            if table not in counted.tables:
                raise SourceError(
                    f"could not note the newest {column}: there is no table {table} in {self.path}",
                    hint="correct the job's `newest`",
                )


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as content:
        while part := content.read(PART_BYTES):
            yield part
