"""The guard at work: shows each new snapshot to it, records what it says, and holds `forget` and `prune` until a
person agrees.

The judgement is `backup.guard`'s; nothing here keeps a snapshot from being taken. What another program forgets cannot
be held.
"""

import logging
import math
from collections.abc import Callable, Iterable
from datetime import datetime

from backup.catalog import Catalog
from backup.errors import BackupError
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.suspicions import TAG, Suspicion, Suspicions
from config.databases import MariaDbSource, RedisSource, SqliteSource
from config.jobs import GuardSettings, JobSettings
from config.postgres import PostgresSource
from keepwatch.errors import HeldByGuard, UsageError
from keepwatch.orders import agree_command

log = logging.getLogger(__name__)


def bounds_for(job: JobSettings) -> GuardSettings:
    """Return what makes a snapshot of a job suspicious. A database writes into all of its files: how many of them
    changed says nothing about it, unlike what is gone and how well the new data compresses.
    """
    match job.source:
        case PostgresSource() | MariaDbSource() | SqliteSource() | RedisSource():
            return job.guard.model_copy(update={"change": math.inf})
    return job.guard


class Guard:
    """Looks at the snapshot of one run. ``tags`` goes into the archiver, ``record`` follows it."""

    def __init__(self, repository: Repository, name: str, job: str, settings: GuardSettings, catalog: Catalog) -> None:
        self._repository = repository
        self._name = name
        self._job = job
        self._settings = settings
        self._suspicions = Suspicions(catalog)
        self.reasons: tuple[str, ...] = ()

    def tags(self, snapshot: Snapshot, parent: Snapshot) -> Iterable[str]:
        """Judge a snapshot before it is stored, and give the tag for a suspicious one."""
        from backup.guard_evidence import inspect  # a snapshot without a parent is not judged

        agreed = self._suspicions.agreed(self._name)
        try:
            self.reasons = inspect(self._repository, snapshot, parent, self._job, agreed, self._settings)
        except BackupError as error:  # the snapshot matters more than its judgement
            log.warning("guard could not judge", extra={"job": self._job, "reason": str(error)})
        return (TAG,) if self.reasons else ()

    def record(self, snapshot_id: str, taken_at: datetime) -> None:
        """Note the suspicion about a snapshot that is stored now."""
        if self.reasons:
            found = Suspicion(self._name, snapshot_id, self._job, taken_at, self.reasons)
            self._suspicions.add([found])
            log.warning("snapshot is suspicious", extra={"job": self._job, "reasons": "; ".join(self.reasons)})

    @property
    def hint(self) -> str:
        """What a person does about it; empty when there is nothing to do."""
        return f"look at it; if it is right: {agree_command(self._job)}" if self.reasons else ""


def note_tagged(catalog: Catalog, name: str, snapshots: Iterable[Snapshot]) -> None:
    """Take up the snapshots of a repository that carry the tag and that the catalog does not know."""
    Suspicions(catalog).add(
        Suspicion(name, snapshot.id, job, snapshot.time)
        for snapshot in snapshots
        if TAG in snapshot.tags and (job := _job_of(snapshot))
    )


def require_agreement(catalog: Catalog, repository: Repository, name: str, job: str | None = None) -> None:
    """Refuse to go on while a suspicion is open: of ``job``, or of any in the repository. Raises HeldByGuard."""
    note_tagged(catalog, name, repository.snapshots())
    pending = Suspicions(catalog).pending(job=job, repository=name)
    if pending:
        first, what = pending[0], f"forget snapshots of {job}" if job else f"prune {name}"
        more = f" (and {len(pending) - 1} more)" if len(pending) > 1 else ""
        raise HeldByGuard(
            f"refused to {what}: nobody agreed to the suspicious {first}{more}",
            hint=f"if it is right: {agree_command(first.job)}; if not, the runbook snapshot-suspicious says what to do",
        )


def refuse_tagged(repository: Repository) -> None:
    """Refuse to prune a repository of which nothing but itself is known, while it has a suspicious snapshot."""
    found = [snapshot.short_id for snapshot in repository.snapshots() if TAG in snapshot.tags]
    if found:
        raise HeldByGuard(
            f"refused to prune: snapshot {found[0]} is tagged {TAG}, and without settings nobody knows who agreed",
            hint="name the repository by --repository, or add --in-spite-of-guard when you are sure",
        )


def agree(
    catalog: Catalog, job: str, snapshot: str | None, author: str, comment: str, clock: Callable[[], datetime]
) -> list[Suspicion]:
    """Agree to a job's suspicious snapshots, or to the one that ``snapshot`` begins, in all repositories.

    Raises UsageError when there is nothing to agree to, or no reason is given.
    """
    if not comment.strip():
        raise UsageError("agreeing needs a reason", hint="add -c 'why it is right'")
    suspicions = Suspicions(catalog)
    pending = suspicions.pending(job=job)
    found = [s for s in pending if snapshot is None or s.snapshot.startswith(snapshot)]
    if not found:
        what = f"suspicious snapshot {snapshot}" if snapshot else "suspicious snapshot"
        known = ", ".join(s.snapshot[:8] for s in pending) or "none"
        raise UsageError(f"no {what} of {job} waits for agreement", hint=f"waiting: {known}")
    suspicions.agree(found, author, comment.strip(), clock())
    return found


def _job_of(snapshot: Snapshot) -> str:
    return next((tag.removeprefix("job:") for tag in snapshot.tags if tag.startswith("job:")), "")
