"""After a base backup or a forget: folds the log in between, and lets go what no base backup that is kept needs.

It never fails the run that it follows: what was not tidied is tidied by the next one.
"""

import logging

from backup.applications.saved import databases_in
from backup.errors import BackupError
from backup.repository import Repository
from backup.wal.keeping import expired, fold, remove, superseded
from backup.wal.names import SEGMENT_BYTES, Segment, job_of_log
from backup.wal.reading import Log
from backup.wal.writing import WalWriter
from config.postgres import PostgresSource
from keepwatch.wal.kept import kept_logs
from keepwatch.work import LOCK_WAIT, Work

log = logging.getLogger(__name__)


def tidy_log(work: Work, repository: Repository) -> None:
    """Do it for the job of a run, or the members of its group, where they keep a log of segments."""
    for kept in kept_logs(work.settings).values():
        if kept.job != work.order.job or not isinstance(kept.source, PostgresSource):
            continue
        try:
            with repository.lock(retry_for=LOCK_WAIT, load_index=True):
                folded, gone = tidy(repository, kept.name, work.settings.daemon.host)
        except BackupError as error:
            log.warning("log not tidied", extra={"job": kept.name, "reason": str(error)})
        else:
            log.info("log tidied", extra={"job": kept.name, "folded": folded, "removed": gone})


def tidy(repository: Repository, name: str, host: str) -> tuple[int, int]:
    """Fold and remove; gives how many segments were folded and how many snapshots of the log are gone.

    The index must be loaded; wants a lock. Raises BackupError.
    """
    from backup.applications.postgres_recovery import start_of

    mine = [snapshot for snapshot in repository.snapshots() if f"job:{job_of_log(name)}" in snapshot.tags]
    saved = [saved.manifest for snapshot in mine for saved in databases_in(repository, snapshot) if saved.log == name]
    physical = [manifest for manifest in saved if manifest.details.get("method") == "physical"]
    sizes = {int(manifest.details["wal_segment_bytes"]) for manifest in physical}
    segment_bytes = sizes.pop() if len(sizes) == 1 else SEGMENT_BYTES
    bases: list[Segment] = [start_of(manifest) for manifest in physical]
    writer = WalWriter(repository, name, host)
    try:
        folded = fold(repository, writer, name, bases, segment_bytes=segment_bytes)
    finally:
        writer.close()
    snapshots = repository.snapshots()
    found = Log.of(snapshots, name, segment_bytes=segment_bytes)
    return folded, remove(repository, [*superseded(snapshots, found), *expired(found, bases)])
