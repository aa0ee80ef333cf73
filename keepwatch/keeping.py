"""Runs that decide what is kept: forget, prune, and renewing how long a storage refuses to delete."""

from backup.errors import BackupError
from backup.forget import all_together, execute_forget, plan_forget
from backup.prune import execute_prune, plan_prune
from backup.retaining import extend_retention
from config.said import Said, numbered
from config.units import format_size
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
    kept = numbered(len(plan.kept), "%(count)s snapshot", "%(count)s snapshots")
    message = Said("%(kept)s kept, %(gone)s forgotten", kept=kept, gone=len(removed))
    return Ending("succeeded", message, figures={"kept": len(plan.kept), "forgotten": len(removed)})


def prune(work: Work) -> Ending:
    """Carry out a ``prune`` order."""
    repository = work.open()
    with repository.lock(exclusive=True, retry_for=LOCK_WAIT, load_index=True):
        require_agreement(work.catalog, repository, work.order.repository)
        report = execute_prune(repository, plan_prune(repository))
        repository.load_index()
    remember(repository, work.order.repository, work.catalog, work.clock)
    message = Said(
        "%(size)s given back; %(packs)s removed, %(rewritten)s rewritten", size=format_size(report.freed_bytes),
        packs=numbered(report.deleted_packs, "%(count)s pack", "%(count)s packs"), rewritten=report.rewritten_packs,
    )  # fmt: skip
    return Ending("succeeded", message, figures={"bytes_freed": report.freed_bytes})


def extend(work: Work) -> Ending:
    """Carry out an ``extend`` order."""
    repository, lasting = work.open(), work.settings.repositories[work.order.repository].object_lock
    if lasting is None:
        raise BackupError("could not extend object_lock: it is not set", hint="set object_lock for this repository")
    until = work.clock() + lasting
    with repository.lock(retry_for=LOCK_WAIT):
        files = extend_retention(repository.storage, until, work.stop.is_set)
    many = numbered(files, "%(count)s file", "%(count)s files")
    message = Said("%(files)s cannot be deleted before %(day)s", files=many, day=f"{until:%Y-%m-%d}")
    return Ending("succeeded", message, figures={"files": files})
