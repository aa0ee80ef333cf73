"""How a log stands: written by its receiver, read by the daemon, one small file each. JOB is JOB:MEMBER in a group.

STATE/wal/JOB.json      this
STATE/wal/JOB/REPO/     what waits for a repository
STATE/wal/JOB/received/ where pg_receivewal or mariadb-binlog writes
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class WalStatus:
    """What is known of a job's log. Moments are aware UTC."""

    updated_at: datetime
    covered_until: datetime | None = None
    """Everything that was committed by then is in the first repository."""
    last_file: str = ""
    files: int = 0
    """Stored since the receiver started."""
    spooled_files: int = 0
    spooled_bytes: int = 0
    problem: str = ""
    """Why files wait or are refused; empty when all is well."""
    gap: str = ""
    """Which segments are missing before the newest run."""
    gap_at: datetime | None = None
    """When the log went on behind the gap: a base backup that began later does not need what is missing."""
    timeline: int = 0
    switched_at: datetime | None = None
    """When the timeline changed while we looked on."""

    @classmethod
    def resumed(cls, path: Path, now: datetime) -> "WalStatus":
        """Begin where a receiver before this one ended: what it missed is still missing."""
        return (cls.read(path) or cls(now)).but(updated_at=now, files=0, spooled_files=0, spooled_bytes=0, problem="")

    def but(self, **changes: object) -> Self:
        """Return it with changes."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def write(self, path: Path) -> None:
        """Replace the file, so that nobody reads a half of it."""
        values = {
            key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(self).items()
        }
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps(values), encoding="utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "WalStatus | None":
        """Read the file; None when there is none that can be understood."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            moments = ("updated_at", "covered_until", "gap_at", "switched_at")
            values |= {name: datetime.fromisoformat(values[name]) for name in moments if values.get(name)}
            return cls(**values)
        except (OSError, ValueError, TypeError):
            return None


def together(statuses: Mapping[str, WalStatus | None]) -> WalStatus | None:
    """Say how the logs of one job stand, as one: each as badly as the worst; None while one of them says nothing.

    ``statuses``: by the log's name. What is wrong with a member's log is told with its name.
    """
    known = {name: status for name, status in statuses.items() if status is not None}
    if len(known) < len(statuses) or not known:
        return None
    if len(known) == 1:
        return next(iter(known.values()))
    covered = [status.covered_until for status in known.values()]
    gaps = {name: status for name, status in known.items() if status.gap}
    return WalStatus(
        updated_at=min(status.updated_at for status in known.values()),
        covered_until=None if None in covered else min(moment for moment in covered if moment),
        files=sum(status.files for status in known.values()),
        spooled_files=sum(status.spooled_files for status in known.values()),
        spooled_bytes=sum(status.spooled_bytes for status in known.values()),
        problem="; ".join(f"{name}: {status.problem}" for name, status in known.items() if status.problem),
        gap="; ".join(f"{name}: {status.gap}" for name, status in gaps.items()),
        gap_at=max((status.gap_at for status in gaps.values() if status.gap_at), default=None),
        timeline=max(status.timeline for status in known.values()),
        switched_at=max((status.switched_at for status in known.values() if status.switched_at), default=None),
    )


def status_path(state: Path, job: str) -> Path:
    """Return where a job's status lies."""
    return state / "wal" / f"{job}.json"
