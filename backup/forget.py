"""Forgetting snapshots by a retention policy: a plan that says what and why, and its execution.

Forgetting removes snapshot files only; the data stay until a prune. A plan is a value that can be shown and counted;
nothing is deleted while planning, and execution refuses a plan whose kept snapshots are no longer all there.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from backup.errors import BackupError
from backup.repository import Repository
from backup.retention import Decision, decide
from backup.snapshot import Snapshot, matches
from backup.storage.base import FileKind
from config.jobs import KeepSettings

log = logging.getLogger(__name__)

GroupBy = Callable[[Snapshot], str]


def by_host_and_paths(snapshot: Snapshot) -> str:
    """Group as restic does: a policy applies to each host and each set of paths by itself."""
    return f"{snapshot.hostname}: {', '.join(sorted(snapshot.paths))}"


def all_together(_snapshot: Snapshot) -> str:
    """One group, for a filter that already picks one job."""
    return "all"


@dataclass(frozen=True, slots=True)
class ForgetGroup:
    """Snapshots that a policy is applied to together."""

    name: str
    decisions: tuple[Decision, ...]
    """Newest first."""


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """What `execute_forget` will remove, and why it keeps the rest."""

    groups: tuple[ForgetGroup, ...]

    @property
    def kept(self) -> tuple[Snapshot, ...]:
        """Snapshots that stay."""
        return tuple(item.snapshot for group in self.groups for item in group.decisions if item.keep)

    @property
    def removed(self) -> tuple[Snapshot, ...]:
        """Snapshots that go."""
        return tuple(item.snapshot for group in self.groups for item in group.decisions if not item.keep)


def plan_forget(
    repository: Repository,
    keep: KeepSettings | None,
    now: datetime,
    *,
    hostname: str | None = None,
    paths: Sequence[str] | None = None,
    tags: Sequence[str] = (),
    group_by: GroupBy = by_host_and_paths,
    proven: Collection[str] = (),
    zone: tzinfo = UTC,
) -> ForgetPlan:
    """Apply a policy to the snapshots that match, group by group. Raises CorruptData, StorageError.

    Those that hold a database's log are not its business: they go when no base backup needs them.
    """
    groups: dict[str, list[Snapshot]] = {}
    for snapshot in repository.snapshots():
        if matches(snapshot, hostname=hostname, paths=paths, tags=tags) and not snapshot.is_log:
            groups.setdefault(group_by(snapshot), []).append(snapshot)
    return ForgetPlan(
        tuple(
            ForgetGroup(name, tuple(decide(found, keep, now, proven=proven, zone=zone)))
            for name, found in sorted(groups.items())
        )
    )


def execute_forget(repository: Repository, plan: ForgetPlan) -> tuple[str, ...]:
    """Remove what the plan names and give the ids removed. Wants an exclusive lock.

    Raises BackupError when a snapshot that the plan keeps is gone: what justified the removals is no longer true.
    """
    repository.require_lock(exclusive=True)
    there = {file.name for file in repository.storage.list(FileKind.SNAPSHOT)}
    if gone := [snapshot.short_id for snapshot in plan.kept if snapshot.id not in there]:
        raise BackupError(
            f"refused to forget: kept snapshot {gone[0]} is gone since the plan was made", hint="plan again"
        )
    removed = [snapshot for snapshot in plan.removed if snapshot.id in there]  # or somebody was quicker, with one aim
    repository.delete_snapshots([snapshot.id for snapshot in removed])
    for snapshot in removed:
        log.info("snapshot forgotten", extra={"snapshot": snapshot.short_id, "taken_at": snapshot.time.isoformat()})
    return tuple(snapshot.id for snapshot in removed)
