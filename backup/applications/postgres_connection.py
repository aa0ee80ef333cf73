"""How to reach a PostgreSQL server: connections for questions, and arguments for its own programs.

A password never stands on a command line: programs get it in their environment, which only their own user can read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from backup.applications.postgres_programs import installed
from backup.errors import SourceError
from config.postgres import PostgresSource
from config.secrets import SecretError, read_secret_file

CONNECT_SECONDS = 30
_OPTIONS = (
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c TimeZone=UTC -c DateStyle=ISO"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, or should."""

    conninfo: str
    """In libpq's keywords, without a password."""
    password: str = field(default="", repr=False)
    programs: Path | None = None
    """Where its programs are said to lie."""

    @classmethod
    def from_settings(cls, settings: PostgresSource, environ: Mapping[str, str] = os.environ) -> "Server":
        """Raise SourceError when the connection string cannot be understood, or the password not be read."""
        try:
            server = cls.parse(settings.dsn.get_secret_value(), programs=settings.programs)
            if settings.password_file is None:
                return server
            secret = read_secret_file(settings.password_file, environ).get_secret_value()
        except SecretError as error:
            raise SourceError(str(error), hint=error.hint) from None
        return cls(server.conninfo, secret, settings.programs)

    @classmethod
    def parse(cls, dsn: str, *, programs: Path | None = None) -> "Server":
        """Take a connection string apart. Raises SourceError without repeating it: it may hold a password."""
        try:
            words = conninfo_to_dict(dsn)
        except psycopg.Error as error:
            reason = str(error).split(":")[0].split('"')[0].strip()
            raise SourceError(
                f"could not understand a PostgreSQL connection string: {reason}",
                hint="write service=NAME, or host=... dbname=... user=..., or a postgresql:// URI",
            ) from None
        password = str(words.pop("password", None) or "")
        words.pop("sslpassword", None)
        return cls(make_conninfo("", **words), password, programs)

    @contextmanager
    def connect(
        self, database: str = "", *, autocommit: bool = True, timeout_seconds: int = CONNECT_SECONDS
    ) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
        """Connect for questions. Raises SourceError when the server refuses."""
        string = self.string(database, connect_timeout=str(timeout_seconds))
        try:
            connection = psycopg.connect(string, autocommit=autocommit)
        except psycopg.Error as error:
            raise SourceError(
                f"could not connect to PostgreSQL{f', database {database}' if database else ''}: {words_of(error)}",
                hint="does the server run, and do address, user and password fit? `psql` with the same dsn tells",
            ) from None
        with connection:
            yield connection

    def string(self, database: str = "", **more: str) -> str:
        """Return the whole connection string, password included: for libpq in this process only."""
        extra = {"application_name": "keepwatch", "connect_timeout": str(CONNECT_SECONDS), "options": _OPTIONS, **more}
        if database:
            extra["dbname"] = database
        if self.password:
            extra["password"] = self.password
        return make_conninfo(self.conninfo, **extra)

    def arguments(self, database: str = "") -> str:
        """Return the connection string for a program's ``--dbname``."""
        return make_conninfo(self.conninfo, **({"dbname": database} if database else {}))

    @property
    def environment(self) -> dict[str, str]:
        """The environment for a program."""
        more = {"PGPASSWORD": self.password} if self.password else {}
        return {**os.environ, "PGAPPNAME": "keepwatch", "LC_MESSAGES": "C", **more}

    def program(self, name: str, *, at_least: int) -> str:
        """Return the path of a client program of a major version or newer. Raises SourceError."""
        found = [(version, path) for version, path in installed(name, self.programs) if version >= at_least]
        if not found:
            raise SourceError(
                f"could not find {name} of PostgreSQL {at_least} or newer",
                hint=f"install postgresql-client-{at_least}, or name its folder as `programs`",
            )
        return min(found)[1]


def words_of(error: psycopg.Error) -> str:
    """Return what the server (or libpq) said, in one line."""
    said = error.diag.message_primary or str(error)
    return " ".join(said.split()) or type(error).__name__
