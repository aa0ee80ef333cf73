"""Reading from PostgreSQL, MariaDB or MySQL, and SQLite, by a connection string. It can never write.

For use in a child (:class:`monitor.probes.in_child.InChild`): drivers are large, and not all that they wait for can be
interrupted. Statements are the operator's own and run as they are, in a transaction that only reads.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from monitor.result import ProbeError

_HINT = "pip install 'keepwatch[databases]'"
_LOGIN_REFUSED = ("authentication failed", "no pg_hba.conf entry", "no password supplied", "role ", 'database "')


class NoConnection(ProbeError):  # noqa: N818 - for some checks a finding
    """The database cannot be reached; a login that is refused is a plain ProbeError."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a query gave: names of columns in lower case, and the rows, which can be gone through once."""

    columns: Sequence[str]
    rows: Iterator[Sequence[Any]]

    def one(self) -> dict[str, Any]:
        """Return the first row by column; empty when there is none."""
        row = next(self.rows, None)
        return {} if row is None else dict(zip(self.columns, row, strict=True))

    def all(self) -> list[dict[str, Any]]:
        """Return all rows by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Database:
    """An open connection. ``read`` raises ProbeError with what the database says."""

    def __init__(self, connection: Any, errors: tuple[type[Exception], ...], shown: str) -> None:
        self._connection = connection
        self._errors = errors
        self._shown = shown

    def read(self, query: str) -> Rows:
        """Run one query."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(query)
        except self._errors as error:
            raise ProbeError(f"asking {self._shown}: {_first_line(error)}") from error
        columns = [str(column[0]).lower() for column in cursor.description or ()]
        return Rows(columns, self._rows(cursor))

    def _rows(self, cursor: Any) -> Iterator[Sequence[Any]]:
        try:
            while rows := cursor.fetchmany(1000):
                yield from rows
        except self._errors as error:
            raise ProbeError(f"reading from {self._shown}: {_first_line(error)}") from error


@contextlib.contextmanager
def database(dsn: str, timeout_seconds: float) -> Iterator[Database]:
    """Open ``dsn``: ``sqlite:///PATH``, ``mysql://...``, ``mariadb://...``, or whatever libpq takes.

    Raises NoConnection, and ProbeError for a login that is refused or a driver that is missing.
    """
    scheme = dsn.partition(":")[0].lower()
    if scheme == "sqlite":
        opened = _sqlite(dsn, timeout_seconds)
    elif scheme in ("mysql", "mariadb"):
        opened = _mysql(dsn, timeout_seconds)
    else:
        opened = _postgres(dsn, timeout_seconds)
    with opened as ready:
        yield ready


@contextlib.contextmanager
def _sqlite(dsn: str, timeout_seconds: float) -> Iterator[Database]:
    path = "/" + unquote(urlsplit(dsn).path).lstrip("/")  # SQLAlchemy writes an absolute path with four slashes
    deadline = time.monotonic() + timeout_seconds
    try:
        connection = sqlite3.connect(f"file:{path.replace('?', '%3f').replace('#', '%23')}?mode=ro", uri=True,
                                     timeout=timeout_seconds, isolation_level=None)  # fmt: skip
    except sqlite3.Error as error:
        raise NoConnection(f"opening {path}: {error}") from error
    with contextlib.closing(connection):
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        yield Database(connection, (sqlite3.Error,), path)


@contextlib.contextmanager
def _postgres(dsn: str, timeout_seconds: float) -> Iterator[Database]:
    try:
        import psycopg
    except ImportError as error:
        raise ProbeError("asking PostgreSQL: psycopg is not installed", hint=_HINT) from error
    try:
        connection = psycopg.connect(
            dsn, connect_timeout=max(2, int(timeout_seconds)), application_name="keepwatch", autocommit=False
        )
    except psycopg.Error as error:
        said = _first_line(error)
        kind = ProbeError if any(word in said for word in _LOGIN_REFUSED) else NoConnection
        raise kind(f"logging in to PostgreSQL: {said}") from error
    where = f"{connection.info.host or 'PostgreSQL'}:{connection.info.port}/{connection.info.dbname}"
    with contextlib.closing(connection):
        connection.read_only = True
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{timeout_seconds * 1000:.0f}",))
        yield Database(connection, (psycopg.Error,), where)


@contextlib.contextmanager
def _mysql(dsn: str, timeout_seconds: float) -> Iterator[Database]:
    try:
        import pymysql
        import pymysql.cursors
    except ImportError as error:
        raise ProbeError("asking MariaDB or MySQL: PyMySQL is not installed", hint=_HINT) from error
    parts = urlsplit(dsn)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    where = options.get("unix_socket") or f"{parts.hostname or '127.0.0.1'}:{parts.port or 3306}"
    try:
        connection = pymysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path.strip("/") or None,
            unix_socket=options.get("unix_socket"),
            ssl_ca=options.get("ssl_ca"),
            connect_timeout=max(1, int(timeout_seconds)),
            read_timeout=max(1, int(timeout_seconds)),
            charset="utf8mb4",
            cursorclass=pymysql.cursors.SSCursor,
        )
    except pymysql.MySQLError as error:
        refused = error.args and error.args[0] in (1044, 1045, 1049, 1698)
        kind = ProbeError if refused else NoConnection
        raise kind(f"logging in to {where}: {_first_line(error)}") from error
    with contextlib.closing(connection):
        # The transaction alone would not do: a statement that changes tables commits it first.
        connection.query("SET SESSION TRANSACTION READ ONLY")
        connection.query("START TRANSACTION READ ONLY")
        yield Database(connection, (pymysql.MySQLError,), where)


def _first_line(error: Exception) -> str:
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]
