"""What /metrics exports: families built from one view and nothing else. Pure.

What vanished from the machine vanishes here; what happened before a restart is still told, since the view comes from
the stores. Refuses: labels from free text, a ``type`` label, ages (moments only), sample timestamps, and a value where
nothing is known. The rules and names follow Prometheus' "Metric and label naming".
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from keepwatch.bridge import has_log_gap, log_max_age_seconds
from keepwatch.view import ChannelView, CheckView, DutyView, JobView, PlanView, RepositoryView, RunView, View
from monitor.exposition import Kind as FamilyKind
from monitor.exposition import family, histogram, label_text
from monitor.suppress import Kind

BACKUP_KINDS = ("full", "incremental")
FIRING_STATES = ("firing", "recovering")
FILE_STATES = ("new", "changed", "unmodified", "unreadable")

REQUEST_OPERATIONS = ("put", "get", "list", "stat", "delete", "retain")

Build = Callable[[View], Iterable[str]]
"""From the view to families, as text."""
Row = tuple[Sequence[str], float | None]
"""Label values and a value; None where nothing is known, which exports nothing."""
Owner = tuple[tuple[str, ...], datetime | None, Sequence[DutyView]]
"""Whose promise it is: label values, when it first stood in the settings, the duties that keep it."""
T = TypeVar("T")
Column = tuple[str, str, Callable[[T], float | None]]
"""One family over many things: name, documentation, how to get the value."""


def gauge(name: str, documentation: str, labels: Sequence[str], rows: Iterable[Row]) -> str:
    """Write a gauge family. Of two rows with equal labels the larger value stays."""
    return _filled(name, "gauge", documentation, labels, rows)


def counter(name: str, documentation: str, labels: Sequence[str], rows: Iterable[Row]) -> str:
    """Write a counter family; ``name`` ends in ``_total``."""
    return _filled(name, "counter", documentation, labels, rows)


def _filled(name: str, kind: FamilyKind, documentation: str, labels: Sequence[str], rows: Iterable[Row]) -> str:
    names = tuple(labels)
    values: dict[str, float] = {}
    for label_values, value in rows:
        if value is not None:
            text = label_text(names, tuple(label_values))
            if text not in values or value > values[text]:
                values[text] = value
    return family(name, kind, documentation, values.items())


def _columns(
    things: Sequence[T],
    label_names: Sequence[str],
    label_values: Callable[[T], Sequence[str]],
    columns: Sequence[Column[T]],
) -> Iterator[str]:
    """One family for each column, one series for each thing; a column named ``..._total`` is a counter."""
    for name, documentation, value in columns:
        make = counter if name.endswith("_total") else gauge
        yield make(f"keepwatch_{name}", documentation, label_names, [(label_values(t), value(t)) for t in things])


def _at(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


_DAEMON: tuple[Column[View], ...] = (
    ("config_last_reload_successful", "Whether the settings were good when last read.", lambda v: v.config_reload_ok),
    (
        "config_last_reload_success_timestamp_seconds",
        "When the settings in force were read.",
        lambda v: _at(v.config_reloaded_at or v.started_at),
    ),
    ("view_timestamp_seconds", "When the daemon last renewed what this page shows.", lambda v: _at(v.made_at)),
    ("scheduler_lag_seconds", "How late the latest check started.", lambda v: v.scheduler_lag_seconds),
    ("outbox_pending", "Messages still owed.", lambda v: v.outbox_pending),
    (
        "outbox_oldest_timestamp_seconds",
        "When the longest owed message was written.",
        lambda v: _at(v.outbox_oldest_at),
    ),
    (
        "heartbeat_last_success_timestamp_seconds",
        "When the dead-man switch was last told.",
        lambda v: _at(v.heartbeat_success_at),
    ),
)


def daemon_families(view: View) -> Iterator[str]:
    """The program itself: version, settings, loop, what it owes."""
    yield gauge("keepwatch_build_info", "Version of the program; always 1.", ("version",), [([view.version], 1)])
    yield from _columns([view], (), lambda _: (), _DAEMON)
    said = "How late checks began, of all since the daemon's start."
    yield histogram("keepwatch_check_start_lag_seconds", said, view.lags, view.lag_seconds_sum)


_CHECKS: tuple[Column[CheckView], ...] = (
    ("check_status", "0 ok, 1 warning, 2 critical, 3 unknown, 4 absent.", lambda c: c.status),
    ("check_last_run_timestamp_seconds", "When it last ran.", lambda c: _at(c.checked_at)),
    ("check_duration_seconds", "How long the last run took.", lambda c: c.took_seconds if c.checked_at else None),
    ("check_runs_total", "Runs.", lambda c: c.runs),
    ("check_failures_total", "Runs that could not measure.", lambda c: c.failures),
)


def check_families(view: View) -> Iterator[str]:
    """Checks: status, main reading, runs."""
    yield from _columns(view.checks, ("check", "entity"), lambda c: (c.check, c.entity), _CHECKS)
    mains = [((c.check, c.entity, c.readings[0].unit), c.readings[0].value) for c in view.checks if c.readings]
    yield gauge("keepwatch_check_value", "Main reading, in its base unit.", ("check", "entity", "unit"), mains)
    newest = [
        ((check.check,), check.checked_at.timestamp() - check.readings[0].value)
        for check in view.checks
        if check.type == "freshness" and check.checked_at and check.readings
    ]
    said = "When the newest thing was made that a freshness check found."
    yield gauge("keepwatch_sync_last_success_timestamp_seconds", said, ("check",), newest)


def alert_families(view: View) -> Iterator[str]:
    """Alerts, and what holds their messages back."""
    yield gauge(
        "keepwatch_alert_firing",
        "1 while it fires, silenced or not; 0 while pending or lately resolved.",
        ("alertname", "severity", "entity"),
        [((a.name, a.severity, a.entity), a.state in FIRING_STATES) for a in view.alerts],
    )
    held = {kind.value: 0 for kind in Kind}
    for reason, number in view.suppressed:
        kind = suppressor_kind(reason)
        held[kind] = held.get(kind, 0) + number
    rows = [((kind,), number) for kind, number in held.items()]
    yield gauge("keepwatch_alerts_suppressed", "Alerts whose messages are held back now.", ("reason",), rows)


def suppressor_kind(reason: str) -> str:
    """Strip what tells one suppressor from the next, so that the label stays bounded: ``silence 3`` is ``silence``."""
    word = re.match(r"[a-z_]+", reason.strip().lower())
    return word.group(0) if word else "other"


_CHANNELS: tuple[Column[tuple[str, int, int]], ...] = (
    ("notifications_total", "Attempts to send a message.", lambda c: c[1] + c[2]),
    ("notifications_failed_total", "Attempts that failed.", lambda c: c[2]),
)


_CHANNEL_TROUBLE: tuple[Column[ChannelView], ...] = (
    ("notifications_given_up_total", "Messages that could never be delivered.", lambda c: c.given_up),
    (
        "notification_channel_failing_since_timestamp_seconds",
        "First failure after the last message that got through; absent while all is well.",
        lambda c: _at(c.failing_since),
    ),
)


def notification_families(view: View) -> Iterator[str]:
    """Messages by channel."""
    yield from _columns(view.notifications, ("channel",), lambda c: (c[0],), _CHANNELS)
    yield from _columns(view.channels, ("channel",), lambda c: (c.name,), _CHANNEL_TROUBLE)


def freshness(what: str, thing: str, labels: Sequence[str], owners: Sequence[Owner]) -> Iterator[str]:
    """The series of the freshness pattern, under one name for every kind of promise.

    ``time() - (last_success > configured or configured) > max_age`` holds where a promise is broken.
    """
    columns: tuple[Column[Owner], ...] = (
        (
            f"{what}_last_success_timestamp_seconds",
            f"When the latest good {thing} started.",
            lambda o: max((d.last_success_at.timestamp() for d in o[2] if d.last_success_at), default=None),
        ),
        (
            f"{what}_last_attempt_timestamp_seconds",
            f"When the latest {thing} started.",
            lambda o: max((d.last_attempt_at.timestamp() for d in o[2] if d.last_attempt_at), default=None),
        ),
        (f"{what}_configured_timestamp_seconds", "When it first stood in the settings.", lambda o: _at(o[1])),
        (
            f"{what}_max_age_seconds",
            f"How old the latest good {thing} may get.",
            lambda o: min((d.max_age_seconds for d in o[2] if d.max_age_seconds > 0), default=None),
        ),
    )
    yield from _columns(owners, labels, lambda o: o[0], columns)


def _sum(job: JobView, kinds: Sequence[str], count: Callable[[DutyView], int]) -> int:
    return sum(count(duty) for duty in job.duties if duty.kind in kinds)


_BACKUPS: tuple[Column[JobView], ...] = (
    ("backup_runs_total", "Backup attempts.", lambda j: _sum(j, BACKUP_KINDS, lambda d: d.runs)),
    ("backup_failures_total", "Backups without a snapshot.", lambda j: _sum(j, BACKUP_KINDS, lambda d: d.failures)),
    (
        "backup_partial_total",
        "Backups that could not read everything.",
        lambda j: _sum(j, BACKUP_KINDS, lambda d: d.partial),
    ),
    (
        "backup_newest_snapshot_timestamp_seconds",
        "When the newest restorable state was taken.",
        lambda j: _at(j.newest_snapshot.taken_at) if j.newest_snapshot else None,
    ),
    ("job_paused", "1 while somebody lets the job rest.", lambda j: j.pause is not None),
    ("rto_objective_seconds", "How long a restore may take.", lambda j: j.rto_seconds),
    ("rpo_objective_seconds", "How much work may be lost.", lambda j: j.rpo_seconds),
)
_LOGS: tuple[Column[JobView], ...] = (
    (
        "log_archived_timestamp_seconds",
        "All that was committed by then is in the repository.",
        lambda j: _at(j.log.covered_until) if j.log else None,
    ),
    ("log_configured_timestamp_seconds", "When the job first stood in the settings.", lambda j: _at(j.configured_at)),
    ("log_max_age_seconds", "How old the end of the archived log may get.", log_max_age_seconds),
    ("log_gap", "1 while files are missing that recovery needs.", has_log_gap),
    ("log_spooled_bytes", "Log that waits for a repository.", lambda j: j.log.spooled_bytes if j.log else None),
    ("log_spooled_files", "Files of it.", lambda j: j.log.spooled_files if j.log else None),
)
_REQUESTS = (
    ("requests", "Requests of the last backup to a storage behind a network."),
    ("request_errors", "Those that failed, whether or not the next try went well."),
    ("request_retries", "Those that were tried again."),
    ("request_bytes", "Bytes that they carried, headers not counted."),
)
_LAST_BACKUPS: tuple[Column[RunView], ...] = (
    (
        "backup_duration_seconds",
        "How long the last backup took.",
        lambda r: (r.ended_at - r.started_at).total_seconds() if r.ended_at else None,
    ),
    ("backup_bytes_processed", "Bytes that the last backup looked at.", lambda r: r.figures.get("bytes_processed")),
    ("backup_bytes_added", "New data of the last backup, uncompressed.", lambda r: r.figures.get("bytes_added")),
    ("backup_bytes_stored", "Bytes that the last backup wrote.", lambda r: r.figures.get("bytes_stored")),
)


def backup_families(view: View) -> Iterator[str]:
    """Backups by job, freshness also by repository; objectives."""
    owners: list[Owner] = [
        (
            (job.name, repository),
            job.configured_at,
            [d for d in job.duties if d.kind in BACKUP_KINDS and d.repository == repository],
        )
        for job in view.jobs
        for repository in job.repositories
    ]
    yield from freshness("backup", "backup", ("job", "repository"), owners)
    yield from _columns(view.jobs, ("job",), lambda j: (j.name,), _BACKUPS)
    yield from _columns([job for job in view.jobs if job.keeps_log], ("job",), lambda j: (j.name,), _LOGS)
    waiting = [
        ((job.name, repository), sum(s.repository == repository for s in job.suspicions))
        for job in view.jobs
        for repository in job.repositories
    ]
    yield gauge(
        "keepwatch_backup_suspicious_snapshots", "Snapshots that wait for agreement.", ("job", "repository"), waiting
    )
    ended = [job.last_backup for job in view.jobs if job.last_backup is not None]
    yield from _columns(ended, ("job",), lambda r: (r.job,), _LAST_BACKUPS)
    files = [((run.job, state), run.figures.get(f"files_{state}")) for run in ended for state in FILE_STATES]
    yield gauge("keepwatch_backup_files", "Files of the last backup.", ("job", "state"), files)
    for name, documentation in _REQUESTS:
        asked = [((run.job, op), run.figures.get(f"{name}_{op}")) for run in ended for op in REQUEST_OPERATIONS]
        yield gauge(f"keepwatch_backup_{name}", documentation, ("job", "operation"), asked)


_DRILLS: tuple[Column[JobView], ...] = (
    ("drill_runs_total", "Restore drills begun.", lambda j: _sum(j, ("drill",), lambda d: d.runs)),
    ("drill_failures_total", "Drills that found a bad restore.", lambda j: _sum(j, ("drill",), lambda d: d.failures)),
    (
        "drill_inconclusive_total",
        "Drills without a verdict.",
        lambda j: _sum(j, ("drill",), lambda d: d.inconclusive),
    ),
    (
        "drill_rto_seconds",
        "Measured time to have everything back, last drill.",
        lambda j: j.last_drill.rto_seconds if j.last_drill else None,
    ),
    (
        "drill_rpo_seconds",
        "Measured age of the data that came back, last drill.",
        lambda j: j.last_drill.rpo_seconds if j.last_drill else None,
    ),
)


def drill_families(view: View) -> Iterator[str]:
    """Restore drills by job, for the jobs that have them."""
    drilled = [j for j in view.jobs if j.last_drill or any(d.kind == "drill" for d in j.duties)]
    owners: list[Owner] = [
        ((job.name,), job.configured_at, [d for d in job.duties if d.kind == "drill"]) for job in drilled
    ]
    yield from freshness("drill", "restore drill", ("job",), owners)
    yield from _columns(drilled, ("job",), lambda j: (j.name,), _DRILLS)


_REPOSITORIES: tuple[Column[RepositoryView], ...] = (
    ("repository_snapshots", "Snapshots in it.", lambda r: r.snapshots),
    ("repository_size_bytes", "Space that it takes.", lambda r: r.size_bytes),
    ("repository_free_bytes", "Space left where it lies.", lambda r: r.free_bytes),
    (
        "repository_oldest_unverified_pack_timestamp_seconds",
        "When the pack that waits longest was last read and found sound, or first seen.",
        lambda r: _at(r.reading.oldest_at) if r.reading else None,
    ),
    (
        "repository_verified_ratio",
        "Share of the packs' bytes that was read and found sound within the promised time, or ever.",
        lambda r: r.reading.verified_ratio if r.reading else None,
    ),
    (
        "repository_read_all_within_seconds",
        "Within which time every pack is to be read.",
        lambda r: r.reading.within_seconds if r.reading else None,
    ),
    (
        "repository_damaged_packs",
        "Packs that were damaged when last read.",
        lambda r: len(r.reading.damaged) if r.reading else None,
    ),
    (
        "repository_lock_timestamp_seconds",
        "When the oldest lock of others was last renewed; absent when the latest run saw none.",
        lambda r: _at(r.oldest_lock_at),
    ),
    (
        "repository_locks_seen_timestamp_seconds",
        "When a run last looked at the locks.",
        lambda r: _at(r.locks_seen_at),
    ),
    ("repository_problem", "1 when something was wrong with it when last looked at.", lambda r: r.problem is not None),
)


def repository_families(view: View) -> Iterator[str]:
    """Repositories and their upkeep."""
    labels = ("repository",)
    yield from _columns(view.repositories, labels, lambda r: (r.name,), _REPOSITORIES)
    for kind, thing in (("verify", "verification"), ("prune", "prune"), ("extend", "renewal of object locks")):
        owners: list[Owner] = [
            ((r.name,), r.configured_at, duties)
            for r in view.repositories
            if (duties := [d for d in r.duties if d.kind == kind])
        ]
        counts: tuple[Column[Owner], ...] = (
            (f"{kind}_runs_total", f"Attempts of {thing}.", lambda o: sum(d.runs for d in o[2])),
            (f"{kind}_failures_total", f"Attempts of {thing} that failed.", lambda o: sum(d.failures for d in o[2])),
        )
        yield from freshness(kind, thing, labels, owners)
        yield from _columns(owners, labels, lambda o: o[0], counts)


_PLANS: tuple[Column[PlanView], ...] = (
    ("plan_review_due_timestamp_seconds", "When somebody has to have read it again.", lambda p: _at(p.review_due_at)),
    ("plan_last_proven_timestamp_seconds", "When it was last shown to work.", lambda p: _at(p.proven_at)),
    (
        "plan_exercise_rto_seconds",
        "Measured time to have everything back, last exercise.",
        lambda p: p.last_exercise.rto_seconds if p.last_exercise else None,
    ),
    (
        "plan_exercise_rpo_seconds",
        "Age of the oldest data that came back, last exercise.",
        lambda p: p.last_exercise.rpo_seconds if p.last_exercise else None,
    ),
    ("plan_rto_target_seconds", "Time within which everything has to be back.", lambda p: p.rto_seconds),
    ("plan_rpo_target_seconds", "Age of the data that is tolerable then.", lambda p: p.rpo_seconds),
    ("plan_open_improvements", "What fell short and was not seen to yet.", lambda p: len(p.improvements)),
    ("plan_findings", "What about it needs care.", lambda p: len(p.findings)),
)


def plan_families(view: View) -> Iterator[str]:
    """Emergency plans."""
    yield from _columns(view.plans, ("plan",), lambda p: (p.name,), _PLANS)


COLLECTORS: tuple[tuple[str, Build], ...] = (
    ("daemon", daemon_families),
    ("checks", check_families),
    ("alerts", alert_families),
    ("notifications", notification_families),
    ("backups", backup_families),
    ("drills", drill_families),
    ("repositories", repository_families),
    ("plans", plan_families),
)
"""Every part of the page: name in ``keepwatch_collector_success``, and what builds it."""
