"""How to reach a MariaDB or MySQL server: connections for questions, and an option file for its own programs.

A password reaches programs in an option file that only their user may read, never on a command line.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from backup.applications.private import find_program
from backup.errors import SourceError
from config.databases import MariaDbSource
from config.secrets import SecretError, read_secret_file

Session: TypeAlias = "Connection[Cursor]"

SYSTEM_DATABASES = frozenset({"mysql", "sys", "information_schema", "performance_schema"})
CONNECT_SECONDS = 30
_HINT = "does `mariadb --defaults-file=...` connect with the same settings?"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, or should."""

    defaults_file: Path | None = None
    """The operator's own option file; the fields below do not count then."""
    host: str = ""
    port: int = 3306
    socket: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, settings: MariaDbSource, environ: Mapping[str, str] = os.environ) -> "Server":
        """Raise SourceError when the password cannot be read."""
        password = ""
        if settings.password_file is not None:
            try:
                password = read_secret_file(settings.password_file, environ).get_secret_value()
            except SecretError as error:
                raise SourceError(str(error), hint=error.hint) from None
        socket = "" if settings.host else os.fspath(settings.socket)
        return cls(settings.defaults_file, settings.host or "", settings.port, socket, settings.user or "", password)

    @contextmanager
    def connect(self) -> Iterator[Session]:
        """Connect for questions, in UTC. Raises SourceError when the server refuses."""
        place: dict[str, Any]
        if self.defaults_file is not None:
            place = {"read_default_file": os.fspath(self.defaults_file), "read_default_group": "client"}
        else:
            place = {"host": self.host or "localhost", "port": self.port, "unix_socket": self.socket or None,
                     "user": self.user or None, "password": self.password}  # fmt: skip
        session = open_session(**place)
        try:
            yield session
        finally:
            with suppress(pymysql.Error):
                session.close()

    def option_file(self, folder: Path) -> Path:
        """Give the option file for programs: the operator's own, or one of ours below ``folder``."""
        if self.defaults_file is not None:
            return self.defaults_file
        values = {"host": self.host, "port": str(self.port) if self.host else "", "socket": self.socket,
                  "user": self.user, "password": self.password}  # fmt: skip
        path = folder / "client.cnf"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as options:
            options.write("[client]\n")
            options.writelines(f"{key} = {_quoted(value)}\n" for key, value in values.items() if value)
        return path


def open_session(**place: Any) -> Session:
    """Connect with PyMySQL's own arguments. Raises SourceError with the server's words."""
    try:
        session = pymysql.connect(
            **place, charset="utf8mb4", autocommit=True, defer_connect=True,
            init_command="SET time_zone = '+00:00', SESSION wait_timeout = 28800",
        )  # fmt: skip
        line = _line(session)
        try:
            session.connect(line)
        except BaseException:
            line.close()
            raise
    except (pymysql.Error, OSError) as error:
        raise SourceError(f"could not connect to MariaDB: {words_of(error)}", hint=_HINT) from None
    return session


def _line(session: Any) -> socket.socket:
    """Open the line to the server; PyMySQL itself leaves it open when nobody answers."""
    if not session.unix_socket:
        line = socket.create_connection((session.host, session.port), CONNECT_SECONDS)
    else:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(CONNECT_SECONDS)
            line.connect(session.unix_socket)
        except BaseException:
            line.close()
            raise
    line.settimeout(None)
    return line


def rows(session: Session, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask, and give all rows. Raises pymysql.Error."""
    with session.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def value(session: Session, statement: str, *values: object) -> Any:
    """Ask, and give the first value; None without rows. Raises pymysql.Error."""
    found = rows(session, statement, *values)
    return found[0][0] if found else None


def quoted(name: str) -> str:
    """Write a name as SQL wants it."""
    return "`" + name.replace("`", "``") + "`"


def words_of(error: Exception) -> str:
    """Give what the server said, without numbers."""
    said = error.args[-1] if error.args else ""
    return str(said or type(error).__name__).strip()


def server_program(name: str) -> str:
    """Return one of the server's own programs by its name of today, or the one it had in MySQL.

    Raises SourceError when there is neither.
    """
    older = {"mariadb-dump": "mysqldump", "mariadb-backup": "mariabackup", "mariadb-binlog": "mysqlbinlog"}
    found = find_program(name, older.get(name, name))
    if found is None:
        names = f"{name} or {older.get(name, name)}"
        raise SourceError(f"could not find {names}", hint="install the programs that come with the server")
    return found


def _quoted(text: str) -> str:
    """Write a value of an option file (https://mariadb.com/kb/en/configuring-mariadb-with-option-files/)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
