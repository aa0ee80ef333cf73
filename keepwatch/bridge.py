"""Lets the monitor watch the backups: turns what is known of jobs and repositories into results for the alert engine.

The one place where both halves meet. Pure: views in, results out. Everything here is judged on *age*, since a job that
never runs reports no failure, and on the day of installation nothing is overdue yet.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from backup.past_drills import PastDrill
from config.checks.forecast import ForecastSettings
from config.jobs import JobSettings
from config.units import format_duration, format_size
from keepwatch.duties import BACKUPS
from keepwatch.orders import agree_command as agree_command  # the page asks here for all it says of backups
from keepwatch.view import DutyView, JobView, RepositoryView
from monitor.alerting import Policy
from monitor.result import Reading, Result, Status

PLANS = "plans"
"""The check that judges emergency plans (keepwatch/plans/)."""
EVERY = timedelta(seconds=30)
"""How often the daemon looks."""

_LOW_SPACE_BYTES = 1 << 30
_LOW_SPACE_SHARE = 0.1
"""A destination is short of space below a tenth of what it holds already, or below a gibibyte."""
_LOG_SECONDS = 3600.0
"""How old the end of a log may be when no RPO is promised."""
_SILENT_SECONDS = 90.0
"""A receiver says every second how things stand, but for the time that it takes to be started again."""


def policies(jobs: Iterable[str], repositories: Iterable[str]) -> dict[str, Policy]:
    """Return the alert policies of these results, by check name. They fire at once: what they judge has lasted."""
    found = [
        *(_policy(_backup(job), "backup-overdue") for job in jobs),
        *(_policy(_drill(job), "drill-failed") for job in jobs),
        *(_policy(_guard(job), "snapshot-suspicious") for job in jobs),
        *(_policy(_log(job), "log-behind") for job in jobs),
        *(_policy(_repository(name), "repository-problem") for name in repositories),
        _policy("keepwatch", "keepwatch-itself"),
        _policy(PLANS, "plan-needs-care"),
    ]
    return {policy.check: policy for policy in found}


def forecasts(
    jobs: Mapping[str, JobSettings], repositories: Iterable[str]
) -> dict[str, tuple[ForecastSettings, ...]]:
    """Return what is foreseen of these results, by check name: room that runs out, restores that outgrow their RTO."""
    room = ForecastSettings.model_validate(
        {"reading": "free_bytes", "reaches": "0", "warning": "14d", "critical": "2d", "over": "14d"}
    )
    found: dict[str, tuple[ForecastSettings, ...]] = {_repository(name): (room,) for name in repositories}
    for name, job in jobs.items():
        if job.rto is not None:
            rule = {"reading": "rto", "reaches": f"{job.rto.total_seconds():g}s", "warning": "14d", "over": "60d"}
            found[_drill(name)] = (ForecastSettings.model_validate(rule),)
    return found


def results(
    jobs: Iterable[JobView], repositories: Iterable[RepositoryView], problems: Mapping[str, str | None], now: datetime
) -> list[Result]:
    """Judge everything once. ``problems``: what is wrong with the daemon itself, by part; None for a sound part."""
    found: list[Result] = []
    for job in jobs:
        found += [_judge_backup(job, repository, now) for repository in job.repositories]
        found += [_judge_snapshots(job, repository, now) for repository in job.repositories]
        if job.keeps_log:
            found.append(_judge_log(job, now))
        if any(duty.kind == "drill" for duty in job.duties):
            found.append(_judge_drill(job, now))
    found += [_judge_repository(repository, now) for repository in repositories]
    for part, problem in problems.items():
        status = Status.CRITICAL if problem else Status.OK
        found.append(Result("keepwatch", part, status, problem or "sound", now, 0.0))
    return found


def _judge_backup(job: JobView, repository: str, now: datetime) -> Result:
    duties = [d for d in job.duties if d.repository == repository and d.kind in ("full", "incremental")]
    if not duties:
        return Result(_backup(job.name), repository, Status.OK, "not scheduled", now, 0.0)
    saved_at = max((d.last_success_at for d in duties if d.last_success_at), default=None)
    age = (now - (saved_at or job.configured_at)).total_seconds()
    limit = min(d.max_age_seconds for d in duties)
    reading = Reading("age", age, "seconds", repository)
    if age > limit:
        what = f"last good backup {format_duration(age)} ago" if saved_at else "no good backup yet"
        message = f"{what}, allowed {format_duration(limit)}{_reason(job)}"
        return Result(_backup(job.name), repository, Status.CRITICAL, message, now, 0.0, (reading,))
    full = next((d for d in duties if d.kind == "full" and d.last_success_at), None)
    if full and full.last_success_at and (now - full.last_success_at).total_seconds() > full.max_age_seconds:
        message = f"last full backup {format_duration(now - full.last_success_at)} ago, allowed {_allowed(full)}"
        return Result(_backup(job.name), repository, Status.WARNING, message, now, 0.0, (reading,))
    last = job.last_backup
    if last and last.repository == repository and last.outcome in ("failed", "partial"):
        message = f"last {last.kind} backup {last.outcome}: {last.message}"
        return Result(_backup(job.name), repository, Status.WARNING, message, now, 0.0, (reading,))
    message = f"saved {format_duration(age)} ago" if saved_at else "first backup to come"
    return Result(_backup(job.name), repository, Status.OK, message, now, 0.0, (reading,))


def _judge_snapshots(job: JobView, repository: str, now: datetime) -> Result:
    """A suspicious snapshot is told until somebody agrees to it, however normal the next one looks."""
    waiting = [suspicion for suspicion in job.suspicions if suspicion.repository == repository]
    if not waiting:
        return Result(_guard(job.name), repository, Status.OK, "no snapshot out of proportion", now, 0.0)
    first = waiting[0]
    more = f", and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    message = (
        f"snapshot {first.snapshot[:8]}{more}: {'; '.join(first.reasons)}; nothing is forgotten or pruned until"
        f" somebody agrees: {agree_command(job.name)}"
    )
    return Result(_guard(job.name), repository, Status.CRITICAL, message, now, 0.0)


def _judge_log(job: JobView, now: datetime) -> Result:
    """The log keeps the RPO, so its age is judged by it; what waits or is missing is told before that."""
    log, name = job.log, _log(job.name)
    allowed = log_max_age_seconds(job)
    since = (log.covered_until if log else None) or job.configured_at
    age = max(0.0, (now - since).total_seconds())
    readings = (Reading("age", age, "seconds"), Reading("spooled", log.spooled_bytes if log else 0.0, "bytes"))
    reason = f"; {log.problem}" if log and log.problem else ""
    if log is None or (now - log.updated_at).total_seconds() > _SILENT_SECONDS:
        reason = "; its receiver says nothing"
    if age > allowed:
        message = f"archived up to {format_duration(age)} ago, allowed {format_duration(allowed)}{reason}"
        return Result(name, "", Status.CRITICAL, message, now, 0.0, readings)
    if log and has_log_gap(job):
        message = f"there is a gap: {log.gap}; nothing behind it can be recovered before the next base backup"
        return Result(name, "", Status.CRITICAL, message, now, 0.0, readings)
    if log and log.spooled_files:
        message = f"{log.spooled_files} files, {format_size(log.spooled_bytes)}, wait in the spool{reason}"
        return Result(name, "", Status.WARNING, message, now, 0.0, readings)
    if reason:
        return Result(name, "", Status.WARNING, reason.removeprefix("; "), now, 0.0, readings)
    if log and _is_since_the_last_base(log.switched_at, job):
        message = f"the server went on as timeline {log.timeline}; a new base backup makes recovery simple again"
        return Result(name, "", Status.WARNING, message, now, 0.0, readings)
    return Result(name, "", Status.OK, f"archived up to {format_duration(age)} ago", now, 0.0, readings)


def log_max_age_seconds(job: JobView) -> float:
    """Return how old the end of a job's archived log may get."""
    return job.rpo_seconds or _LOG_SECONDS


