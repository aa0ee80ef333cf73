"""/metrics: the view as Prometheus series, rendered once per view and then served from memory.

Families are built from the view alone, so a scrape never waits for a probe, a lock of somebody else's or the disk, what
vanished from the machine vanishes here, and what happened before a restart is still told. Each collector is guarded:
one that raises costs its own families, not the page, and says so in ``keepwatch_collector_success``.
Refuses: labels from free text, a ``type`` label, ages (moments only), sample timestamps.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keepwatch.view import CheckView, DutyView, JobView, RepositoryView, View
from monitor.suppress import Kind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, the version that every scraper reads."""

BACKUP_KINDS = ("full", "incremental")
FIRING_STATES = ("firing", "recovering")
FILE_STATES = ("new", "changed", "unmodified", "unreadable")

Build = Callable[[View], Iterable[Metric]]
Row = tuple[Sequence[str], float | None]
_log = logging.getLogger(__name__)


class MetricsPage:
    """The bytes of /metrics for whatever view is the latest. Owns its registry; safe to call from any thread."""

    def __init__(self, view: Callable[[], View], collectors: Sequence[tuple[str, Build]] | None = None) -> None:
        """``view`` returns the latest view at once; ``collectors`` replaces the table below in tests."""
        self._latest = view
        self._rendering = threading.Lock()
        self._shown: View | None = None
        self._bytes = b""
        self.registry = CollectorRegistry()
        guards = [_Guarded(name, lambda build=build: build(self._showing())) for name, build in collectors or COLLECTORS]
        for name, theirs in _self_collectors():
            guards.append(_Guarded(name, theirs.collect))
        for guard in guards:
            self.registry.register(guard)
        self.registry.register(_Outcomes(guards))

    def render(self) -> bytes:
        """Return the page in text format 0.0.4, rendered anew only when the view is another one than last time."""
        with self._rendering:
            view = self._latest()
            if view is not self._shown:
                self._shown = view
                self._bytes = generate_latest(self.registry)
            return self._bytes

    def _showing(self) -> View:
        return self._shown if self._shown is not None else self._latest()


class _Guarded(Collector):
    """Runs one collector to its end, so that a failure half-way leaves no half family behind."""

    def __init__(self, name: str, build: Callable[[], Iterable[Metric]]) -> None:
        self.name = name
        self.succeeded = True
        self.took_seconds = 0.0
        self._build = build

    def collect(self) -> Iterator[Metric]:
        """Yield the families, or none when building them failed; the first failure in a row is logged."""
        started = time.perf_counter()
        families: list[Metric] = []
        try:
            families = list(self._build())
        except Exception:  # one collector must not cost the page; the failure is exported and logged
            if self.succeeded:
                _log.exception("metrics_collector_failed collector=%s", self.name)
            self.succeeded = False
        else:
            self.succeeded = True
        self.took_seconds = time.perf_counter() - started
        yield from families

    def describe(self) -> Iterable[Metric]:
        """Names are known only once there is a view; nothing else is registered that they could clash with."""
        return ()


class _Outcomes(Collector):
    """How the guarded collectors fared. Registered last: collectors run in the order of registration."""

    def __init__(self, guards: Sequence[_Guarded]) -> None:
        self._guards = guards

    def collect(self) -> Iterator[Metric]:
        """Yield success and duration of every collector of this very rendering."""
        yield gauge("keepwatch_collector_success", "Whether this part of the page could be built.", ("collector",),
                    [((g.name,), float(g.succeeded)) for g in self._guards])  # fmt: skip
        yield gauge("keepwatch_collector_duration_seconds", "Time to build this part of the page.", ("collector",),
                    [((g.name,), g.took_seconds) for g in self._guards])  # fmt: skip

    def describe(self) -> Iterable[Metric]:
        """See :meth:`_Guarded.describe`."""
        return ()


def _self_collectors() -> list[tuple[str, Collector]]:
    """prometheus_client's own collectors about this process, kept off its global registry's page."""
    own = CollectorRegistry()
    return [
        ("process", ProcessCollector(registry=own)),
        ("platform", PlatformCollector(registry=own)),
        ("gc", GCCollector(registry=own)),
    ]


