"""Renews the retention of everything in a repository (S3 Object Lock), so that what is still needed stays undeletable.

A pack is retained from the moment it is stored, and may be needed by snapshots for years: unless its retention is
renewed before it ends, it is protected from nobody. What prune has taken away is not listed and so not renewed; its old
versions end with the retention they had. Locks are never retained: they come and go by the minute.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final

from backup.errors import FileMissing, Interrupted, StorageError
from backup.storage.base import FileKind, Retaining, Storage

RETAINED: Final = tuple(kind for kind in FileKind if kind is not FileKind.LOCK)
_REQUESTS_AT_ONCE: Final = 8
_BATCH: Final = 256


def extend_retention(storage: Storage, until: datetime, stop: Callable[[], bool]) -> int:
    """Retain every file but locks until a moment (aware UTC), and give their number. Hold a shared lock meanwhile.

    Raises StorageError, permanent for a storage that cannot retain; Interrupted when ``stop`` turns true.
    """
    if not isinstance(storage, Retaining):
        raise StorageError(f"could not retain files: {storage!r} has no object lock", permanent=True)
    count = 0
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="retain") as pool:
        for kind in RETAINED:
            names = [file.name for file in storage.list(kind)]
            for start in range(0, len(names), _BATCH):
                if stop():
                    raise Interrupted(f"asked to stop after {count} files were retained")
                batch = names[start : start + _BATCH]
                count += sum(pool.map(partial(_retain, storage, kind, until=until), batch))
    return count


def _retain(storage: Retaining, kind: FileKind, name: str, until: datetime) -> bool:
    try:
        storage.retain(kind, name, until)
    except FileMissing:  # forgotten since it was listed
        return False
    return True
