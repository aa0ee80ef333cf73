"""Whether a source has stopped changing: a job that faithfully saves yesterday's copy of the data looks green.

Compared is content only, by the blobs of both snapshots, so that it holds for folders and for dumps alike; manifests
are left out, since they carry the moment at which they were written.
"""

from datetime import datetime, timedelta

from backup.applications.manifest import FILE_NAME
from backup.differing import diff
from backup.repository import Repository
from backup.snapshot import Snapshot, matches
from backup.walking import locate


def unchanged_since(
    repository: Repository, snapshot: Snapshot, limit: timedelta, *, pretend: bool = False
) -> datetime | None:
    """Return when the newest snapshot was taken that is older by ``limit`` and holds the same; None when there is none.

    Only snapshots of the same host and paths count. ``pretend`` compares the snapshot with itself, as if it were that
    old. The index must be loaded. Raises CorruptData, StorageError.
    """
    older = snapshot if pretend else _before(repository, snapshot, limit)
    if older is None:
        return None
    places = (locate(repository, one, "/") for one in (older, snapshot))
    changes = diff(repository, *places, metadata=False).changes
    if any(change.path.rpartition("/")[2] != FILE_NAME for change in changes):
        return None
    return snapshot.time - limit if pretend else older.time


def _before(repository: Repository, snapshot: Snapshot, limit: timedelta) -> Snapshot | None:
    candidates = (
        other
        for other in repository.snapshots()
        if other.time <= snapshot.time - limit
        and matches(other, hostname=snapshot.hostname, paths=snapshot.paths)
    )
    return max(candidates, key=lambda other: other.time, default=None)
