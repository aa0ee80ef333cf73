"""The databases of a group brought to one moment, as far as they can be.

A member with a log goes to the moment; one without stays at the snapshot's, like files. So what comes back is of two
moments or more, and it is told of which: nobody can make a document that was written after the snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backup.applications.base import LATEST, Recovery, RecoveryTarget
from backup.errors import RestoreError
from backup.repository import Repository


@dataclass(frozen=True, slots=True)
class Goal:
    """Where one member goes."""

    target: RecoveryTarget
    at: datetime
    """The moment that its data are of: the target's, or when its last record was archived, or the snapshot's. A name or
    a position tells none: then it is the latest that it can be.
    """
    by_log: bool


def goals(
    repository: Repository,
    applications: Mapping[str, Recovery],
    restored: Path,
    moments: Mapping[str, datetime],
    target: RecoveryTarget,
) -> dict[str, Goal]:
    """Say where each member goes. ``moments``: member -> when the snapshot has it, those of files included.

    ``applications``: member -> what recovers its folder below ``restored``. Raises RestoreError for a moment that no
    member's log leads to, and for a name or a position where several have one: those are of one database only; or for a
    gap in a log.
    """
    records = {
        member: application.records(repository, restored / member) for member, application in applications.items()
    }
    with_log = [member for member, found in records.items() if found]
    if (target.name is not None or target.position is not None) and len(with_log) != 1:
        which = f"{len(with_log)} members have a log ({', '.join(with_log)})" if with_log else "no member has a log"
        raise RestoreError(
            f"could not bring a group to a named point or a position, which are of one database: {which}",
            hint="restore that member alone, by --include /MEMBER, or give a moment by --until",
        )
    if target.moment is not None and not any(records.values()):
        raise RestoreError(
            f"could not bring the group to {target.moment}: no member has a log that leads on from this snapshot",
            hint="members archive theirs by `wal` (postgres) or `binlog` (mariadb)",
        )
    return {
        member: Goal(target, target.moment or records[member][-1].stored_at, by_log=True)
        if records.get(member)
        else Goal(LATEST, at, by_log=False)
        for member, at in moments.items()
    }
