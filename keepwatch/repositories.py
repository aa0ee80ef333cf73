"""From a repository's settings to an open repository: password, storage, and creation at the first use."""

import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo

from backup.errors import RepositoryMissing
from backup.repository import Repository
from backup.storage.halting import Halt
from backup.storage.open import open_configured
from config.jobs import RepositorySettings
from config.secrets import read_password

log = logging.getLogger(__name__)


def open_repository(
    settings: RepositorySettings,
    *,
    clock: Callable[[], datetime],
    zone: tzinfo | None = None,
    environ: Mapping[str, str] | None = None,
    may_create: bool = False,
    halt: Halt | None = None,
) -> Repository:
    """Open the repository, or make it when there is none, its settings allow it and ``may_create``.

    ``zone`` is where rate limits by window of the week are read; None for the machine's own. With ``halt`` nobody waits
    any more for a storage that does not answer once it is set.
    Raises BackupError: RepositoryMissing, WrongPassword, StorageError; or SecretError for the password.
    """
    environ = os.environ if environ is None else environ
    storage = open_configured(settings, clock=clock, zone=zone, environ=environ, halt=halt)
    password = read_password(settings, environ).get_secret_value()
    try:
        return Repository.open(storage, password, clock=clock)
    except RepositoryMissing:
        if not (may_create and settings.create):
            raise
    log.info("repository made", extra={"url": settings.url})
    return Repository.create(storage, password, clock=clock)