def has_log_gap(job: JobView) -> bool:
    """Tell whether files of the log are missing that no base backup has made needless since."""
    return job.log is not None and _is_since_the_last_base(job.log.gap_at, job)


def _is_since_the_last_base(moment: datetime | None, job: JobView) -> bool:
    based_at = max((d.last_success_at for d in job.duties if d.kind in BACKUPS and d.last_success_at), default=None)
    return moment is not None and (based_at is None or moment > based_at)


def _judge_drill(job: JobView, now: datetime) -> Result:
    duty = next(d for d in job.duties if d.kind == "drill")
    last = job.last_drill
    age = (now - (duty.last_success_at or job.configured_at)).total_seconds()
    if last and last.verdict == "FAILED":
        return _drill_result(job, Status.CRITICAL, f"restore drill failed: {last.message}", now, last)
    if age > duty.max_age_seconds:
        what = f"last passed drill {format_duration(age)} ago" if duty.last_success_at else "no drill passed yet"
        message = f"{what}, allowed {_allowed(duty)}{f'; {job.pause}' if job.pause else ''}"
        return _drill_result(job, Status.CRITICAL, message, now, last)
    if last and last.verdict == "INCONCLUSIVE":
        return _drill_result(job, Status.WARNING, f"restore drill inconclusive: {last.message}", now, last)
    if last and job.rto_seconds and last.rto_seconds and last.rto_seconds > job.rto_seconds:
        message = f"restore took {format_duration(last.rto_seconds)}, promised {format_duration(job.rto_seconds)}"
        return _drill_result(job, Status.WARNING, message, now, last)
    # a log's age says what would be lost, and is judged all the time; an idle database's last commit is just old
    late = not job.keeps_log and last and job.rpo_seconds and last.rpo_seconds and last.rpo_seconds > job.rpo_seconds
    if late and last and job.rpo_seconds and last.rpo_seconds:
        message = (
            f"the data that came back was {format_duration(last.rpo_seconds)} old,"
            f" promised {format_duration(job.rpo_seconds)}"
        )
        return _drill_result(job, Status.WARNING, message, now, last)
    message = f"passed {format_duration(age)} ago" if duty.last_success_at else "first drill to come"
    return _drill_result(job, Status.OK, message, now, last)


