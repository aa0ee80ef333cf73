"""Opening the repository that a command was told to work on, a configured one or any by its URL, and choosing in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta, tzinfo
from typing import Annotated

import typer

from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.walking import split_reference
from config.jobs import RepositorySettings
from keepwatch.cli.options import PasswordOption, RepositoryOption, Setup, UrlOption
from keepwatch.clock import now
from keepwatch.repositories import open_repository

NoLockOption = Annotated[
    bool, typer.Option("--no-lock", help="Write no lock, as on read-only media; nobody may prune meanwhile.")
]
LOCK_WAIT = timedelta(minutes=1)
"""How long a command waits for somebody else's lock."""


@dataclass(frozen=True)
class ChosenRepository:
    """The repository that the options mean."""

    setup: Setup
    repository: RepositoryOption = None
    url: UrlOption = None
    password_file: PasswordOption = None

    @property
    def name(self) -> str | None:
        """Its name in the configuration; None for one by its URL. Raises UsageError."""
        return None if self.url else self.setup.repository_name(self.repository)

    @property
    def settings(self) -> RepositorySettings:
        """Where it is, and how to get in. Raises UsageError."""
        return self.setup.repository(self.repository, self.url, self.password_file)

    @property
    def zone(self) -> tzinfo:
        """The zone to show moments in; UTC for a repository that no configuration knows."""
        return UTC if self.url else self.setup.settings.daemon.zone

    def open(self) -> Repository:
        """Open it. Raises UsageError, SecretError, BackupError."""
        return open_repository(self.settings, clock=now, zone=self.zone)


@contextmanager
def reading(opened: Repository, *, no_lock: bool) -> Iterator[Repository]:
    """Hold a lock, unless told not to, and have the index loaded while a repository is read."""
    if no_lock:
        opened.load_index()
        yield opened
        return
    with opened.lock(retry_for=LOCK_WAIT, load_index=True):
        yield opened


def choose(opened: Repository, reference: str, job: str | None) -> tuple[Snapshot, str]:
    """Find the snapshot that ``SNAPSHOT[:SUBFOLDER]`` means, and give the subfolder. Raises SnapshotMissing."""
    name, folder = split_reference(reference)
    return opened.find_snapshot(name, tags=[f"job:{job}"] if job else []), folder
