"""Loads the dumps of a snapshot into a server that runs: roles first, then each database, in several connections.

What is there is left alone: a role that exists keeps its password and attributes, a database that exists is refused.
The first error ends it; databases that were loaded before stay.

Definitions are ``pg_restore``'s business, and need no more of a dump than its table of contents. The rows come from
wherever the dump lies through ``pg_restore``, which makes a script of them, into several COPYs
(:mod:`backup.applications.postgres_rows`), and touch no disk on their way.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backup.applications.dump_files import DumpFiles
from backup.applications.manifest import Manifest
from backup.applications.postgres_connection import Server
from backup.applications.postgres_rows import load_rows
from backup.errors import RestoreError, SourceError
from backup.sources.streams import output_of

_ALWAYS_THERE = "postgres"
_HEAD_BYTES: Final = 256 << 10
"""Of a dump; enough for a table of contents of about a thousand tables."""
_PRIVILEGES: Final = re.compile(rb"\d+; \d+ \d+ ACL (?!- DATABASE )")
"""In a list of contents: those of all but the database itself."""


def load(server: Server, files: DumpFiles, manifest: Manifest, *, jobs: int) -> list[str]:
    """Load what ``files`` hold; gives the databases. ``server`` has to be of the dump's version or newer.

    Raises RestoreError with the words of the server, or of the program that failed, and what ``files`` raise.
    """
    major, dumps = _facts(manifest)
    try:
        with server.connect() as connection:
            there = {str(name) for (name,) in connection.execute("select datname from pg_database")}
            roles = [str(name) for (name,) in connection.execute("select quote_ident(rolname) from pg_roles")]
        if taken := sorted((set(dumps) & there) - {_ALWAYS_THERE}):
            raise RestoreError(
                f"refused to load database {taken[0]}: the server has one of that name",
                hint="rename or drop it first, or load into another server",
            )
        with tempfile.TemporaryDirectory(prefix="keepwatch-") as folder:  # for its owner alone: there are passwords
            place = Path(folder)
            _load_roles(server, files.read("roles.sql"), roles, major, place / "roles.sql")
            for name, file in dumps.items():
                try:
                    _Database(server, name, major, jobs, place / "head").load(files, file)
                except (RestoreError, SourceError) as error:
                    there_now = f"drop database {name} before the next attempt: a part of it may be there"
                    raise RestoreError(str(error), hint=error.hint or there_now) from None
    except SourceError as error:
        raise RestoreError(str(error), hint=error.hint) from None
    return list(dumps)


def _facts(manifest: Manifest) -> tuple[int, Mapping[str, str]]:
    files = manifest.details.get("databases")
    if manifest.details.get("method") != "logical" or not isinstance(files, dict):
        raise RestoreError(
            "could not load a base backup into a server that runs: it is a server's own files",
            hint="restore it with --target, and start a server of its version on it",
        )
    return int(manifest.details["major"]), files


def _load_roles(server: Server, content: Iterable[bytes], existing: list[str], major: int, script: Path) -> None:
    lines = b"".join(content).decode().splitlines(keepends=True)
    script.write_text("".join(_without(lines, existing)), encoding="utf-8")
    command = [
        server.program("psql", at_least=major), "--no-psqlrc", "--quiet", "--no-password",
        "--set=ON_ERROR_STOP=1", f"--file={script}", f"--dbname={server.arguments()}",
    ]  # fmt: skip
    _run(server, command, "load the roles")


def _without(lines: Iterable[str], existing: list[str]) -> Iterator[str]:
    """Leave out what would make or change roles that exist."""
    theirs = tuple(start for role in existing for start in (f"CREATE ROLE {role};", f"ALTER ROLE {role} WITH"))
    yield from (line for line in lines if not line.startswith(theirs))


@dataclass(frozen=True, slots=True)
class _Database:
    """One of them, on its way into the server."""

    server: Server
    name: str
    major: int
    jobs: int
    head: Path
    """Where the beginning of its dump goes."""

    def load(self, files: DumpFiles, file: str) -> None:
        """Make the tables, fill them, and then all that is better made of full ones.

        Privileges come at the end, as in one go of pg_restore: an owner may have taken some from itself.
        """
        contents = self._contents(files.read(file))
        first, last = list[str](), ["--section=post-data"]
        if late := [line for line in contents if _PRIVILEGES.match(line)]:
            first = [self._only("first", [line for line in contents if not _PRIVILEGES.match(line)])]
            last = [self._only("last", [*self._list(*last), *late])]
        create = [] if self.name == _ALWAYS_THERE else ["--create"]
        self._restore("--section=pre-data", *first, *create, database="")
        script = output_of(
            [self._pg_restore, "--section=data", "--no-privileges", "--file=-"], environment=self.server.environment,
            what=f"read the rows of database {self.name}", fed=files.read(file),
        )  # fmt: skip
        with closing(script):
            load_rows(self.server, self.name, script, self.jobs)
        self._restore(f"--jobs={self.jobs}", *last, database=self.name)

    def _contents(self, dump: Iterator[bytes]) -> list[bytes]:
        """Fetch as much of a dump as it takes to list what is in it; gives the list."""
        parts, size, enough = list[bytes](), 0, _HEAD_BYTES
        while True:
            for part in dump:
                parts.append(part)
                size += len(part)
                if size >= enough:
                    break
            self.head.write_bytes(b"".join(parts))
            try:
                return self._list("--create")
            except SourceError:
                if size < enough:
                    raise
                enough = 4 * size

    def _list(self, *options: str) -> list[bytes]:
        command = [self._pg_restore, "--list", *options, os.fspath(self.head)]
        output = output_of(command, environment=self.server.environment, what=f"read the dump of database {self.name}")
        return [line for line in b"".join(output).splitlines(keepends=True) if not line.startswith(b";")]

    def _only(self, what: str, lines: list[bytes]) -> str:
        path = self.head.with_suffix(f".{what}")
        path.write_bytes(b"".join(lines))
        return f"--use-list={path}"

    def _restore(self, *options: str, database: str) -> None:
        """Let pg_restore make what needs nothing but the dump's head."""
        command = [
            self._pg_restore, "--exit-on-error", "--no-password", "--no-tablespaces",
            f"--dbname={self.server.arguments(database)}", *options, os.fspath(self.head),
        ]  # fmt: skip
        _run(self.server, command, f"load database {self.name}")

    @property
    def _pg_restore(self) -> str:
        return self.server.program("pg_restore", at_least=self.major)


def _run(server: Server, command: list[str], what: str) -> None:
    for _ in output_of(command, environment=server.environment, what=what):
        pass
