"""What a SQLite database holds, by its own count; the same questions at backup and after a restore.

It reads one file that nobody writes to.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from backup.applications.manifest import Manifest, TableFacts, sortable

KIND = "sqlite"


def open_still(path: Path) -> sqlite3.Connection:
    """Open a database file that nobody writes to: it is not locked, and nothing is created beside it."""
    uri = f"file:{quote(os.fspath(path))}?immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def quoted(name: str) -> str:
    """Write a name as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'


def tables(database: sqlite3.Connection) -> Iterator[str]:
    """Yield the names of ordinary tables; virtual ones keep their rows in others, which are among them."""
    statement = (
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
        " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name"
    )
    for (name,) in database.execute(statement).fetchall():
        yield name


def count(path: Path, newest: Sequence[str], taken_at: datetime) -> Manifest:
    """Count everything in the file ``path``; ``newest`` names columns as ``table.column``.

    Raises sqlite3.Error; ValueError for a column whose values cannot be compared later.
    """
    with closing(open_still(path)) as database:
        counted = {name: _facts(database, name, newest) for name in tables(database)}
        details = {
            name: database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("user_version", "application_id", "page_size", "encoding")
        }
    return Manifest(
        KIND, sqlite3.sqlite_version, taken_at, counted, path.stat().st_size, details=details | {"file": path.name}
    )


def _facts(database: sqlite3.Connection, table: str, newest: Sequence[str]) -> TableFacts:
    rows = database.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0]  # noqa: S608 - quoted
    greatest = {}
    for column in (name.partition(".")[2] for name in newest if name.partition(".")[0] == table):
        # with its table before it, for SQLite takes a quoted name that it does not know for text
        greatest_value = f"SELECT max({quoted(table)}.{quoted(column)}) FROM {quoted(table)}"  # noqa: S608 - quoted
        value = database.execute(greatest_value).fetchone()[0]
        if value is not None:
            try:
                greatest[column] = sortable(value)
            except ValueError as error:
                raise ValueError(f"could not note the newest {table}.{column}: {error}") from None
    return TableFacts(rows, rows, greatest)
