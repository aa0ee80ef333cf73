"""From a repository's settings to an open repository: password, storage, and creation at the first use."""

import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime

from backup.errors import RepositoryMissing
from backup.repository import Repository
from backup.storage.open import open_storage
from config.jobs import RepositorySettings
from config.secrets import read_password

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

