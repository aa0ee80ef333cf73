"""The one table from the settings of a source to the application that runs on its data."""

from backup.applications.base import Application
from backup.applications.redis import RedisApplication
from backup.applications.sqlite import SqliteApplication
from backup.errors import RestoreError
from backup.extras import needed_for
from backup.wal.names import log_name
from config import databases, postgres, sources


def open_applications(source: sources.SourceSettings, *, name: str, log: str = "") -> dict[str, Application]:
    """Return folder of the snapshot -> application for a job called ``name``; empty where there is none to run.

    ``log``: what the database's log is called where that is not ``name``.
    """
    match source:
        case postgres.PostgresSource():
            with needed_for("PostgreSQL", RestoreError):
                from backup.applications.postgres import PostgresApplication
            return {f"/{name}": PostgresApplication(log or name, source)}
        case databases.MariaDbSource():
            with needed_for("MariaDB", RestoreError):
                from backup.applications.mariadb import MariaDbApplication
            return {f"/{name}": MariaDbApplication(log or name)}
        case databases.SqliteSource():
            return {f"/{name}": SqliteApplication()}
        case databases.RedisSource():
            return {f"/{name}": RedisApplication()}
        case sources.GroupSource():
            found = [
                open_applications(member, name=key, log=log_name(name, key)) for key, member in source.members.items()
            ]
            return {folder: application for one in found for folder, application in one.items()}
        case _:
            return {}
