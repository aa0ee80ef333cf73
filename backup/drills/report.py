"""What a drill is asked for, and what it found: plain values, and the levels that there are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from backup.applications.base import LATEST, Application, RecoveryTarget
from backup.drills.assertions import Assertion
from backup.drills.comparison import Compared
from backup.drills.levels import Level
from backup.proofs import PackProof
from backup.sources.base import Problem
from backup.verify import Choose


class Verdict(StrEnum):
    """What a drill found."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"
    """Nobody can say. Never counts as passed."""



RANDOM_MOMENT = "random"


@dataclass(frozen=True, slots=True)
class DrillProgress:
    """Where a drill is. ``phase``: ``reading``, ``restoring``, ``comparing``, ``recovering``, ``starting`` or
    ``asking``.
    """

    phase: str
    files: int = 0
    bytes: int = 0
    files_expected: int = 0
    bytes_expected: int = 0


@dataclass(frozen=True, slots=True)
class DrillWishes:
    """What the caller asks for."""

    scratch: Path
    """Folder to restore below."""
    clock: Callable[[], datetime]
    job: str = ""
    """Whose snapshots; empty for any."""
    level: Level = Level.RESTORE
    snapshot: str = "latest"
    """An id, a prefix, ``latest``, ``oldest`` or ``random``."""
    seed: int = 0
    """Decides whatever is chosen at random, so that a drill can be repeated exactly."""
    live_paths: Sequence[str] = ()
    """The source's paths where it lies on this machine."""
    rto_objective: timedelta | None = None
    rpo_objective: timedelta | None = None
    sample_share: float = 0.05
    """Of the files, at level ``sample``; one file at least."""
    applications: Mapping[str, Application] = field(default_factory=dict)
    """Folder of the snapshot -> the application that runs on it."""
    until: RecoveryTarget | str = LATEST
    """At level ``point-in-time``: where to recover to, or RANDOM_MOMENT."""
    assertions: Sequence[Assertion] = ()
    """What must hold of the application or the restored files, from level ``application`` on."""
    stale_after: timedelta | None = None
    """When a source that has not changed for so long is a fault; None never judges."""
    choose: Choose | None = None
    """Which packs level ``read`` reads; all that the snapshot's repository has when left out."""
    on_pack: Callable[[PackProof], None] = lambda _proof: None
    scratch_budget_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """Of each program that runs on restored data, with its children."""
    timeout_seconds: float | None = None
    """When it is given up as inconclusive."""
    plant: str | None = None
    """One of :data:`backup.drills.faults.PLANTS`."""
    keep_scratch: bool = False
    workers: int | None = None
    stop: Callable[[], bool] | None = None
    lock_wait: timedelta = timedelta(0)
    progress: Callable[[DrillProgress], None] | None = None


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found and measured."""

    job: str
    snapshot_id: str
    """Empty when there was none to restore."""
    level: Level
    verdict: Verdict
    started_at: datetime
    ended_at: datetime
    message: str
    """One line: what was compared, or what failed, by name."""
    hint: str = ""
    chosen: str = "latest"
    """How the snapshot was chosen."""
    seed: int = 0
    rto_seconds: float | None = None
    """From opening the repository to the last byte and its metadata, or to the application's first answer; None when
    not everything came back.
    """
    rpo_seconds: float | None = None
    """Age of the data that came back, at the drill's start."""
    rto_met: bool | None = None
    """Whether the objective was met; None without an objective or a measurement."""
    rpo_met: bool | None = None
    until: str = ""
    """The moment, name or position that was recovered to; empty for none."""
    files: int = 0
    bytes: int = 0
    packs_read: int = 0
    compared: Compared = field(default_factory=Compared)
    proofs: tuple[str, ...] = ()
    """What was proven beyond bytes and fields, a line each: what the application counted, which assertions hold."""
    problems: tuple[Problem, ...] = ()
    """What failed, the first hundred."""
    planted: str | None = None
    """The fault that was planted, and where."""
    plant_found: bool | None = None
    """Whether the drill named it; None when nothing was planted."""
    scratch: Path | None = None
    """Where the restored files still are, when they were to be kept."""

    def evidence(self) -> dict[str, object]:
        """What the journal keeps: plain values, enough to repeat the drill and to judge it."""
        compared = self.compared
        return {
            "job": self.job,
            "snapshot": self.snapshot_id,
            "chosen": self.chosen,
            "seed": self.seed,
            "level": self.level.value,
            "verdict": self.verdict.value,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "message": self.message,
            "rto_seconds": self.rto_seconds,
            "rpo_seconds": self.rpo_seconds,
            "rto_met": self.rto_met,
            "rpo_met": self.rpo_met,
            "until": self.until,
            "files": self.files,
            "bytes": self.bytes,
            "packs_read": self.packs_read,
            "compared_entries": compared.entries,
            "compared_bytes": compared.bytes,
            "live_same": compared.live_same,
            "live_changed": compared.live_changed,
            "live_gone": compared.live_gone,
            "proofs": list(self.proofs),
            "problems": [[problem.path, problem.reason] for problem in self.problems],
            "planted": self.planted,
            "plant_found": self.plant_found,
        }


def describe_target(target: RecoveryTarget) -> str:
    """Say where a recovery goes to, for people and the journal."""
    if target.moment is not None:
        return target.moment.isoformat()
    return target.name or target.position or "latest"


