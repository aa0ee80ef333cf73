"""Puts the picture together that page, metrics and API show.

The loop hands over ingredients (last results, ledger rows) when they change; the view is assembled from them only when
somebody looks, on the looker's thread, and kept until an ingredient changes. Ingredients are immutable and replaced
whole, so nobody waits for anybody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from backup.catalog import Catalog, RunRow, SnapshotRow, Standing
from backup.lock_looks import lock_looks
from backup.pack_memory import Reading, readings
from backup.past_drills import PastDrill, PastDrills
from backup.pauses import Pause, Pauses
from backup.suspicions import Suspicion, Suspicions
from config.jobs import JobSettings
from config.settings import Settings
from keepwatch import __version__
from keepwatch.duties import BACKUPS, NOTHING, Duty, Key, Ledger, configured_name, ledger_of, next_due
from keepwatch.orders import Progress
from keepwatch.view import (
    AlertView,
    ChannelView,
    CheckView,
    DutyView,
    JobView,
    PauseView,
    PlanView,
    ReadingView,
    RepositoryView,
    RunView,
    SnapshotView,
    SuspicionView,
    View,
)
from keepwatch.wal.kept import kept_logs
from keepwatch.wal.status import WalStatus, together

_RUNS_SHOWN = 30
_DRILLS_SHOWN = 20
_SNAPSHOTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class WatchPart:
    """What the monitor half contributes; see :class:`keepwatch.view.View` for each field."""

    checks: tuple[CheckView, ...] = ()
    alerts: tuple[AlertView, ...] = ()
    silences: tuple[tuple[int, str, str, str, datetime], ...] = ()
    scheduler_lag_seconds: float = 0.0
    lags: tuple[tuple[float, int], ...] = ()
    lag_seconds_sum: float = 0.0
    outbox_pending: int = 0
    outbox_oldest_at: datetime | None = None
    notifications: tuple[tuple[str, int, int], ...] = ()
    channels: tuple[ChannelView, ...] = ()
    suppressed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BackupPart:
    """What the ledger says, as rows, and what is running."""

    standings: Mapping[Key, Standing] = field(default_factory=dict)
    last_runs: tuple[RunRow, ...] = ()
    runs: tuple[RunRow, ...] = ()
    drills: tuple[PastDrill, ...] = ()
    last_drills: Mapping[str, PastDrill] = field(default_factory=dict)
    snapshots: tuple[SnapshotRow, ...] = ()
    proven: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    repositories: tuple[RepositoryView, ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    suspicions: tuple[Suspicion, ...] = ()
    pauses: tuple[Pause, ...] = ()
    logs: Mapping[str, WalStatus] = field(default_factory=dict)
    configured: Mapping[str, datetime] = field(default_factory=dict)
    duties: tuple[Duty, ...] = ()
    running: Mapping[Key, Progress | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlansPart:
    """What the emergency plans contribute; see :class:`keepwatch.view.View`."""

    plans: tuple[PlanView, ...] = ()
    plan_findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Everything that a view is made of."""

    settings: Settings
    started_at: datetime
    watch: WatchPart = WatchPart()
    backups: BackupPart = BackupPart()
    plans: PlansPart = PlansPart()
    reloaded_at: datetime | None = None
    config_problem: str | None = None
    heartbeat_success_at: datetime | None = None


