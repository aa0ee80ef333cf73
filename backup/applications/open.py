"""The one table from the settings of a source to the application that runs on its data."""

from backup.applications.base import Application
from backup.applications.redis import RedisApplication
from backup.applications.sqlite import SqliteApplication
from backup.errors import RestoreError
from backup.extras import needed_for
from config import databases, postgres, sources


def open_applications(source: sources.SourceSettings, *, name: str) -> dict[str, Application]:
    """Return folder of the snapshot -> application for a job called ``name``; empty where there is none to run."""
    match source:
        case postgres.PostgresSource():
            with needed_for("PostgreSQL", RestoreError):
                from backup.applications.postgres import PostgresApplication
            return {f"/{name}": PostgresApplication(name, source)}
        case databases.MariaDbSource():
            with needed_for("MariaDB", RestoreError):
                from backup.applications.mariadb import MariaDbApplication
            return {f"/{name}": MariaDbApplication(name)}
        case databases.SqliteSource():
            return {f"/{name}": SqliteApplication()}
        case databases.RedisSource():
            return {f"/{name}": RedisApplication()}
        case sources.GroupSource():
            found = [open_applications(member, name=key) for key, member in source.members.items()]
            return {folder: application for one in found for folder, application in one.items()}
        case _:
            return {}
