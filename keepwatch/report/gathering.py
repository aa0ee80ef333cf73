"""Puts a report together: reads ledger, alerts, plans and both chains of evidence, and computes the figures.

Reads only, works whether the daemon runs or not, and tells of a part that could not be read instead of leaving it out
in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backup.catalog import Catalog, RunRow
from backup.errors import BackupError
from backup.journal import Journal
from backup.pack_memory import readings
from backup.past_drills import PastDrill, PastDrills
from config.settings import Settings
from config.showing import masked_url
from keepwatch import __version__
from keepwatch.plans.log import PlanLog
from keepwatch.plans.records import Improvement
from keepwatch.plans.shelf import Shelf
from keepwatch.report.figures import (
    PERIODS,
    AlertFigures,
    Availability,
    JobFigures,
    Period,
    RepositoryFigures,
    availability,
    figure_sum,
    growth,
    of_alerts,
    of_job,
)
from keepwatch.state import StateDirectory
from keepwatch.view import PlanView
from monitor.episodes import read_episodes
from monitor.result import Status
from monitor.store import MonitorStore, MonitorStoreError

_MOST_DRILLS = 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """One hash chain, checked while the report was made."""

    name: str
    """``drill journal`` or ``log of plans``."""
    lines: int
    last_hash: str
    problem: str | None
    """What is wrong with it, and in which line; None for an unbroken chain."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report tells."""

    host: str
    version: str
    made_at: datetime
    timezone: str
    period: Period
    jobs: tuple[JobFigures, ...]
    drills: tuple[PastDrill, ...]
    """Those of the period, newest first."""
    alerts: AlertFigures
    checks: tuple[Availability, ...]
    """The worst first."""
    plans: tuple[PlanView, ...]
    plan_findings: tuple[str, ...]
    closed: tuple[Improvement, ...]
    """Improvements that were closed in the period."""
    repositories: tuple[RepositoryFigures, ...]
    evidence: tuple[Evidence, ...]
    unread: tuple[str, ...] = ()
    """Parts that could not be read, each with the reason; the report is that much poorer."""

    @property
    def broken(self) -> tuple[JobFigures, ...]:
        """The jobs that did not keep what they promise."""
        return tuple(job for job in self.jobs if job.kept is False)

    @property
    def is_trustworthy(self) -> bool:
        """Whether both chains of evidence hold and everything was read."""
        return not self.unread and all(one.problem is None for one in self.evidence)


def gather(settings: Settings, state: StateDirectory, period: str, now: datetime) -> Report:
    """Make the report of the latest day, week or month up to ``now``. Raises CatalogError without a ledger."""
    span = Period(period, now - PERIODS[period], now)
    unread: list[str] = []
    with Catalog(state.backup_db, to_read=True) as catalog:
        runs = catalog.runs_since(span.since)
        drills = tuple(d for d in PastDrills(catalog).latest(_MOST_DRILLS) if span.since < d.ended_at <= span.until)
        repositories = tuple(_repositories(catalog, settings, runs, span))
        if catalog.problem:
            unread.append(catalog.problem)
    jobs = tuple(
        of_job(
            name, job.rpo.total_seconds() if job.rpo else None, job.rto.total_seconds() if job.rto else None, runs,
            drills, span,
        )
        for name, job in settings.jobs.items()
    )  # fmt: skip
    alerts, checks = _watched(state, span, unread)
    shelf = Shelf(settings, state.plan_log)
    plans = shelf.part(now)
    if shelf.problem:
        unread.append(shelf.problem)
    return Report(
        host=settings.daemon.host, version=__version__, made_at=now, timezone=settings.daemon.timezone, period=span,
        jobs=jobs, drills=drills, alerts=alerts, checks=checks, plans=plans.plans, plan_findings=plans.plan_findings,
        closed=_closed(state, span), repositories=repositories,
        evidence=(
            _evidence("drill journal", Journal(state.journal)), _evidence("log of plans", Journal(state.plan_log)),
        ),
        unread=tuple(unread),
    )  # fmt: skip


def _watched(
    state: StateDirectory, period: Period, unread: list[str]
) -> tuple[AlertFigures, tuple[Availability, ...]]:
    """Read what the monitor remembers; nothing of it when its file cannot be read."""
    try:
        store = MonitorStore(state.monitor_db, to_read=True)
        try:
            found = read_episodes(store, period.since, period.until)
            known: Mapping[tuple[str, str], Status] = store.statuses()
        finally:
            store.close()
    except MonitorStoreError as error:
        unread.append(str(error))
        found, known = [], {}
    return of_alerts(found, period), tuple(availability(known, found, period))


def _repositories(
    catalog: Catalog, settings: Settings, runs: list[RunRow], period: Period
) -> list[RepositoryFigures]:
    rows, read = catalog.repositories(), readings(catalog)
    found = []
    for name, repository in settings.repositories.items():
        row, reading = rows.get(name), read.get(name)
        found.append(
            RepositoryFigures(
                name, masked_url(repository.url), row.size_bytes if row else None, row.free_bytes if row else None,
                figure_sum(runs, name, "bytes_stored", period), figure_sum(runs, name, "bytes_freed", period),
                growth(runs, name, period), row.verified_at if row else None,
                reading.verified_ratio(period.until, repository.read_all_within) if reading else None,
                row.problem if row else None,
            )
        )  # fmt: skip
    return found


def _closed(state: StateDirectory, period: Period) -> tuple[Improvement, ...]:
    try:
        records = PlanLog(state.plan_log).records()
    except BackupError:
        return ()  # the shelf has the same trouble and tells it
    improvements = (one for record in records.values() for one in record.improvements)
    return tuple(one for one in improvements if one.closed_at and period.since < one.closed_at <= period.until)


def _evidence(name: str, journal: Journal) -> Evidence:
    try:
        found = journal.verify()
    except BackupError as error:
        return Evidence(name, 0, "", str(error))
    broken = f"line {found.broken_line}: {found.problem}" if found.broken_line is not None else None
    return Evidence(name, found.lines, found.last_hash, broken)
