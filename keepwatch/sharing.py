"""One read, several repositories: a job's later repository gets the very snapshot that an earlier one has just got.

The first of a job's repositories is written from the source. A run for a later one looks whether an earlier one holds a
good snapshot of this job that is newer than its own last one, and copies that: the source is read once, and both hold
the same moment. Every blob is opened, proven by its hash and sealed anew on its way.

It refuses what is partial, suspicious or not fresh, and a snapshot of other paths; and for a full run a snapshot that
was not full, or a repository that lacks packs, which only reading mends. Then, and whenever the copy fails for reasons
of the earlier repository (gone, locked, damaged), the run reads the source itself.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backup.errors import BackupError, Interrupted
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from backup.suspicions import TAG
from config.secrets import SecretError
from keepwatch.duties import BACKUPS, SHARED_WITHIN
from keepwatch.orders import Progress
from keepwatch.work import LOCK_WAIT, Work

if TYPE_CHECKING:
    from backup.copying import CopyReport

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """A snapshot that was copied instead of read again."""

    origin: str
    """Name of the repository that it came from."""
    snapshot: Snapshot
    """As it stands there."""
    snapshot_id: str
    """Its id in the run's own repository."""
    report: "CopyReport"
    target: Repository
    """The run's own repository, open."""


def copy_from_earlier(work: Work) -> Shared | None:
    """Copy what an earlier repository of the job has just got, if there is such a thing; None means to read the source.

    Raises what hinders the run's own repository from being opened and locked, and Interrupted.
    """
    found = list(_candidates(work))
    if not found:
        return None
    target = work.open(may_create=True)
    with target.lock(retry_for=LOCK_WAIT):
        for origin, snapshot_id in found:
            try:
                if (shared := _copy(work, target, origin, snapshot_id)) is not None:
                    return shared
            except Interrupted:
                raise
            except (BackupError, SecretError) as error:
                log.warning("snapshot not copied", extra={"job": work.order.job, "from": origin, "reason": str(error)})
    return None


def _candidates(work: Work) -> Iterator[tuple[str, str]]:
    """Give repositories and snapshot ids by the ledger, cheap to ask; the snapshots have the last word."""
    repositories = work.job.repositories
    earlier = repositories[: repositories.index(work.order.repository)] if _is_listed(work) else []
    runs = [run for run in work.catalog.last_runs() if run.job == work.order.job and run.kind in BACKUPS]
    for name in earlier:
        for run in runs:
            fresh = run.ended_at is not None and work.clock() - run.ended_at <= SHARED_WITHIN
            if run.repository == name and run.outcome == "succeeded" and run.snapshot and fresh:
                yield name, run.snapshot


def _is_listed(work: Work) -> bool:
    """A run may be asked for by hand for a repository that the settings no longer name."""
    return work.order.repository in work.job.repositories


def _copy(work: Work, target: Repository, origin: str, snapshot_id: str) -> Shared | None:
    from backup.copying import execute_copy, plan_copy  # most runs have nothing to copy

    source = work.open_named(origin)
    with source.lock():
        snapshot = source.load_snapshot(snapshot_id)
        if reason := _why_not(work, snapshot):
            log.info("snapshot not copied", extra={"job": work.order.job, "from": origin, "reason": reason})
            return None
        source.load_index()
        target.load_index()
        if work.order.kind == "full" and _lacks_packs(target):
            log.warning("source is read to mend missing packs", extra={"repository": work.order.repository})
            return None
        plan = plan_copy(source, target, [snapshot])
        report = execute_copy(
            plan, source, target, stop=work.stopped,
            progress=lambda p: work.progress(Progress("copying", p.bytes, p.bytes_expected)),
        )  # fmt: skip
    for problem in report.problems:
        raise BackupError(f"could not copy {problem.path}: {problem.reason}")
    name = report.copied[0][1] if report.copied else _copied_before(target, snapshot)
    return Shared(origin, snapshot, name, report, target)


def _why_not(work: Work, snapshot: Snapshot) -> str:
    """Say why a snapshot cannot stand in for reading the source now; empty when it can."""
    order, source = work.order, work.source()
    last = _last_success(work)
    read_until = snapshot.summary.backup_end if snapshot.summary else snapshot.time
    reasons = (
        (f"job:{order.job}" not in snapshot.tags, "it is another job's"),
        (bool({"partial", TAG} & set(snapshot.tags)), "it is partial or suspicious"),
        (order.kind == "full" and "kind:full" not in snapshot.tags, "it is not a full one"),
        (snapshot.hostname != work.settings.daemon.host, "it is another host's"),
        ((snapshot.paths, snapshot.excludes) != (source.paths, source.excludes), "it is of other paths"),
        (last is not None and snapshot.time <= last, "it is no newer than what is there"),
        (work.clock() - read_until > SHARED_WITHIN, "it is too old"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _last_success(work: Work) -> datetime | None:
    """Tell the moment of the data that this repository holds of the job."""
    standings, order = work.catalog.standings(), work.order
    rows = (standings.get((kind, order.job, order.repository)) for kind in BACKUPS)
    return max((row.last_success_at for row in rows if row and row.last_success_at), default=None)


def _lacks_packs(repository: Repository) -> bool:
    stored = {file.name: file.size for file in repository.storage.list(FileKind.DATA)}
    return any(stored.get(pack) != size for pack, size in repository.index.packs())


def _copied_before(target: Repository, snapshot: Snapshot) -> str:
    """Find the copy that somebody made by hand: the plan found it, so it is there."""
    origin = snapshot.original or snapshot.id
    return next(other.id for other in target.snapshots() if origin in (other.id, other.original))
