"""Loads a dump of MariaDB into a server that runs: its databases, then the accounts that it does not have yet.

A database that exists is refused. The first error ends it; what was loaded before stays.
"""

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backup.applications.dump_files import DumpFiles
from backup.applications.manifest import Manifest
from backup.applications.mariadb_connection import Server, rows
from backup.applications.mariadb_server import CLIENT
from backup.applications.private import program
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.sources.mariadb_dump import is_whole
from backup.sources.streams import output_of

_DUMP = "dump.sql"
_ACCOUNTS = "users.sql"


def server_at(place: str) -> Server:
    """Understand where to load to: an option file with a group [client], or mysql://USER:PASSWORD@HOST[:PORT].

    Raises RestoreError without repeating it, for it may hold a password.
    """
    if place.startswith("/"):
        return Server(defaults_file=Path(place))
    url = urlsplit(place)
    if url.scheme not in ("mysql", "mariadb") or not url.hostname:
        raise RestoreError(
            "could not understand where to load to", hint="write the path of an option file, or mysql://USER@HOST"
        )
    return Server(None, url.hostname, url.port or 3306, "", unquote(url.username or ""), unquote(url.password or ""))


def load(server: Server, files: DumpFiles, manifest: Manifest) -> list[str]:
    """Load what ``files`` hold; gives the databases.

    Raises RestoreError, ApplicationError, and what ``files`` raise.
    """
    if not is_whole(files.tail(_DUMP)):
        raise ApplicationError(f"could not load {_DUMP}: it was cut off")
    databases = [str(name) for name in manifest.details["databases"]]
    try:
        with server.connect() as session:
            there = {str(name) for (name,) in rows(session, "SHOW DATABASES")}
        if taken := sorted(set(databases) & there):
            raise RestoreError(
                f"refused to load database {taken[0]}: the server has one of that name",
                hint="rename or drop it first, or load into another server",
            )
        with tempfile.TemporaryDirectory(prefix="keepwatch-") as place:
            options = server.option_file(Path(place))
            command = [program(*CLIENT), f"--defaults-file={options}", "--binary-mode"]
            for name in (_DUMP, _ACCOUNTS):
                if files.has(name):
                    for _ in output_of(command, fed=files.read(name), what=f"load {name}"):
                        pass
    except SourceError as error:
        raise RestoreError(str(error), hint=error.hint) from None
    return databases
