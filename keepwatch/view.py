"""What the page, /metrics, the API and `keepwatch status` show: one immutable value, made by the daemon's loop.

A view is built from the stores and the last results after each change and handed over by reference, so whoever shows
it never waits for a probe, a lock or the disk. It carries no behaviour but look-ups, and no secrets.
All moments are aware UTC; all sizes bytes; all durations seconds.
"""

from dataclasses import dataclass, field
from datetime import datetime

from backup.past_drills import PastDrill
from keepwatch.wal.status import WalStatus
from monitor.result import Reading, Status


@dataclass(frozen=True, slots=True)
class CheckView:
    """One entity of one check."""

    check: str
    entity: str
    type: str
    status: Status
    message: str
    checked_at: datetime | None
    """None until it ran for the first time; ``status`` is UNKNOWN then."""
    took_seconds: float = 0.0
    readings: tuple[Reading, ...] = ()
    """Main reading first."""
    trend: tuple[float, ...] = ()
    """The main reading's recent values, oldest first, for a sparkline."""
    runs: int = 0
    failures: int = 0
    """Runs that ended in UNKNOWN."""
    usual: tuple[float, float] | None = None
    """What the main reading usually is at this hour of the week, from and to; None where nobody knows yet."""
    outlook: str | None = None
    """When it will be past a bound, in words, where a forecast sees that coming."""


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert that is pending, firing or lately resolved."""

    id: str
    name: str
    check: str
    entity: str
    severity: str
    """``warning`` or ``critical``."""
    state: str
    """``pending``, ``firing``, ``recovering`` or ``resolved``."""
    since: datetime
    message: str
    runbook: str | None = None
    acknowledged_by: str | None = None
    suppressed_by: tuple[str, ...] = ()
    """Reasons why no message is sent now, such as ``silence 3``."""
    notified_at: datetime | None = None
    resolved_at: datetime | None = None
    flapping: bool = False


@dataclass(frozen=True, slots=True)
class ChannelView:
    """How one channel does."""

    name: str
    given_up: int
    """Messages that could never be delivered, since the first start of all."""
    failing_since: datetime | None
    """The first failure after the last message that got through."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One attempt of a job. ``kind``: ``full``, ``incremental``, ``drill``, ``forget``, ``verify``, ``prune``.

    The last two belong to a repository; their ``job`` is empty.
    """

    id: int
    job: str
    kind: str
    repository: str
    outcome: str
    """``running``, ``succeeded``, ``partial``, ``failed``, ``interrupted``, ``held``; for drills ``passed``,
    ``inconclusive``.
    ``held``: the guard waits for somebody's agreement.
    """
    started_at: datetime
    ended_at: datetime | None
    message: str = ""
    """One line: what was done, or why it failed."""
    progress: float | None = None
    """Share done while running, 0 to 1, where known."""
    figures: dict[str, float] = field(default_factory=dict)
    """Numbers of the run: files_new, files_changed, files_unmodified, files_unreadable, bytes_processed, bytes_added,
    bytes_stored.
    """


@dataclass(frozen=True, slots=True)
class DutyView:
    """One recurring duty of a job (``full``, ``incremental``, ``drill``) or repository (``verify``, ``prune``)."""

    kind: str
    repository: str
    schedule: str
    next_due_at: datetime | None
    last_success_at: datetime | None
    last_attempt_at: datetime | None
    max_age_seconds: float
    """How old the last success may get before it is an alert."""
    runs: int = 0
    """Attempts since the first start of all."""
    failures: int = 0
    partial: int = 0
    inconclusive: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """One restorable state of a job."""

    id: str
    job: str
    repository: str
    kind: str
    """``full`` or ``incremental``."""
    taken_at: datetime
    files: int
    bytes: int
    added_bytes: int
    partial: bool = False
    drilled_at: datetime | None = None
    """When a drill last proved that it comes back."""
    suspicious: bool = False
    """Whether the guard found it out of proportion and nobody agreed to it yet."""


@dataclass(frozen=True, slots=True)
class SuspicionView:
    """A snapshot that the guard found out of proportion; it holds forget and prune until somebody agrees."""

    snapshot: str
    repository: str
    taken_at: datetime
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadingView:
    """How much of a repository's packs was read and found sound."""

    packs: int
    verified_ratio: float
    """Share of the bytes that was verified within ``within_seconds``, or ever."""
    oldest_at: datetime | None
    """Since when the pack that waits longest was not verified; None without packs."""
    within_seconds: float | None
    """How long that may be; None when nothing is promised."""
    damaged: tuple[str, ...] = ()
    """Packs that were damaged when last read."""


@dataclass(frozen=True, slots=True)
class RepositoryView:
    """One repository, as last looked at."""

    name: str
    url: str
    snapshots: int
    size_bytes: int | None
    free_bytes: int | None
    verified_at: datetime | None
    problem: str | None = None
    duties: tuple[DutyView, ...] = ()
    """``verify`` and ``prune``, where scheduled."""
    configured_at: datetime | None = None
    """When it first stood in the settings; freshness of its duties counts from here on day one."""
    reading: ReadingView | None = None
    """None until its packs are known."""
    oldest_lock_at: datetime | None = None
    """When the oldest lock of others was last renewed; None when the latest run saw none."""
    locks_seen_at: datetime | None = None
    """When that was."""


