"""Runs that decide what is kept: forget, prune, and renewing how long a storage refuses to delete."""

from backup.errors import BackupError
from backup.forget import all_together, execute_forget, plan_forget
from backup.prune import execute_prune, plan_prune
from backup.retaining import extend_retention
from config.units import format_size
from config.wording import counted
from keepwatch.guarding import require_agreement
from keepwatch.orders import Ending
from keepwatch.remembering import proven_snapshots, remember
from keepwatch.wal.tidying import tidy_log
from keepwatch.work import LOCK_WAIT, Work


def forget(work: Work) -> Ending:
    """Carry out a ``forget`` order."""
    order = work.order
    repository = work.open()
    with repository.lock(exclusive=True, retry_for=LOCK_WAIT):
        require_agreement(work.catalog, repository, order.repository, order.job)
        plan = plan_forget(
            repository, work.job.keep, work.clock(), tags=[f"job:{order.job}"], group_by=all_together,
            zone=work.settings.daemon.zone, proven=proven_snapshots(work.catalog, order.repository),
        )  # fmt: skip
        removed = execute_forget(repository, plan)
    tidy_log(work, repository)
    remember(repository, order.repository, work.catalog, work.clock)
    message = f"{counted(len(plan.kept), 'snapshot')} kept, {len(removed)} forgotten"
    return Ending("succeeded", message, figures={"kept": len(plan.kept), "forgotten": len(removed)})


def prune(work: Work) -> Ending:
    """Carry out a ``prune`` order."""
    repository = work.open()
    with repository.lock(exclusive=True, retry_for=LOCK_WAIT, load_index=True):
        require_agreement(work.catalog, repository, work.order.repository)
        report = execute_prune(repository, plan_prune(repository))
        repository.load_index()
    remember(repository, work.order.repository, work.catalog, work.clock)
    message = (
        f"{format_size(report.freed_bytes)} given back; {counted(report.deleted_packs, 'pack')} removed,"
        f" {report.rewritten_packs} rewritten"
    )
    return Ending("succeeded", message, figures={"bytes_freed": report.freed_bytes})


def extend(work: Work) -> Ending:
    """Carry out an ``extend`` order."""
    repository, lasting = work.open(), work.settings.repositories[work.order.repository].object_lock
    if lasting is None:
        raise BackupError("could not extend object_lock: it is not set", hint="set object_lock for this repository")
    until = work.clock() + lasting
    with repository.lock(retry_for=LOCK_WAIT):
        files = extend_retention(repository.storage, until, work.stop.is_set)
    message = f"{counted(files, 'file')} cannot be deleted before {until:%Y-%m-%d}"
    return Ending("succeeded", message, figures={"files": files})
