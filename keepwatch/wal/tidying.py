"""After a base backup or a forget: folds the log in between, and lets go what no base backup that is kept needs.

It never fails the run that it follows: what was not tidied is tidied by the next one.
"""

import logging

from backup.applications.saved import manifest_of
from backup.errors import BackupError
from backup.repository import Repository
from backup.wal.keeping import expired, fold, remove, superseded
from backup.wal.names import SEGMENT_BYTES, Segment
from backup.wal.reading import Log
from backup.wal.writing import WalWriter
from config.postgres import PostgresSource
from keepwatch.work import LOCK_WAIT, Work

log = logging.getLogger(__name__)


def tidy_log(work: Work, repository: Repository) -> None:
    """Do it for the job of a run, where it keeps a log of segments."""
    if not isinstance(work.job.source, PostgresSource) or not work.job.source.keeps_log:
        return
    try:
        with repository.lock(retry_for=LOCK_WAIT, load_index=True):
            folded, gone = tidy(repository, work.order.job, work.settings.daemon.host)
    except BackupError as error:
        log.warning("log not tidied", extra={"job": work.order.job, "reason": str(error)})
    else:
        log.info("log tidied", extra={"job": work.order.job, "folded": folded, "removed": gone})


def tidy(repository: Repository, job: str, host: str) -> tuple[int, int]:
    """Fold and remove; gives how many segments were folded and how many snapshots of the log are gone.

    The index must be loaded; wants a lock. Raises BackupError.
    """
    from backup.applications.postgres_recovery import start_of

    mine = [snapshot for snapshot in repository.snapshots() if f"job:{job}" in snapshot.tags]
    manifests = [manifest_of(repository, job, snapshot) for snapshot in mine]
    physical = [manifest for manifest in manifests if manifest.details.get("method") == "physical"]
    sizes = {int(manifest.details["wal_segment_bytes"]) for manifest in physical}
    segment_bytes = sizes.pop() if len(sizes) == 1 else SEGMENT_BYTES
    bases: list[Segment] = [start_of(manifest) for manifest in physical]
    writer = WalWriter(repository, job, host)
    try:
        folded = fold(repository, writer, job, bases, segment_bytes=segment_bytes)
    finally:
        writer.close()
    snapshots = repository.snapshots()
    found = Log.of(snapshots, job, segment_bytes=segment_bytes)
    return folded, remove(repository, [*superseded(snapshots, found), *expired(found, bases)])
