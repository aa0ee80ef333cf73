"""Lets the monitor watch the backups: turns what is known of jobs and repositories into results for the alert engine.

The one place where both halves meet. Pure: views in, results out. Everything here is judged on *age*, since a job that
never runs reports no failure, and on the day of installation nothing is overdue yet.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from backup.past_drills import PastDrill
from config.checks.forecast import ForecastSettings
from config.jobs import JobSettings
from config.said import Said, chained
from config.units import format_duration, format_size
from keepwatch.duties import BACKUPS
from keepwatch.orders import agree_command as agree_command  # the page asks here for all it says of backups
from keepwatch.view import DutyView, JobView, PauseView, RepositoryView
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
        found.append(Result("keepwatch", part, status, problem or Said("sound"), now, 0.0))
    return found


def _judge_backup(job: JobView, repository: str, now: datetime) -> Result:
    duties = [d for d in job.duties if d.repository == repository and d.kind in ("full", "incremental")]
    if not duties:
        return Result(_backup(job.name), repository, Status.OK, Said("not scheduled"), now, 0.0)
    saved_at = max((d.last_success_at for d in duties if d.last_success_at), default=None)
    age = (now - (saved_at or job.configured_at)).total_seconds()
    limit = min(d.max_age_seconds for d in duties)
    reading = Reading("age", age, "seconds", repository)
    if age > limit:
        saved = "last good backup %(age)s ago, allowed %(limit)s"
        text = saved if saved_at else "no good backup yet, allowed %(limit)s"
        overdue = Said(text, age=format_duration(age), limit=format_duration(limit))
        message = _because(overdue, _reason(job))
        return Result(_backup(job.name), repository, Status.CRITICAL, message, now, 0.0, (reading,))
    full = next((d for d in duties if d.kind == "full" and d.last_success_at), None)
    if full and full.last_success_at and (now - full.last_success_at).total_seconds() > full.max_age_seconds:
        message = _late("last full backup %(age)s ago, allowed %(limit)s", now - full.last_success_at, full)
        return Result(_backup(job.name), repository, Status.WARNING, message, now, 0.0, (reading,))
    last = job.last_backup
    if last and last.repository == repository and last.outcome in ("failed", "partial"):
        message = Said(
            "last %(kind)s backup %(outcome)s: %(why)s", kind=Said(last.kind), outcome=Said(last.outcome),
            why=last.message,
        )  # fmt: skip
        return Result(_backup(job.name), repository, Status.WARNING, message, now, 0.0, (reading,))
    message = Said("saved %(age)s ago", age=format_duration(age)) if saved_at else Said("first backup to come")
    return Result(_backup(job.name), repository, Status.OK, message, now, 0.0, (reading,))


def _judge_snapshots(job: JobView, repository: str, now: datetime) -> Result:
    """A suspicious snapshot is told until somebody agrees to it, however normal the next one looks."""
    waiting = [suspicion for suspicion in job.suspicions if suspicion.repository == repository]
    if not waiting:
        return Result(_guard(job.name), repository, Status.OK, Said("no snapshot out of proportion"), now, 0.0)
    first = waiting[0]
    which = first.snapshot[:8]
    message = Said(
        "snapshot %(snapshot)s: %(why)s; nothing is forgotten or pruned until somebody agrees: %(command)s",
        snapshot=Said("%(names)s and %(count)s more", names=which, count=len(waiting) - 1) if waiting[1:] else which,
        why=chained(first.reasons), command=agree_command(job.name),
    )  # fmt: skip
    return Result(_guard(job.name), repository, Status.CRITICAL, message, now, 0.0)


def _judge_log(job: JobView, now: datetime) -> Result:
    """The log keeps the RPO, so its age is judged by it; what waits or is missing is told before that."""
    log, name = job.log, _log(job.name)
    allowed = log_max_age_seconds(job)
    since = (log.covered_until if log else None) or job.configured_at
    age = max(0.0, (now - since).total_seconds())
    readings = (Reading("age", age, "seconds"), Reading("spooled", log.spooled_bytes if log else 0.0, "bytes"))
    reason = log.problem if log and log.problem else ""
    if log is None or (now - log.updated_at).total_seconds() > _SILENT_SECONDS:
        reason = Said("its receiver says nothing")
    if age > allowed:
        late = {"age": format_duration(age), "limit": format_duration(allowed)}
        message = Said("archived up to %(age)s ago, allowed %(limit)s", **late)
        return Result(name, "", Status.CRITICAL, _because(message, reason), now, 0.0, readings)
    if log and has_log_gap(job):
        message = Said(
            "there is a gap: %(gap)s; nothing behind it can be recovered before the next base backup", gap=log.gap
        )
        return Result(name, "", Status.CRITICAL, message, now, 0.0, readings)
    if log and log.spooled_files:
        size = format_size(log.spooled_bytes)
        message = Said("files that wait in the spool: %(count)s, %(size)s", count=log.spooled_files, size=size)
        return Result(name, "", Status.WARNING, _because(message, reason), now, 0.0, readings)
    if reason:
        return Result(name, "", Status.WARNING, reason, now, 0.0, readings)
    if log and _is_since_the_last_base(log.switched_at, job):
        message = Said(
            "the server went on as timeline %(timeline)s; a new base backup makes recovery simple again",
            timeline=log.timeline,
        )
        return Result(name, "", Status.WARNING, message, now, 0.0, readings)
    return Result(name, "", Status.OK, Said("archived up to %(age)s ago", age=format_duration(age)), now, 0.0, readings)


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
        return _drill_result(job, Status.CRITICAL, Said("restore drill failed: %(why)s", why=last.message), now, last)
    if age > duty.max_age_seconds:
        passed = "last passed drill %(age)s ago, allowed %(limit)s"
        text = passed if duty.last_success_at else "no drill passed yet, allowed %(limit)s"
        message = _because(_late(text, age, duty), _paused(job.pause))
        return _drill_result(job, Status.CRITICAL, message, now, last)
    if last and last.verdict == "INCONCLUSIVE":
        message = Said("restore drill inconclusive: %(why)s", why=last.message)
        return _drill_result(job, Status.WARNING, message, now, last)
    if last and job.rto_seconds and last.rto_seconds and last.rto_seconds > job.rto_seconds:
        took, promised = format_duration(last.rto_seconds), format_duration(job.rto_seconds)
        message = Said("restore took %(took)s, promised %(promised)s", took=took, promised=promised)
        return _drill_result(job, Status.WARNING, message, now, last)
    # a log's age says what would be lost, and is judged all the time; an idle database's last commit is just old
    late = not job.keeps_log and last and job.rpo_seconds and last.rpo_seconds and last.rpo_seconds > job.rpo_seconds
    if late and last and job.rpo_seconds and last.rpo_seconds:
        old, promised = format_duration(last.rpo_seconds), format_duration(job.rpo_seconds)
        message = Said("the data that came back was %(age)s old, promised %(promised)s", age=old, promised=promised)
        return _drill_result(job, Status.WARNING, message, now, last)
    passed_last = Said("passed %(age)s ago", age=format_duration(age))
    message = passed_last if duty.last_success_at else Said("first drill to come")
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
            message = _late("last verified %(age)s ago, allowed %(limit)s", now - since, duty)
            return Result(name, "", Status.WARNING, message, now, 0.0)
    reading = repository.reading
    if reading and reading.within_seconds and reading.oldest_at:
        age = (now - reading.oldest_at).total_seconds()
        if age > reading.within_seconds:
            late = {"age": format_duration(age), "limit": format_duration(reading.within_seconds)}
            message = Said("a pack was last read and verified %(age)s ago, allowed %(limit)s", **late)
            return Result(name, "", Status.WARNING, message, now, 0.0)
    free = repository.free_bytes
    if free is not None:
        room = Reading("free_bytes", free, "bytes")
        needed = max(_LOW_SPACE_BYTES, _LOW_SPACE_SHARE * (repository.size_bytes or 0))
        if free < needed:
            sizes = {"free": format_size(free), "needed": format_size(needed)}
            message = Said("%(free)s free where it lies, at least %(needed)s wanted", **sizes)
            return Result(name, "", Status.WARNING, message, now, 0.0, (room,))
        return Result(name, "", Status.OK, Said("%(value)s free", value=format_size(free)), now, 0.0, (room,))
    return Result(name, "", Status.OK, Said("sound, as far as looked at"), now, 0.0)


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


def _late(text: str, age: timedelta | float, duty: DutyView) -> Said:
    return Said(text, age=format_duration(age), limit=format_duration(duty.max_age_seconds))


def _because(message: str, reason: str) -> str:
    return Said("%(first)s; %(second)s", first=message, second=reason) if reason else message


def _reason(job: JobView) -> str:
    if job.pause:
        return _paused(job.pause)
    last = job.last_backup
    if last is None or last.outcome == "succeeded":
        return ""
    return Said("last run %(outcome)s: %(why)s", outcome=Said(last.outcome), why=last.message)


def _paused(pause: PauseView | None) -> str:
    if pause is None:
        return ""
    by = Said("paused by %(who)s", who=pause.author)
    return Said("%(message)s: %(note)s", message=by, note=pause.comment) if pause.comment else by