def gauge(name: str, documentation: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """Make a gauge family. Rows without a value are left out; of two rows with equal labels the larger value stays."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    return _filled(family, rows)


def counter(name: str, documentation: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """Make a counter family; ``name`` ends in ``_total``."""
    return _filled(CounterMetricFamily(name, documentation, labels=labels), rows)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, rows: Iterable[Row]) -> Metric:
    values: dict[tuple[str, ...], float] = {}
    for labels, value in rows:
        if value is not None:
            key = tuple(_text(label) for label in labels)
            values[key] = max(values.get(key, float(value)), float(value))
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _text(label: str) -> str:
    """Replace what UTF-8 cannot carry: names from the file system may hold any byte."""
    return label.encode("utf-8", "replace").decode("utf-8")


def _at(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _build_and_config(view: View) -> Iterator[Metric]:
    yield gauge("keepwatch_build_info", "Version of the running program; always 1.", ("version",), [((view.version,), 1)])
    yield gauge("keepwatch_config_last_reload_successful", "Whether the settings were good when last read.", (),
                [((), float(view.config_reload_ok))])  # fmt: skip
    yield gauge("keepwatch_config_last_reload_success_timestamp_seconds", "When the settings in force were read.", (),
                [((), _at(view.config_reloaded_at or view.started_at))])  # fmt: skip
    yield gauge("keepwatch_view_timestamp_seconds", "When the daemon last renewed what this page shows.", (),
                [((), _at(view.made_at))])  # fmt: skip


def _checks(view: View) -> Iterator[Metric]:
    labels = ("check", "entity")

    def rows(value: Callable[[CheckView], float | None]) -> list[Row]:
        return [((c.check, c.entity), value(c)) for c in view.checks]

    yield gauge("keepwatch_check_status", "0 ok, 1 warning, 2 critical, 3 unknown, 4 absent.", labels,
                rows(lambda c: float(c.status)))  # fmt: skip
    yield gauge("keepwatch_check_value", "Main reading, in its base unit.", (*labels, "unit"),
                [((c.check, c.entity, c.readings[0].unit), c.readings[0].value) for c in view.checks if c.readings])  # fmt: skip
    yield gauge("keepwatch_check_last_run_timestamp_seconds", "When it last ran.", labels,
                rows(lambda c: _at(c.checked_at)))  # fmt: skip
    yield gauge("keepwatch_check_duration_seconds", "How long the last run took.", labels,
                rows(lambda c: c.took_seconds if c.checked_at else None))  # fmt: skip
    yield counter("keepwatch_check_runs_total", "Runs.", labels, rows(lambda c: c.runs))
    yield counter("keepwatch_check_failures_total", "Runs that could not measure.", labels, rows(lambda c: c.failures))


def _alerts(view: View) -> Iterator[Metric]:
    yield gauge("keepwatch_alert_firing", "1 while it fires, silenced or not; 0 while pending or lately resolved.",
                ("alertname", "severity", "entity"),
                [((a.name, a.severity, a.entity), float(a.state in FIRING_STATES)) for a in view.alerts])  # fmt: skip
    held = {kind.value: 0 for kind in Kind}
    for reason, number in view.suppressed:
        kind = suppressor_kind(reason)
        held[kind] = held.get(kind, 0) + number
    yield gauge("keepwatch_alerts_suppressed", "Alerts whose messages are held back now.", ("reason",),
                [((kind,), number) for kind, number in held.items()])  # fmt: skip


def suppressor_kind(reason: str) -> str:
    """Strip what tells one suppressor from the next, so that the label stays bounded: ``silence 3`` is ``silence``."""
    word = re.match(r"[a-z_]+", reason.strip().lower())
    return word.group(0) if word else "other"


def _notifications(view: View) -> Iterator[Metric]:
    yield counter("keepwatch_notifications_total", "Attempts to send a message.", ("channel",),
                  [((name,), sent + failed) for name, sent, failed in view.notifications])  # fmt: skip
    yield counter("keepwatch_notifications_failed_total", "Attempts that failed.", ("channel",),
                  [((name,), failed) for name, _, failed in view.notifications])  # fmt: skip
    yield gauge("keepwatch_outbox_pending", "Messages still owed.", (), [((), view.outbox_pending)])
    yield gauge("keepwatch_outbox_oldest_timestamp_seconds", "When the longest owed message was written.", (),
                [((), _at(view.outbox_oldest_at))])  # fmt: skip
    yield gauge("keepwatch_heartbeat_last_success_timestamp_seconds", "When the dead-man switch was last told.", (),
                [((), _at(view.heartbeat_success_at))])  # fmt: skip


def _scheduler(view: View) -> Iterator[Metric]:
    yield gauge("keepwatch_scheduler_lag_seconds", "How late the latest check started.", (),
                [((), view.scheduler_lag_seconds)])  # fmt: skip


Owner = tuple[tuple[str, ...], datetime | None, Sequence[DutyView]]
"""Whose promise it is: label values, when it first stood in the settings, the duties that keep it."""


def _freshness(what: str, thing: str, labels: Sequence[str], owners: Sequence[Owner]) -> Iterator[Metric]:
    """The four series of the freshness pattern, under one name for every kind of promise.

    ``time() - (last_success > configured or configured) > max_age`` holds where a promise is broken.
    """

    def rows(value: Callable[[Owner], float | None]) -> list[Row]:
        return [(owner[0], value(owner)) for owner in owners]

    prefix = f"keepwatch_{what}"
    yield gauge(f"{prefix}_last_success_timestamp_seconds", f"When the latest good {thing} started.", labels,
                rows(lambda o: max((d.last_success_at.timestamp() for d in o[2] if d.last_success_at), default=None)))  # fmt: skip
    yield gauge(f"{prefix}_last_attempt_timestamp_seconds", f"When the latest {thing} started.", labels,
                rows(lambda o: max((d.last_attempt_at.timestamp() for d in o[2] if d.last_attempt_at), default=None)))  # fmt: skip
    yield gauge(f"{prefix}_configured_timestamp_seconds", "When it first stood in the settings.", labels,
                rows(lambda o: _at(o[1])))  # fmt: skip
    yield gauge(f"{prefix}_max_age_seconds", f"How old the latest good {thing} may get.", labels,
                rows(lambda o: min((d.max_age_seconds for d in o[2] if d.max_age_seconds > 0), default=None)))  # fmt: skip


def _by_repository(jobs: Sequence[JobView]) -> list[Owner]:
    """One owner for each job and repository that it is backed up into on a schedule."""
    owners: list[Owner] = []
    for job in jobs:
        for repository in job.repositories:
            duties = [d for d in job.duties if d.kind in BACKUP_KINDS and d.repository == repository]
            owners.append(((job.name, repository), job.configured_at, duties))
    return owners


def _sum_by_job(jobs: Sequence[JobView], kinds: Sequence[str], count: Callable[[DutyView], int]) -> list[Row]:
    return [((job.name,), sum(count(d) for d in job.duties if d.kind in kinds)) for job in jobs]


def _backups(view: View) -> Iterator[Metric]:
    jobs = view.jobs
    yield from _freshness("backup", "backup", ("job", "repository"), _by_repository(jobs))
    yield gauge("keepwatch_backup_newest_snapshot_timestamp_seconds", "When the newest restorable state was taken.",
                ("job",), [((j.name,), _at(j.newest_snapshot.taken_at if j.newest_snapshot else None)) for j in jobs])  # fmt: skip
    yield counter("keepwatch_backup_runs_total", "Backup attempts.", ("job",),
                  _sum_by_job(jobs, BACKUP_KINDS, lambda d: d.runs))  # fmt: skip
    yield counter("keepwatch_backup_failures_total", "Backup attempts that left no snapshot.", ("job",),
                  _sum_by_job(jobs, BACKUP_KINDS, lambda d: d.failures))  # fmt: skip
    yield counter("keepwatch_backup_partial_total", "Backups that could not read everything.", ("job",),
                  _sum_by_job(jobs, BACKUP_KINDS, lambda d: d.partial))  # fmt: skip
    ended = [(j.name, j.last_backup) for j in jobs if j.last_backup is not None]
    yield gauge("keepwatch_backup_duration_seconds", "How long the last backup took.", ("job",),
                [((name,), (run.ended_at - run.started_at).total_seconds() if run.ended_at else None)
                 for name, run in ended])  # fmt: skip
    yield gauge("keepwatch_backup_files", "Files of the last backup.", ("job", "state"),
                [((name, state), run.figures.get(f"files_{state}")) for name, run in ended for state in FILE_STATES])  # fmt: skip
    for figure, documentation in (
        ("bytes_processed", "Bytes that the last backup looked at."),
        ("bytes_added", "New data of the last backup, before compression."),
        ("bytes_stored", "Bytes that the last backup wrote to the repository."),
    ):
        yield gauge(f"keepwatch_backup_{figure}", documentation, ("job",),
                    [((name,), run.figures.get(figure)) for name, run in ended])  # fmt: skip


def _drills(view: View) -> Iterator[Metric]:
    drilled = [j for j in view.jobs if any(d.kind == "drill" for d in j.duties)]
    yield from _freshness("drill", "restore drill", ("job",),
                          [((j.name,), j.configured_at, [d for d in j.duties if d.kind == "drill"]) for j in drilled])  # fmt: skip
    for name, documentation, count in (
        ("runs", "Restore drills begun.", lambda d: d.runs),
        ("failures", "Drills that found a restore that does not work.", lambda d: d.failures),
        ("inconclusive", "Drills that could not tell.", lambda d: d.inconclusive),
    ):
        yield counter(f"keepwatch_drill_{name}_total", documentation, ("job",), _sum_by_job(drilled, ("drill",), count))
    last = [(j.name, j.last_drill) for j in view.jobs if j.last_drill is not None]
    yield gauge("keepwatch_drill_rto_seconds", "Measured time to have everything back, last drill.", ("job",),
                [((name,), drill.rto_seconds) for name, drill in last])  # fmt: skip
    yield gauge("keepwatch_drill_rpo_seconds", "Measured age of the data that came back, last drill.", ("job",),
                [((name,), drill.rpo_seconds) for name, drill in last])  # fmt: skip
    yield gauge("keepwatch_rto_objective_seconds", "How long a restore may take.", ("job",),
                [((j.name,), j.rto_seconds) for j in view.jobs])  # fmt: skip
    yield gauge("keepwatch_rpo_objective_seconds", "How much work may be lost.", ("job",),
                [((j.name,), j.rpo_seconds) for j in view.jobs])  # fmt: skip


def _repositories(view: View) -> Iterator[Metric]:
    labels = ("repository",)

    def rows(value: Callable[[RepositoryView], float | None]) -> list[Row]:
        return [((r.name,), value(r)) for r in view.repositories]

    yield gauge("keepwatch_repository_snapshots", "Snapshots in it.", labels, rows(lambda r: r.snapshots))
    yield gauge("keepwatch_repository_size_bytes", "Space that it takes.", labels, rows(lambda r: r.size_bytes))
    yield gauge("keepwatch_repository_free_bytes", "Space left where it lies.", labels, rows(lambda r: r.free_bytes))
    yield gauge("keepwatch_repository_problem", "1 when something was wrong with it when last looked at.", labels,
                rows(lambda r: float(r.problem is not None)))  # fmt: skip
    for kind, thing in (("verify", "verification"), ("prune", "prune")):
        owners: list[Owner] = [
            ((r.name,), r.configured_at, [d for d in r.duties if d.kind == kind])
            for r in view.repositories
            if any(d.kind == kind for d in r.duties)
        ]
        yield from _freshness(kind, thing, labels, owners)
        yield counter(f"keepwatch_{kind}_runs_total", f"Attempts of {thing}.", labels,
                      [(name, sum(d.runs for d in duties)) for name, _, duties in owners])  # fmt: skip
        yield counter(f"keepwatch_{kind}_failures_total", f"Attempts of {thing} that failed.", labels,
                      [(name, sum(d.failures for d in duties)) for name, _, duties in owners])  # fmt: skip


COLLECTORS: tuple[tuple[str, Build], ...] = (
    ("build", _build_and_config),
    ("checks", _checks),
    ("alerts", _alerts),
    ("notifications", _notifications),
    ("scheduler", _scheduler),
    ("backups", _backups),
    ("drills", _drills),
    ("repositories", _repositories),
)
