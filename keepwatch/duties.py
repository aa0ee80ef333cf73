"""What is due: a pure decision from the settings, the run ledger's facts and ``now``.

A duty is one recurring act: a full or incremental backup of a job into a repository, its drill, forgetting by its
policy, verifying or pruning a repository. Rules:

- What never succeeded is due at once, so a new job is protected and proven from its first minute.
- What the ledger dates in the future was dated by a wrong clock and counts for nothing: otherwise nothing would be
  saved, nor be overdue, until that date.
- What came due while the daemon was down is due once, not as often as it was missed.
- A run that was interrupted is due again at once; one that failed, or was interrupted again, waits longer each time,
  up to an hour.
- A full backup stands in for an incremental one that comes due with it.
- A drill needs a snapshot, a ``forget`` a backup since the last one.
- Of a job's repositories the first is saved first, so that the others can copy what was read for it; where it would
  come due a little later, it is brought forward.
- Jitter is fixed by name, so that a hundred machines do not call the same storage at 02:00:00.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from backup.catalog import Standing
from config.schedule import Schedule
from config.settings import Settings

_RETRY = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
_LARGEST_JITTER = timedelta(minutes=5)
_GRACE = timedelta(minutes=5)
_AHEAD = timedelta(minutes=5)
"""How far ahead a moment may lie before it was a wrong clock's: time servers correct less without anybody noticing."""
_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)

SHARED_WITHIN = timedelta(minutes=10)
"""How long after its source was read a snapshot may be copied to the job's other repositories instead of reading again.

Long enough for the first repository's run to end, hooks and all, and the next to get its turn; short beside any RPO
worth a promise, since what changed meanwhile waits for the next run. Freshness counts the snapshot's own time anyway.
"""
BACKUPS = ("full", "incremental")
RUN_ORDER = ("full", "incremental", "forget", "drill", "verify", "extend", "prune")
"""Who goes first when several are due: what protects, then what proves, then what tidies."""


@dataclass(frozen=True, slots=True)
class Duty:
    """One recurring act. ``job`` is empty for a repository's own duties; ``schedule`` None means after each backup."""

    kind: str
    job: str
    repository: str
    schedule: Schedule | None
    max_age: timedelta | None = None
    """How old its last success may get before somebody is told; None where age says nothing."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity in the ledger: kind, job, repository."""
        return self.kind, self.job, self.repository


@dataclass(frozen=True, slots=True)
class Facts:
    """What the run ledger knows of one duty."""

    last_started_at: datetime | None = None
    """Start of the latest attempt, whatever became of it."""
    last_ended_at: datetime | None = None
    last_outcome: str | None = None
    last_success_at: datetime | None = None
    """How old the data of the latest attempt that reached its goal is: as its start, or what it copied."""
    failures_in_row: int = 0
    running: bool = False


NOTHING = Facts()
Key = tuple[str, str, str]
"""A duty's identity in the ledger: kind, job, repository."""
Ledger = Mapping[Key, Facts]


def ledger_of(standings: Mapping[Key, Standing], running: Container[Key], now: datetime) -> Ledger:
    """Return the facts as decisions need them. ``running``: duties that have a process at this moment."""

    def believed(moment: datetime | None) -> datetime | None:
        return moment if moment is not None and moment <= now + _AHEAD else None

    return {
        key: Facts(
            believed(row.last_started_at), believed(row.last_ended_at), row.last_outcome, believed(row.last_success_at),
            row.failures_in_row, running=key in running or row.last_outcome == "running",
        )
        for key, row in standings.items()
    }  # fmt: skip


def configured_name(repository: str) -> str:
    """Return under which name the catalog notes since when a repository is configured; no job can be called so."""
    return f"repository {repository}"


def duties_of(settings: Settings, now: datetime, zone: tzinfo) -> list[Duty]:
    """List every duty that the settings ask for, in the order in which they would run."""
    found: list[Duty] = []
    for name, job in settings.jobs.items():
        for repository in job.repositories:
            # The promised RPO binds whatever saves most often; a weekly full need not keep a two-hour promise.
            # Where a log is archived all the time, that keeps the promise (see bridge.py), and not the base backups.
            often = None if getattr(job.source, "keeps_log", False) else job.incremental or job.full
            for kind, schedule in (("full", job.full), ("incremental", job.incremental)):
                if schedule:
                    promised = job.rpo if schedule is often else None
                    found.append(Duty(kind, name, repository, schedule, promised or _tolerated(schedule, now, zone)))
            if job.keep:
                found.append(Duty("forget", name, repository, None))
        if job.drill:
            target = job.drill.repository or job.repositories[0]
            found.append(Duty("drill", name, target, job.drill.schedule, _tolerated(job.drill.schedule, now, zone)))
    for name, repository_settings in settings.repositories.items():
        if repository_settings.verify:
            schedule = repository_settings.verify
            found.append(Duty("verify", "", name, schedule, _tolerated(schedule, now, zone)))
        if repository_settings.extend:
            schedule = repository_settings.extend
            found.append(Duty("extend", "", name, schedule, _tolerated(schedule, now, zone)))
        if repository_settings.prune:
            found.append(Duty("prune", "", name, repository_settings.prune))
    return sorted(found, key=lambda duty: RUN_ORDER.index(duty.kind))


