"""SQLite on restored data: the library itself opens the file, checks every page and answers questions.

There is nothing to start and nothing to replay. The restored file is never written to, except to plant damage.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backup.applications import sqlite_facts
from backup.applications.base import LATEST, Record, RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.applications.sqlite_facts import open_still, quoted, tables
from backup.errors import ApplicationError, RestoreError
from backup.repository import Repository

_FAULTS_TOLD = 100


class SqliteApplication:
    """A database file beside its manifest."""

    missing = ""

    def records(self, repository: Repository, folder: Path) -> Sequence[Record]:  # noqa: ARG002 - the seam
        """Give none: SQLite keeps no log of what was committed."""
        return ()

    def recover(self, repository: Repository, folder: Path, target: RecoveryTarget) -> None:  # noqa: ARG002
        """Do nothing for the latest. Raises RestoreError for any other target."""
        if target != LATEST:
            raise RestoreError(
                "could not recover a SQLite database to a chosen moment: it keeps no log",
                hint="restore the snapshot before that moment; `keepwatch snapshots` lists them",
            )

    @contextmanager
    def start(self, folder: Path, *, workspace: Path, timeout_seconds: float) -> Iterator["SqliteRunning"]:  # noqa: ARG002
        """Open the database."""
        try:
            saved = Manifest.from_json((folder / FILE_NAME).read_bytes())
            path = folder / str(saved.details["file"])
        except (OSError, KeyError, ValueError) as error:
            raise ApplicationError(f"could not find the database in {folder}: {error}") from None
        if path.parent != folder or not path.is_file():
            raise ApplicationError(f"could not open the database {path}: no such file")
        yield SqliteRunning(path, saved)


@dataclass(frozen=True, slots=True)
class SqliteRunning:
    """A database that lies still."""

    path: Path
    saved: Manifest

    @property
    def reached_at(self) -> datetime | None:
        """Unknown: transactions carry no moment."""
        return None

    @property
    def environment(self) -> Mapping[str, str]:
        """Where the file is."""
        return {"KEEPWATCH_SQLITE": os.fspath(self.path)}

    def manifest(self) -> Manifest:
        """Count again what was counted at backup."""
        newest = [f"{table}.{column}" for table, facts in self.saved.tables.items() for column in facts.newest]
        try:
            return sqlite_facts.count(self.path, newest, self.saved.taken_at)
        except (sqlite3.Error, ValueError) as error:
            raise ApplicationError(f"could not count what is in {self.path.name}: {error}") from None

    def integrity(self) -> list[str]:
        """Check every page, index and constraint, then all foreign keys."""
        faults: list[str] = []
        with closing(open_still(self.path)) as database:
            try:
                for (line,) in database.execute(f"PRAGMA integrity_check({_FAULTS_TOLD})"):
                    if line != "ok":
                        faults.append(f"{self.path.name}: {' '.join(str(line).split())}")
                for table, row, parent, _ in database.execute("PRAGMA foreign_key_check").fetchmany(_FAULTS_TOLD):
                    faults.append(f"table {table}: row {row} refers to one of {parent} that is not there")
            except sqlite3.DatabaseError as error:  # so badly damaged that the check itself ends
                faults.append(f"{self.path.name}: {error}")
        return faults

    def query(self, statement: str, database: str | None = None) -> object:  # noqa: ARG002 - there is only one
        """Give the first value of the first row."""
        try:
            with closing(open_still(self.path)) as opened:
                row = opened.execute(statement).fetchone()
        except sqlite3.Error as error:
            raise ApplicationError(f"the statement failed: {error}") from None
        return row[0] if row else None

    def plant(self, fault: str) -> str:
        """Drop the table with most rows, or delete one of its rows."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            counted = {
                name: database.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]  # noqa: S608 - quoted
                for name in tables(database)
            }
            largest = max(counted, key=lambda name: (counted[name], name), default="")
            if not counted.get(largest):
                raise ValueError("no table holds a row")
            if fault == "dropped-table":
                database.execute(f"DROP TABLE {quoted(largest)}")
            else:
                keys = ", ".join(quoted(name) for name in _keys(database, largest)) or "rowid"
                first = f"SELECT {keys} FROM {quoted(largest)} LIMIT 1"  # noqa: S608 - quoted
                database.execute(f"DELETE FROM {quoted(largest)} WHERE ({keys}) IN ({first})")  # noqa: S608
            database.execute("PRAGMA journal_mode = DELETE")  # so that all is in the one file again
        return f"table {largest}"


def _keys(database: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table's primary key; none where rows are told apart by their number."""
    statement = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk"
    return [name for (name,) in database.execute(statement, (table,))]
