"""Opening the repository that a command was told to work on: a configured one, or any by its URL."""

from datetime import UTC, timedelta, tzinfo
from typing import Annotated

import typer

from backup.repository import Repository
from keepwatch.cli.options import PasswordOption, Setup
from keepwatch.clock import now
from keepwatch.repositories import open_repository

NoLockOption = Annotated[
    bool, typer.Option("--no-lock", help="Write no lock, as on read-only media; nobody may prune meanwhile.")
]
LOCK_WAIT = timedelta(minutes=1)
"""How long a command waits for somebody else's lock."""


def open_chosen(setup: Setup, name: str | None, url: str | None, password_file: PasswordOption) -> Repository:
    """Open the repository that the options mean."""
    return open_repository(setup.repository(name, url, password_file), clock=now, zone=zone_of(setup, url))


def zone_of(setup: Setup, url: str | None) -> tzinfo:
    """Return the zone to show moments in; UTC for a repository that no configuration knows."""
    return UTC if url else setup.settings.daemon.zone
