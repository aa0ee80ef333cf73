"""Libraries that only some jobs need: imported where such a job is set up, and named when they are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import BackupError


@contextmanager
def needed_for(what: str, failure: type[BackupError]) -> Iterator[None]:
    """Import within this. Raises ``failure``, with what to install, for a library that is not there."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise failure(
            f"could not reach {what}: the library {missing.name} is not installed",
            hint="pip install 'keepwatch[databases]'",
        ) from None