@dataclass(frozen=True, slots=True)
class PauseView:
    """A job that somebody lets rest: none of its runs begins, and one under way waits."""

    author: str
    comment: str
    paused_at: datetime
    until_at: datetime | None
    """None until somebody resumes it."""

    def __str__(self) -> str:
        return f"paused by {self.author}{f': {self.comment}' if self.comment else ''}"


@dataclass(frozen=True, slots=True)
class JobView:
    """One backup job with its promises and what became of them."""

    name: str
    source: str
    """One line: what is backed up."""
    repositories: tuple[str, ...]
    configured_at: datetime
    """When the job first stood in the settings; freshness counts from here on day one."""
    rpo_seconds: float | None
    rto_seconds: float | None
    duties: tuple[DutyView, ...]
    running: RunView | None
    last_run: RunView | None
    last_backup: RunView | None
    """The last full or incremental run that ended, whatever its outcome."""
    last_drill: PastDrill | None
    newest_snapshot: SnapshotView | None
    suspicions: tuple[SuspicionView, ...] = ()
    """Snapshots that wait for somebody's agreement, oldest first."""
    pause: PauseView | None = None
    """Who lets it rest, while somebody does."""
    log: WalStatus | None = None
    """How its log is archived, where it has one."""
    keeps_log: bool = False


@dataclass(frozen=True, slots=True)
class PlanStepView:
    """One step of a plan, and who has done it while the plan is being carried out."""

    number: int
    title: str
    person: str
    goal: str
    text: str
    done_at: datetime | None = None
    done_by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ExerciseView:
    """The latest exercise of a plan."""

    verdict: str
    """``PASSED``, ``SHORT``, ``FAILED`` or ``INCONCLUSIVE``."""
    ended_at: datetime
    by: str
    rto_seconds: float | None
    rpo_seconds: float | None
    jobs: int
    shortfalls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImprovementView:
    """What fell short in an exercise and was not seen to yet."""

    number: int
    what: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class CarryOutView:
    """A plan that is being carried out."""

    by: str
    reason: str
    rehearsal: bool
    started_at: datetime


@dataclass(frozen=True, slots=True)
class PlanView:
    """One emergency plan."""

    name: str
    title: str
    owner: str
    deputies: tuple[str, ...]
    contacts: tuple[tuple[str, str, str], ...]
    """Name, role, how to reach."""
    risk: str
    """Kind of risk, likelihood and impact: ``attack, possible, severe``."""
    scope: str
    """``single`` or ``several`` points of failure."""
    introduction: str
    rto_seconds: float
    rpo_seconds: float
    review_due_at: datetime
    proven_at: datetime | None
    """When it was last shown to work; None when never."""
    steps: tuple[PlanStepView, ...]
    alerts: tuple[str, ...] = ()
    """What calls for it."""
    called_by: tuple[str, ...] = ()
    """Titles of the alerts that call for it now."""
    last_exercise: ExerciseView | None = None
    improvements: tuple[ImprovementView, ...] = ()
    findings: tuple[str, ...] = ()
    """What about it needs care."""
    under_way: CarryOutView | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything there is to show at ``made_at``."""

    host: str
    version: str
    made_at: datetime
    started_at: datetime
    timezone: str
    """Zone in which moments are shown."""
    checks: tuple[CheckView, ...] = ()
    alerts: tuple[AlertView, ...] = ()
    """Firing first, then pending, then those resolved within the last day."""
    jobs: tuple[JobView, ...] = ()
    runs: tuple[RunView, ...] = ()
    """The latest, newest first."""
    drills: tuple[PastDrill, ...] = ()
    """The latest, newest first."""
    snapshots: tuple[SnapshotView, ...] = ()
    """Newest first."""
    repositories: tuple[RepositoryView, ...] = ()
    plans: tuple[PlanView, ...] = ()
    """Emergency plans, by name."""
    plan_findings: tuple[str, ...] = ()
    """What is wrong with plans that cannot be read, and risks without one."""
    language: str = "en"
    """Language in which it is shown, as BCP 47 has it."""
    silences: tuple[tuple[int, str, str, str, datetime], ...] = ()
    """Active ones: id, matchers, author, comment, end."""
    config_reloaded_at: datetime | None = None
    config_reload_ok: bool = True
    config_problem: str | None = None
    scheduler_lag_seconds: float = 0.0
    """How late the latest check started."""
    lags: tuple[tuple[float, int], ...] = ()
    """How many checks, since the daemon's start, began at most so many seconds late; the last bound is infinite."""
    lag_seconds_sum: float = 0.0
    """All their lateness together."""
    outbox_pending: int = 0
    outbox_oldest_at: datetime | None = None
    notifications: tuple[tuple[str, int, int], ...] = ()
    """Channel, messages sent, attempts that failed; since the first start of all."""
    channels: tuple[ChannelView, ...] = ()
    suppressed: tuple[tuple[str, int], ...] = ()
    """Reason, number of alerts held back by it now."""
    heartbeat_success_at: datetime | None = None
