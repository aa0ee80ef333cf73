"""From a repository's settings to an open repository: password, storage, and creation at the first use."""

import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from backup.repository import Repository

from backup.errors import BackupError, RepositoryMissing
from backup.storage.open import open_storage
from config.jobs import RepositorySettings
from config.secrets import create_password_file, read_password

log = logging.getLogger(__name__)


def open_repository(
    settings: RepositorySettings,
    *,
    clock: Callable[[], datetime],
    environ: Mapping[str, str] | None = None,
    may_create: bool = False,
) -> Repository:
    """Open the repository, or make it when there is none, its settings allow it and ``may_create``.

    Raises BackupError: RepositoryMissing, WrongPassword, StorageError; or SecretError for the password.
    """
    storage = open_storage(settings.url)
    password = read_password(settings, os.environ if environ is None else environ).get_secret_value()
    try:
        return Repository.open(storage, password, clock=clock)
    except RepositoryMissing:
        if not (may_create and settings.create):
            raise
    log.info("repository made", extra={"url": settings.url})
    return Repository.create(storage, password, clock=clock)


def ensure_password_file(settings: RepositorySettings, path: Path) -> bool:
    """Make the password file of a repository that does not exist yet; True when it was made.

    Raises BackupError when the repository is there and only the file is gone: a new password would not open it.
    """
    if path.exists():
        return False
    if Path(settings.url).joinpath("config").exists():
        raise BackupError(
            f"opening repository {settings.url}: its password file {path} is gone",
            hint="put the file back from your safe; without the password nobody can read the backups",
        )
    return create_password_file(path)

