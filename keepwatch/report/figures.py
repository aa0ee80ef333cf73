"""The figures of a report, computed from rows of the ledger, of drills and of alerts. Pure; moments are aware UTC.

What was promised and what was measured stand side by side, and what nobody measured is None, never zero.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from backup.catalog import RunRow
from backup.past_drills import PastDrill
from monitor.episodes import Episode
from monitor.result import Status

PERIODS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_SAVES = ("full", "incremental")
_GOOD = ("succeeded", "partial")


@dataclass(frozen=True, slots=True)
class Period:
    """The time that a report is about."""

    name: str
    """``day``, ``week`` or ``month``."""
    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True, slots=True)
class Loss:
    """How much work would have been lost at any moment of the period."""

    worst_seconds: float | None
    """The most that would have been lost at any moment; None when nothing was saved yet."""
    kept_ratio: float | None
    """Share of the time, since there was anything to keep it for, in which it was less than promised."""


@dataclass(frozen=True, slots=True)
class JobFigures:
    """One job against its promises."""

    name: str
    rpo_seconds: float | None
    """What is promised; None for nothing."""
    rto_seconds: float | None
    loss: Loss
    rto_worst_seconds: float | None
    """The longest that a drill of the period took to have everything back."""
    rto_trend: tuple[tuple[datetime, float], ...]
    """Measured by each drill of the period, oldest first."""
    outcomes: Mapping[str, int]
    """Backups of the period, by outcome."""
    drills: Mapping[str, int]
    """Drills of the period, by verdict."""
    kept: bool | None
    """Whether all promises were kept; None when nothing is promised or nothing was measured."""


@dataclass(frozen=True, slots=True)
class AlertFigures:
    """What fired in the period, and how people were with it."""

    episodes: tuple[Episode, ...]
    """Oldest first."""
    acknowledged: int
    to_acknowledge_seconds: float | None
    """Median from firing to the acknowledgement, of those that were."""
    to_resolve_seconds: float | None
    """Median from firing to the end, of those that ended."""
    longest_seconds: float | None

    def count(self, severity: Status) -> int:
        """Return how many came to this severity at worst."""
        return sum(one.severity is severity for one in self.episodes)


@dataclass(frozen=True, slots=True)
class Availability:
    """Share of the period in which a check did not fire."""

    check: str
    entity: str
    not_critical_ratio: float
    in_order_ratio: float
    """Neither critical nor warning."""


@dataclass(frozen=True, slots=True)
class RepositoryFigures:
    """One repository: growth, and how much of it is known to be sound."""

    name: str
    url: str
    size_bytes: int | None
    free_bytes: int | None
    stored_bytes: float
    """Written by backups in the period."""
    freed_bytes: float
    """Given back by prune."""
    growth: tuple[tuple[datetime, float], ...]
    """Stored less freed since the beginning of the period, after each run."""
    verified_at: datetime | None
    verified_ratio: float | None
    """Share of the bytes that was read and found sound, within the promised time or ever."""
    problem: str | None


def loss(runs: Iterable[RunRow], period: Period, promised_seconds: float | None) -> Loss:
    """Follow the age of the newest saved state through the period. ``runs``: one job's, in any order.

    At each moment the loss is the age of the newest data that a good run had stored by then, in any repository; it is
    largest just before a run ends. The run itself counts from its start, when the data was as old as that.
    """
    saved = sorted((run.ended_at, run.data_at or run.started_at) for run in runs if _is_good(run) and run.ended_at)
    before = [data_at for ended_at, data_at in saved if ended_at <= period.since]
    newest = max(before, default=None)
    at = period.since
    worst: float | None = None
    kept = counted = 0.0
    for ended_at, data_at in [*((e, d) for e, d in saved if period.since < e <= period.until), (period.until, None)]:
        if newest is not None:
            age = (ended_at - newest).total_seconds()
            worst = age if worst is None else max(worst, age)
            lasted = (ended_at - at).total_seconds()
            counted += lasted
            if promised_seconds is not None:
                within = (newest + timedelta(seconds=promised_seconds) - at).total_seconds()
                kept += min(lasted, max(0.0, within))
        at = ended_at
        if data_at is not None:
            newest = data_at if newest is None else max(newest, data_at)
    share = kept / counted if counted and promised_seconds is not None else None
    return Loss(worst, share)


def of_job(
    name: str,
    rpo_seconds: float | None,
    rto_seconds: float | None,
    runs: Sequence[RunRow],
    drills: Sequence[PastDrill],
    period: Period,
) -> JobFigures:
    """Compute one job's figures. ``runs`` and ``drills`` may be everybody's, from any time."""
    mine = [run for run in runs if run.job == name and run.kind in _SAVES]
    drilled = [d for d in drills if d.job == name and _within(d.ended_at, period)]
    trend = sorted((d.ended_at, d.rto_seconds) for d in drilled if d.rto_seconds is not None)
    lost, slowest = loss(mine, period, rpo_seconds), max((seconds for _, seconds in trend), default=None)
    verdicts = Counter(d.verdict for d in drilled)
    pairs = ((lost.worst_seconds, rpo_seconds), (slowest, rto_seconds))
    judged = [measured <= promised for measured, promised in pairs if measured is not None and promised is not None]
    judged += [False] * verdicts["FAILED"]
    return JobFigures(
        name, rpo_seconds, rto_seconds, lost, slowest, tuple(trend),
        Counter(run.outcome for run in mine if _within(run.ended_at, period)), verdicts,
        all(judged) if judged else None,
    )  # fmt: skip


def of_alerts(episodes: Sequence[Episode], period: Period) -> AlertFigures:
    """Compute how alerts went, of those that fired within the period."""
    fired = tuple(one for one in episodes if _within(one.fired_at, period))
    waits = [(e.acknowledged_at - e.fired_at).total_seconds() for e in fired if e.acknowledged_at]
    lasted = [((e.resolved_at or period.until) - e.fired_at).total_seconds() for e in fired]
    ended = [(e.resolved_at - e.fired_at).total_seconds() for e in fired if e.resolved_at]
    return AlertFigures(
        fired, len(waits), median(waits) if waits else None, median(ended) if ended else None,
        max(lasted, default=None),
    )  # fmt: skip


def availability(
    known: Iterable[tuple[str, str]], episodes: Sequence[Episode], period: Period
) -> list[Availability]:
    """Return the share of the period in which each check and entity was in order, the worst first.

    ``known``: what is checked now, so that what never fired is told, too. Alerts of one check and entity that overlap
    (the check's own and that it has no data) count once each, and no more than the whole.
    """
    bad: dict[tuple[str, str], list[float]] = {key: [0.0, 0.0] for key in known}
    for one in episodes:
        sums = bad.setdefault((one.check, one.entity), [0.0, 0.0])
        for span in one.spans:
            seconds = span.seconds_within(period.since, period.until)
            sums[0] += seconds if span.severity is Status.CRITICAL else 0.0
            sums[1] += seconds
    whole = period.seconds
    found = [
        Availability(check, entity, max(0.0, 1 - critical / whole), max(0.0, 1 - any_ / whole))
        for (check, entity), (critical, any_) in bad.items()
    ]
    return sorted(found, key=lambda a: (a.not_critical_ratio, a.in_order_ratio, a.check, a.entity))


def growth(runs: Iterable[RunRow], repository: str, period: Period) -> tuple[tuple[datetime, float], ...]:
    """Return how much more a repository held than at the beginning of the period, after each of its runs."""
    total, points = 0.0, [(period.since, 0.0)]
    mine = [run for run in runs if run.repository == repository and run.ended_at and _within(run.ended_at, period)]
    for run in sorted(mine, key=lambda run: run.ended_at or period.since):
        change = run.figures.get("bytes_stored", 0.0) - run.figures.get("bytes_freed", 0.0)
        if change and run.ended_at:
            total += change
            points.append((run.ended_at, total))
    return (*points, (period.until, total))


def figure_sum(runs: Iterable[RunRow], repository: str, figure: str, period: Period) -> float:
    """Add one figure of a repository's runs in the period up."""
    return sum(
        run.figures.get(figure, 0.0) for run in runs if run.repository == repository and _within(run.ended_at, period)
    )


def _is_good(run: RunRow) -> bool:
    return run.outcome in _GOOD and run.kind in _SAVES


def _within(moment: datetime | None, period: Period) -> bool:
    return moment is not None and period.since < moment <= period.until