class Viewer:
    """Holds the ingredients; ``view`` may be called from any thread."""

    def __init__(self, settings: Settings, started_at: datetime, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ingredients = Ingredients(settings, started_at, reloaded_at=started_at)
        self._made: tuple[Ingredients, View] | None = None

    def put(self, **parts: object) -> None:
        """Replace some of the ingredients (fields of :class:`Ingredients`)."""
        self._ingredients = replace(self._ingredients, **parts)  # type: ignore[arg-type]

    @property
    def ingredients(self) -> Ingredients:
        """What the next view will be made of."""
        return self._ingredients

    def view(self) -> View:
        """Return the picture as of the last change."""
        made, ingredients = self._made, self._ingredients
        if made is None or made[0] is not ingredients:
            made = self._made = (ingredients, build_view(ingredients, self._clock()))
        return made[1]


def read_backups(
    catalog: Catalog,
    settings: Settings,
    duties: tuple[Duty, ...],
    standings: Mapping[Key, Standing],
    running: Mapping[Key, Progress | None],
    logs: Mapping[str, WalStatus] | None = None,
) -> BackupPart:
    """Read from the catalog all that the view shows; ``logs`` is what receivers say of theirs."""
    rows, looks = catalog.repositories(), lock_looks(catalog)
    snapshots = tuple(catalog.snapshots())
    repositories = []
    for name, repository in settings.repositories.items():
        row, look = rows.get(name), looks.get(name)
        repositories.append(
            RepositoryView(
                name, repository.url, sum(s.repository == name for s in snapshots),
                row.size_bytes if row else None, row.free_bytes if row else None,
                row.verified_at if row else None, row.problem if row else None,
                oldest_lock_at=look.oldest_at if look else None, locks_seen_at=look.looked_at if look else None,
            )
        )  # fmt: skip
    drills = PastDrills(catalog)
    return BackupPart(
        standings=standings,
        last_runs=tuple(catalog.last_runs()),
        runs=tuple(catalog.runs(_RUNS_SHOWN)),
        drills=tuple(drills.latest(_DRILLS_SHOWN)),
        last_drills=drills.last_of_jobs(),
        snapshots=snapshots,
        proven=drills.proven(),
        repositories=tuple(repositories),
        readings=readings(catalog),
        suspicions=tuple(Suspicions(catalog).pending()),
        pauses=tuple(Pauses(catalog).all()),
        logs=logs or {},
        configured=catalog.configured_at(),
        duties=duties,
        running=dict(running),
    )


def build_view(ingredients: Ingredients, now: datetime) -> View:
    """Assemble the view."""
    settings, part, watch = ingredients.settings, ingredients.backups, ingredients.watch
    ledger = ledger_of(part.standings, part.running, now)
    suspicious = {(s.repository, s.snapshot) for s in part.suspicions}
    snapshots = tuple(
        _snapshot(row, part.proven, suspicious=(row.repository, row.id) in suspicious) for row in part.snapshots
    )
    return View(
        host=settings.daemon.host,
        version=__version__,
        made_at=now,
        started_at=ingredients.started_at,
        timezone=settings.daemon.timezone,
        checks=watch.checks,
        alerts=watch.alerts,
        jobs=tuple(_job(name, job, ingredients, ledger, snapshots, now) for name, job in settings.jobs.items()),
        runs=tuple(_run(row, part.running) for row in part.runs),
        drills=part.drills,
        snapshots=snapshots[:_SNAPSHOTS_SHOWN],
        repositories=tuple(
            replace(
                repository,
                configured_at=part.configured.get(configured_name(repository.name)),
                reading=_reading(
                    part.readings.get(repository.name), settings.repositories[repository.name].read_all_within, now
                ),
                duties=tuple(
                    _duty(duty, part, ledger, settings)
                    for duty in part.duties
                    if duty.repository == repository.name and not duty.job
                ),
            )
            for repository in part.repositories
        ),
        language=settings.daemon.language,
        plans=ingredients.plans.plans,
        plan_findings=ingredients.plans.plan_findings,
        silences=watch.silences,
        config_reloaded_at=ingredients.reloaded_at,
        config_reload_ok=ingredients.config_problem is None,
        config_problem=ingredients.config_problem,
        scheduler_lag_seconds=watch.scheduler_lag_seconds,
        lags=watch.lags,
        lag_seconds_sum=watch.lag_seconds_sum,
        outbox_pending=watch.outbox_pending,
        outbox_oldest_at=watch.outbox_oldest_at,
        notifications=watch.notifications,
        channels=watch.channels,
        suppressed=watch.suppressed,
        heartbeat_success_at=ingredients.heartbeat_success_at,
    )


def _job(
    name: str,
    job: JobSettings,
    ingredients: Ingredients,
    ledger: Ledger,
    snapshots: tuple[SnapshotView, ...],
    now: datetime,
) -> JobView:
    part = ingredients.backups
    running = next((run for run in part.runs if run.job == name and run.outcome == "running"), None)
    ended = [run for run in part.last_runs if run.job == name]
    last_backup = next((run for run in ended if run.kind in BACKUPS), None)
    pause = next((pause for pause in part.pauses if pause.job == name and pause.lasts(now)), None)
    logs = {log: part.logs.get(log) for log, kept in kept_logs(ingredients.settings).items() if kept.job == name}
    return JobView(
        name=name,
        source=f"{job.source.type}: {job.source.subject}",
        repositories=tuple(job.repositories),
        configured_at=part.configured.get(name, now),
        rpo_seconds=job.rpo.total_seconds() if job.rpo else None,
        rto_seconds=job.rto.total_seconds() if job.rto else None,
        duties=tuple(
            _duty(duty, part, ledger, ingredients.settings)
            for duty in part.duties
            if duty.job == name and duty.schedule is not None
        ),
        running=_run(running, part.running) if running else None,
        last_run=_run(ended[0], part.running) if ended else None,
        last_backup=_run(last_backup, part.running) if last_backup else None,
        last_drill=part.last_drills.get(name),
        newest_snapshot=next((snapshot for snapshot in snapshots if snapshot.job == name), None),
        suspicions=tuple(
            SuspicionView(s.snapshot, s.repository, s.taken_at, s.reasons) for s in part.suspicions if s.job == name
        ),
        pause=PauseView(pause.author, pause.comment, pause.paused_at, pause.until_at) if pause else None,
        keeps_log=bool(logs),
        log=together(logs),
    )


def _duty(duty: Duty, part: BackupPart, ledger: Ledger, settings: Settings) -> DutyView:
    row, facts = part.standings.get(duty.key), ledger.get(duty.key, NOTHING)
    return DutyView(
        kind=duty.kind,
        repository=duty.repository,
        schedule=str(duty.schedule),
        next_due_at=next_due(duty, ledger, settings.daemon.zone),
        last_success_at=facts.last_success_at,
        last_attempt_at=facts.last_started_at,
        max_age_seconds=duty.max_age.total_seconds() if duty.max_age else 0.0,
        runs=row.runs if row else 0,
        failures=row.failures if row else 0,
        partial=row.partial if row else 0,
        inconclusive=row.inconclusive if row else 0,
    )


def _run(row: RunRow, running: Mapping[Key, Progress | None]) -> RunView:
    progress = running.get((row.kind, row.job, row.repository)) if row.outcome == "running" else None
    return RunView(
        row.id, row.job, row.kind, row.repository, row.outcome, row.started_at, row.ended_at, row.message,
        progress.share if progress else None, row.figures,
    )  # fmt: skip


def _snapshot(
    row: SnapshotRow, proven: Mapping[tuple[str, str], datetime], *, suspicious: bool
) -> SnapshotView:
    return SnapshotView(
        row.id, row.job, row.repository, row.kind, row.taken_at, row.files, row.bytes, row.added_bytes, row.partial,
        proven.get((row.repository, row.id)), suspicious,
    )  # fmt: skip


def _reading(reading: Reading | None, within: timedelta | None, now: datetime) -> ReadingView | None:
    if reading is None:
        return None
    packs = sum(count for count, _ in reading.by_hour.values())
    promised = within.total_seconds() if within else None
    return ReadingView(packs, reading.verified_ratio(now, within), reading.oldest_at, promised, reading.damaged)
