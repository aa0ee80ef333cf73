"""What is to be run, and what came of it: the values that pass between daemon, job child and command line."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Order:
    """One run that was decided on. ``run_id`` is its row in the ledger, written before anything is done."""

    run_id: int
    kind: str
    """``full``, ``incremental``, ``forget``, ``drill``, ``verify`` or ``prune``."""
    job: str
    """Empty for a repository's own duties."""
    repository: str
    snapshot: str = ""
    """Which snapshot a drill restores: an id, a prefix, ``latest``, ``oldest`` or ``random``; empty for the next in the
    order that the job's settings say.
    """
    level: str = ""
    """How far a drill goes; empty for as far as the job's settings say."""
    until: str = ""
    """Where a drill of the level ``point-in-time`` recovers to, as in the settings; empty for what they say."""
    seed: int | None = None
    """Repeats what a drill chose at random; None draws anew."""
    plant: str | None = None
    """Fault to plant in a drill's view of the repository; it has to be found."""
    keep_scratch: bool = False
    """Leave the restored files of a drill where they are."""
    read_data: bool = False
    """Whether verify reads every pack."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity of the duty in the ledger: kind, job, repository."""
        return self.kind, self.job, self.repository


def agree_command(job: str) -> str:
    """Return what to type to agree to a job's suspicious snapshots."""
    return f"keepwatch agree {job} -c 'WHY IT IS RIGHT'"


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of an order. ``message`` is one line; ``hint`` what to do about a failure."""

    outcome: str
    """``succeeded``, ``partial``, ``failed``, ``interrupted``, ``passed``, ``inconclusive``,
    or ``held``: the guard waits for a person.
    """
    message: str
    hint: str = ""
    exit_code: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    snapshot: str = ""
    data_at: datetime | None = None
    """How old the saved data is, where that is older than the run: a copied snapshot's time."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Counts are so far; totals 0 while unknown."""

    phase: str
    bytes_done: int = 0
    bytes_total: int = 0
    files_done: int = 0
    files_total: int = 0

    @property
    def share(self) -> float | None:
        """From 0 to 1, None while the total is unknown."""
        total = self.bytes_total or self.files_total
        done = self.bytes_done if self.bytes_total else self.files_done
        return min(1.0, done / total) if total else None