def next_due(duty: Duty, ledger: Ledger, zone: tzinfo) -> datetime | None:
    """Return when the duty is (or was) due next, in UTC.

    A moment long past means at once; None means that a backup has to succeed first.
    """
    facts = ledger.get(duty.key, NOTHING)
    latest_backup = _latest_backup(duty, ledger)
    if duty.kind not in BACKUPS and latest_backup is None:
        return None
    full = ledger.get(("full", duty.job, duty.repository), NOTHING)
    if duty.kind == "incremental" and full.last_success_at is None and full.last_started_at is not None:
        return None
    if facts.last_outcome == "interrupted" and facts.failures_in_row <= 1:
        return _AT_ONCE
    if facts.failures_in_row and facts.last_ended_at is not None:
        retry_at = facts.last_ended_at + _RETRY[min(facts.failures_in_row, len(_RETRY)) - 1]
        planned = duty.schedule.next_after(facts.last_ended_at, zone) if duty.schedule else retry_at
        return min(retry_at, planned)
    if duty.schedule is None:
        return None if facts.last_started_at and latest_backup and facts.last_started_at >= latest_backup else _AT_ONCE
    if facts.last_started_at is None:
        return _AT_ONCE
    last = facts.last_started_at
    if duty.kind == "incremental" and full.last_success_at is not None:
        last = max(last, full.last_success_at)
    planned = duty.schedule.next_after(last, zone)
    return planned + _jitter(duty, duty.schedule.next_after(planned, zone) - planned)


def due(duties: Sequence[Duty], ledger: Ledger, now: datetime, zone: tzinfo) -> list[Duty]:
    """Return the duties to start now, most important first, none of which is running."""
    chosen: list[Duty] = []
    for duty in duties:
        moment = next_due(duty, ledger, zone)
        if moment is None or moment > now or ledger.get(duty.key, NOTHING).running:
            continue
        if duty.kind == "incremental" and any(c.kind == "full" and c.job == duty.job for c in chosen):
            continue
        leader = _to_bring_forward(duty, moment, duties, ledger, now, zone)
        chosen += [leader, duty] if leader else [duty]
    return chosen


def _to_bring_forward(
    duty: Duty, due_at: datetime, duties: Sequence[Duty], ledger: Ledger, now: datetime, zone: tzinfo
) -> Duty | None:
    """Return the same backup into the job's first repository when its own turn comes soon after ``due_at``.

    Not when it had a turn since then, so nobody waits twice; and not one that failed, whose retries nobody waits for.
    """
    leader = next(other for other in duties if (other.kind, other.job) == (duty.kind, duty.job))
    facts, moment = ledger.get(leader.key, NOTHING), next_due(leader, ledger, zone)
    if duty.kind not in BACKUPS or leader is duty or facts.running or facts.failures_in_row:
        return None
    had_its_turn = facts.last_started_at is None or facts.last_started_at >= due_at
    comes_soon = moment is not None and now < moment <= now + SHARED_WITHIN
    return leader if comes_soon and not had_its_turn else None


def _tolerated(schedule: Schedule, now: datetime, zone: tzinfo) -> timedelta:
    """Two missed turns are a fault, one late turn is not."""
    return 2 * schedule.spacing(now, zone) + _GRACE


def _latest_backup(duty: Duty, ledger: Ledger) -> datetime | None:
    """When the data that this duty works on was last saved; for a repository's duty, by any job."""
    moments = [
        facts.last_success_at
        for (kind, job, repository), facts in ledger.items()
        if kind in BACKUPS and repository == duty.repository and duty.job in ("", job) and facts.last_success_at
    ]
    return max(moments, default=None)


def _jitter(duty: Duty, spacing: timedelta) -> timedelta:
    # the repositories of a job share it, or a later one would come due before the first
    name = f"{duty.kind}/{duty.job or duty.repository}"
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return min(spacing / 20, _LARGEST_JITTER) * share



