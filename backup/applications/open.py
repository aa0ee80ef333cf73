"""The one table from the settings of a source to the application that runs on its data."""

from backup.applications.base import Application
from config import sources as settings


def open_applications(source: settings.SourceSettings, *, name: str) -> dict[str, Application]:
    """Return folder of the snapshot -> application for a job called ``name``; empty where there is none to run."""
    match source:
        case _:
            return {}
