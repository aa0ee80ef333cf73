"""The one table from the settings of a source to the source that does it, imported when a job has such a source."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backup.errors import SourceError
from backup.extras import needed_for
from backup.sources.base import Source
from config import databases, postgres, sources

if TYPE_CHECKING:
    from backup.sources.group import Order


def open_source(
    source: sources.SourceSettings, *, name: str, clock: Callable[[], datetime], workspace: Path
) -> Source:
    """Return the source that a job's settings describe; nothing is read or started yet.

    ``name`` is the job's: streams lie in a folder of that name. Below ``workspace`` lies what a source must hold on a
    disk meanwhile; nobody else may use it, and whatever a run that was killed left there is removed.
    """
    match source:
        case sources.FilesSource():
            from backup.sources.files import FilesSource

            return FilesSource.from_settings(source)
        case sources.CommandSource():
            from backup.sources.command import CommandSource

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
            from backup.sources.sqlite import SqliteSource

            return SqliteSource.from_settings(source, name, clock, workspace)
        case databases.RedisSource():
            from backup.sources.redis import RedisSource

            return RedisSource.from_settings(source, name, clock)
        case sources.GroupSource():
            return _group(source, name, clock, workspace)


def _group(group: sources.GroupSource, name: str, clock: Callable[[], datetime], workspace: Path) -> Source:
    from backup.sources.group import GroupSource, Member

    members = tuple(
        Member(key, open_source(member, name=key, clock=clock, workspace=workspace / key), _order(member))
        for key, member in group.members.items()
    )
    return GroupSource(name, members, clock, group.max_skew)


def _order(member: sources.MemberSettings) -> "Order":
    """Say when the turn of a group's member comes."""
    from backup.sources.group import Order

    match member:
        case sources.FilesSource():
            return Order.WALKED
        case postgres.PostgresSource(method="physical") | databases.MariaDbSource(method="physical"):
            return Order.COPIED
        case sources.CommandSource() | databases.RedisSource():
            return Order.FLOWING
        case _:
            return Order.HELD
