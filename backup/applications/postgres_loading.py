"""Loads the dumps of a snapshot into a server that runs: roles first, then each database, in several connections.

What is there is left alone: a role that exists keeps its password and attributes, a database that exists is refused.
The first error ends it; databases that were loaded before stay.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from backup.applications.manifest import Manifest
from backup.applications.postgres_connection import Server
from backup.errors import RestoreError, SourceError
from backup.sources.streams import output_of

_ALWAYS_THERE = "postgres"


def load(server: Server, folder: Path, manifest: Manifest, *, jobs: int) -> list[str]:
    """Load what lies in ``folder``; gives the databases. ``server`` has to be of the dump's version or newer.

    Raises RestoreError with the words of the program that failed.
    """
    major, files = _facts(manifest)
    try:
        with server.connect() as connection:
            there = {str(name) for (name,) in connection.execute("select datname from pg_database")}
            roles = [str(name) for (name,) in connection.execute("select quote_ident(rolname) from pg_roles")]
        if taken := sorted((set(files) & there) - {_ALWAYS_THERE}):
            raise RestoreError(
                f"refused to load database {taken[0]}: the server has one of that name",
                hint="rename or drop it first, or load into another server",
            )
        _load_roles(server, folder / "roles.sql", roles, major)
        for name, file in files.items():
            _load_database(server, name, folder / file, major, jobs)
    except SourceError as error:
        raise RestoreError(str(error), hint=error.hint) from None
    return list(files)


def _facts(manifest: Manifest) -> tuple[int, Mapping[str, str]]:
    files = manifest.details.get("databases")
    if manifest.details.get("method") != "logical" or not isinstance(files, dict):
        raise RestoreError(
            "could not load a base backup into a server that runs: it is a server's own files",
            hint="restore it with --target, and start a server of its version on it",
        )
    return int(manifest.details["major"]), files


def _load_roles(server: Server, file: Path, existing: list[str], major: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:  # for its owner alone: there are passwords in it
        with file.open(encoding="utf-8") as lines:
            script.writelines(_without(lines, existing))
        script.flush()
        command = [
            server.program("psql", at_least=major), "--no-psqlrc", "--quiet", "--no-password",
            "--set=ON_ERROR_STOP=1", f"--file={script.name}", f"--dbname={server.arguments()}",
        ]  # fmt: skip
        _run(server, command, "load the roles")


def _without(lines: Iterator[str], existing: list[str]) -> Iterator[str]:
    """Leave out what would make or change roles that exist."""
    theirs = tuple(start for role in existing for start in (f"CREATE ROLE {role};", f"ALTER ROLE {role} WITH"))
    yield from (line for line in lines if not line.startswith(theirs))


def _load_database(server: Server, name: str, file: Path, major: int, jobs: int) -> None:
    command = [
        server.program("pg_restore", at_least=major), "--exit-on-error", "--no-password", "--no-tablespaces",
        f"--jobs={jobs}", f"--dbname={server.arguments()}",
    ]  # fmt: skip
    if name != _ALWAYS_THERE:
        command.append("--create")
    _run(server, [*command, os.fspath(file)], f"load database {name}")


def _run(server: Server, command: list[str], what: str) -> None:
    for _ in output_of(command, environment=server.environment, what=what):
        pass
