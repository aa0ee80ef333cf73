"""The one table from the settings of a source to the source that does it."""

from collections.abc import Callable
from datetime import datetime

from backup.sources.base import Source
from backup.sources.command import CommandSource
from backup.sources.files import FilesSource
from config import sources as settings


def open_source(source: settings.SourceSettings, *, name: str, clock: Callable[[], datetime]) -> Source:
    """Return the source that a job's settings describe; nothing is read or started yet.

    ``name`` is the job's: streams lie in a folder of that name.
    """
    match source:
        case settings.FilesSource():
            return FilesSource.from_settings(source)
        case settings.CommandSource():
            return CommandSource.from_settings(source, name, clock)
        case settings.PostgresSource():
            from backup.sources.postgres import PostgresSource  # its libraries are for those who have such a job

            return PostgresSource(name, clock, source)
