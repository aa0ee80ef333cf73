"""The one table from the settings of a source to the source that does it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from backup.errors import SourceError
from backup.extras import needed_for
from backup.sources.base import Source
from backup.sources.command import CommandSource
from backup.sources.files import FilesSource
from backup.sources.group import GroupSource, Member, Order
from backup.sources.redis import RedisSource
from backup.sources.sqlite import SqliteSource
from config import databases, postgres, sources


def open_source(
    source: sources.SourceSettings, *, name: str, clock: Callable[[], datetime], workspace: Path
) -> Source:
    """Return the source that a job's settings describe; nothing is read or started yet.

    ``name`` is the job's: streams lie in a folder of that name. Below ``workspace`` lies what a source must hold on a
    disk meanwhile; nobody else may use it, and whatever a run that was killed left there is removed.
    """
    match source:
        case sources.FilesSource():
            return FilesSource.from_settings(source)
        case sources.CommandSource():
            return CommandSource.from_settings(source, name, clock)
        case postgres.PostgresSource():
            with needed_for("PostgreSQL", SourceError):
                from backup.sources.postgres import PostgresSource
            return PostgresSource(name, clock, source)
        case databases.MariaDbSource():
            with needed_for("MariaDB", SourceError):
                from backup.sources.mariadb import MariaDbSource
            return MariaDbSource(name, clock, source, workspace)
        case databases.SqliteSource():
            return SqliteSource.from_settings(source, name, clock, workspace)
        case databases.RedisSource():
            return RedisSource.from_settings(source, name, clock)
        case sources.GroupSource():
            members = tuple(
                Member(key, open_source(member, name=key, clock=clock, workspace=workspace / key), _order(member))
                for key, member in source.members.items()
            )
            return GroupSource(name, members, clock, source.max_skew)


def _order(member: sources.MemberSettings) -> Order:
    """Say when the turn of a group's member comes."""
    match member:
        case sources.FilesSource():
            return Order.WALKED
        case postgres.PostgresSource(method="physical") | databases.MariaDbSource(method="physical"):
            return Order.COPIED
        case sources.CommandSource() | databases.RedisSource():
            return Order.FLOWING
        case _:
            return Order.HELD
