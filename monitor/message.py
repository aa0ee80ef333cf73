"""The words of a notification: one alert in full, many as a digest. Plain text that reads well on a phone.

Refuses to decide what is told to whom, and to know any channel's markup.
"""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from config.units import format_duration
from monitor.alerting import Alert
from monitor.result import Status
from monitor.telling import Item, ItemKind

_IN_FULL = 3
"""Up to this many firing alerts are told in full; more become a line each."""
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_LENGTH = 40
_LINES = 20
"""Lines of a digest; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Message:
    """A notification as text. ``severity`` is the worst that fires in it: WARNING, CRITICAL, or OK for good news."""

    title: str
    body: str
    severity: Status
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a message can tell besides the alert itself. Moments are written in ``zone``."""

    host: str
    zone: tzinfo
    runbooks: Mapping[str, str] = field(default_factory=dict)
    """By check."""
    dependants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Check -> the checks that depend on it."""
    plan: Callable[[str, str], str | None] = lambda _check, _entity: None
    trend: Callable[[str, str], Sequence[float]] = lambda _check, _entity: ()
    outlook: Callable[[str, str], str | None] = lambda _check, _entity: None


def compose(items: Sequence[Item], alerts: Mapping[str, Alert], facts: Facts, now: datetime) -> Message:
    """Write the message that tells ``items``; ``alerts`` by id."""
    worst_first = sorted(items, key=lambda item: (item.kind is ItemKind.RESOLVED, -item.severity, item.title))
    bad = [item for item in worst_first if item.kind is not ItemKind.RESOLVED]
    good = [item for item in worst_first if item.kind is ItemKind.RESOLVED]
    page = _Page(alerts, facts, now)
    if len(bad) > _IN_FULL:
        parts = [*page.lines(bad), "", "all of them: keepwatch alerts"]
    else:
        parts = ["\n\n".join(page.in_full(item) for item in bad)] if bad else []
    if good:
        parts += ["", "over:" if bad else "", *page.lines(good)]
    severity = max((item.severity for item in bad), default=Status.OK)
    return Message(_title(bad, good, facts.host), "\n".join(parts).strip(), severity, tuple(worst_first))


def _title(bad: Sequence[Item], good: Sequence[Item], host: str) -> str:
    if len(bad) == 1:
        [item] = bad
        again = {ItemKind.REPEAT: " still", ItemKind.FLAPPING: " flapping"}.get(item.kind, "")
        rest = f", {len(good)} over" if good else ""
        return f"[{item.severity.label.upper()}] {host}:{again} {item.title}{rest}"
    if not bad:
        return f"[RESOLVED] {host}: {good[0].title}" if len(good) == 1 else f"[RESOLVED] {host}: {len(good)} alerts"
    critical = sum(item.severity is Status.CRITICAL for item in bad)
    counts = [f"{critical} critical"] * bool(critical) + [f"{len(bad) - critical} warning"] * (critical < len(bad))
    over = [f"{len(good)} over"] * bool(good)
    worst = Status.CRITICAL if critical else Status.WARNING
    return f"[{worst.label.upper()}] {host}: {', '.join(counts + over)}"


@dataclass(frozen=True, slots=True)
class _Page:
    """What all lines of one message have in common."""

    alerts: Mapping[str, Alert]
    facts: Facts
    now: datetime

    def lines(self, items: Sequence[Item]) -> Iterable[str]:
        """A line an item, up to a limit."""
        yield from (self._line(item) for item in items[:_LINES])
        if len(items) > _LINES:
            yield f"and {len(items) - _LINES} more"

    def _line(self, item: Item) -> str:
        alert = self.alerts.get(item.alert_id)
        if item.kind is not ItemKind.RESOLVED:
            mark = f" ({item.mark})" if item.mark else ""
            return f"{item.severity.label} {item.title}{mark}: {alert.message if alert else ''} ({item.alert_id})"
        if alert is None or alert.fired_at is None or alert.resolved_at is None:
            return f"{item.title} is over"
        lasted = format_duration(alert.resolved_at - alert.fired_at)
        why = alert.message if alert.ended_because == "recovered" else alert.ended_because
        return f"{item.title} is over after {lasted}: {why}"

    def in_full(self, item: Item) -> str:
        """Everything about one firing alert."""
        alert = self.alerts[item.alert_id]
        rows = [f"{alert.title} is {item.severity.label}: {alert.message}"]
        if item.kind is ItemKind.FLAPPING:
            rows[0] = f"{alert.title} is flapping ({item.severity.label} at times): {alert.message}"
            rows.append("it comes and goes; the next message says how that ended")
        elif item.mark:
            rows.append(f"it is {item.mark}")
        facts = self.facts
        rows.append(f"since {self._moment(alert.since)} ({format_duration(self.now - alert.since)}) on {facts.host}")
        if line := sparkline(facts.trend(alert.check, alert.entity)):
            rows.append(f"lately: {line}")
        if outlook := facts.outlook(alert.check, alert.entity):
            rows.append(f"outlook: {outlook}")
        if alert.labels:
            rows.append("labels: " + ", ".join(f"{key}={value}" for key, value in sorted(alert.labels.items())))
        if dependants := facts.dependants.get(alert.check):
            rows.append(f"what depends on it: {_some(dependants)}")
        if runbook := facts.runbooks.get(alert.check):
            rows.append(f"runbook: {runbook}")
        if plan := facts.plan(alert.check, alert.entity):
            rows.append(f"emergency plan: {plan}")
        if alert.evidence:
            rows += ["seen when it fired:", *(f"  {line}" for line in alert.evidence)]
        matchers = [f"check={alert.check}"] + [f"entity={alert.entity}"] * bool(alert.entity)
        rows.append(f"acknowledge: keepwatch ack {alert.id}")
        rows.append(f"silence: keepwatch silence {' '.join(shlex.quote(matcher) for matcher in matchers)}")
        rows.append(f"why: keepwatch why {alert.id}")
        return "\n".join(rows)

    def _moment(self, moment: datetime) -> str:
        return moment.astimezone(self.facts.zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def sparkline(values: Sequence[float]) -> str:
    """Draw recent values, oldest first, in a line of text; empty when there are fewer than two that are finite."""
    finite = [value for value in values if math.isfinite(value)][-_SPARK_LENGTH:]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    step = (high - low) / (len(_SPARKS) - 1) or 1.0
    return "".join(_SPARKS[round((value - low) / step)] for value in finite)


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
