"""What the catalog is told of a repository after a run: which snapshots it holds, which packs, how much room."""

import logging
from collections.abc import Callable
from datetime import datetime

from backup.catalog import Catalog, SnapshotRow
from backup.errors import BackupError
from backup.lock_looks import LockLook, note_locks
from backup.pack_memory import PackMemory
from backup.past_drills import PastDrills
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from keepwatch.guarding import note_tagged

log = logging.getLogger(__name__)


def proven_snapshots(catalog: Catalog, repository: str) -> frozenset[str]:
    """Return the ids of the snapshots in ``repository`` that a drill has proven."""
    return frozenset(snapshot for name, snapshot in PastDrills(catalog).proven() if name == repository)


def remember(repository: Repository, name: str, catalog: Catalog, clock: Callable[[], datetime]) -> None:
    """Note in the catalog which snapshots there are now and how much room they take."""
    snapshots = [snapshot for snapshot in repository.snapshots() if not snapshot.is_log]
    catalog.replace_snapshots(name, [_row(name, snapshot) for snapshot in snapshots])
    note_tagged(catalog, name, snapshots)
    if packs := dict(repository.index.packs()):  # an index that was not loaded is empty, and says nothing
        PackMemory(catalog, name).sync(packs, clock())
    # listing the packs of a large repository takes a request for each thousand
    size = sum(packs.values()) or sum(file.size for file in repository.storage.list(FileKind.DATA))
    free = repository.storage.properties.free_bytes
    catalog.look_at_repository(name, now=clock(), size_bytes=size, free_bytes=free)


def remember_locks(repository: Repository, name: str, catalog: Catalog, clock: Callable[[], datetime]) -> None:
    """Note in the catalog how old the oldest lock of others is. One that nobody can read says nothing."""
    try:
        locks = [lock for lock in repository.lock_table().load() if lock.owner != repository.owner]
    except BackupError as error:
        log.debug("locks not seen", extra={"repository": name, "reason": str(error)})
        return
    oldest = min((lock.created_at for lock in locks), default=None)
    note_locks(catalog, LockLook(name, clock(), oldest))


def _row(repository: str, snapshot: Snapshot) -> SnapshotRow:
    facts = dict(tag.split(":", 1) for tag in snapshot.tags if ":" in tag)
    summary = snapshot.summary
    return SnapshotRow(
        repository=repository,
        id=snapshot.id,
        job=facts.get("job", ""),
        kind=facts.get("kind", "incremental" if snapshot.parent else "full"),
        taken_at=summary.backup_start if summary else snapshot.time,
        files=summary.total_files_processed if summary else 0,
        bytes=summary.total_bytes_processed if summary else 0,
        added_bytes=summary.data_added_packed if summary else 0,
        partial="partial" in snapshot.tags,
    )