def _drill_result(job: JobView, status: Status, message: str, now: datetime, last: PastDrill | None) -> Result:
    measured = last.rto_seconds if last else None
    readings = (Reading("rto", measured, "seconds"),) if measured is not None else ()
    return Result(_drill(job.name), "", status, message, now, 0.0, readings)


def _judge_repository(repository: RepositoryView, now: datetime) -> Result:
    name = _repository(repository.name)
    if repository.problem:
        return Result(name, "", Status.CRITICAL, repository.problem, now, 0.0)
    for duty in repository.duties:
        since = duty.last_success_at
        if duty.kind == "verify" and since and duty.max_age_seconds < (now - since).total_seconds():
            message = f"last verified {format_duration(now - since)} ago, allowed {_allowed(duty)}"
            return Result(name, "", Status.WARNING, message, now, 0.0)
    reading = repository.reading
    if reading and reading.within_seconds and reading.oldest_at:
        age = (now - reading.oldest_at).total_seconds()
        if age > reading.within_seconds:
            allowed = format_duration(reading.within_seconds)
            message = f"a pack was last read and verified {format_duration(age)} ago, allowed {allowed}"
            return Result(name, "", Status.WARNING, message, now, 0.0)
    free = repository.free_bytes
    if free is not None:
        room = Reading("free_bytes", free, "bytes")
        needed = max(_LOW_SPACE_BYTES, _LOW_SPACE_SHARE * (repository.size_bytes or 0))
        if free < needed:
            message = f"{format_size(free)} free where it lies, at least {format_size(needed)} wanted"
            return Result(name, "", Status.WARNING, message, now, 0.0, (room,))
        return Result(name, "", Status.OK, f"{format_size(free)} free", now, 0.0, (room,))
    return Result(name, "", Status.OK, "sound, as far as looked at", now, 0.0)


def _policy(check: str, runbook: str) -> Policy:
    return Policy(check, check, EVERY, configured=frozenset(), runbook=runbook)


def _backup(job: str) -> str:
    return f"backup {job}"


def _drill(job: str) -> str:
    return f"drill {job}"


def _guard(job: str) -> str:
    return f"guard {job}"


def _log(job: str) -> str:
    return f"log {job}"


def _repository(name: str) -> str:
    return f"repository {name}"


def _allowed(duty: DutyView) -> str:
    return format_duration(duty.max_age_seconds)


def _reason(job: JobView) -> str:
    if job.pause:
        return f"; {job.pause}"
    last = job.last_backup
    return f"; last run {last.outcome}: {last.message}" if last and last.outcome != "succeeded" else ""
