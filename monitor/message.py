"""The words of a notification: one alert in full, many as a digest. Plain text that reads well on a phone.

Refuses to decide what is told to whom, and to know any channel's markup.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from config.units import format_duration
from monitor.alerting import Alert
from monitor.result import Status
from monitor.telling import Item, ItemKind

_IN_FULL = 3
"""Up to this many firing alerts are told in full; more become a line each."""
_LINES = 20
"""Lines of a digest; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Message:
    """A notification as text. ``severity`` is the worst that fires in it: WARNING, CRITICAL, or OK for good news."""

    title: str
    body: str
    severity: Status
    items: tuple[Item, ...]


def compose(
    items: Sequence[Item],
    alerts: Mapping[str, Alert],
    runbooks: Mapping[str, str],
    host: str,
    now: datetime,
    zone: tzinfo,
) -> Message:
    """Write the message that tells ``items``. ``runbooks`` by check; moments are written in ``zone``."""
    worst_first = sorted(items, key=lambda item: (item.kind is ItemKind.RESOLVED, -item.severity, item.title))
    bad = [item for item in worst_first if item.kind is not ItemKind.RESOLVED]
    good = [item for item in worst_first if item.kind is ItemKind.RESOLVED]
    page = _Page(alerts, runbooks, host, now, zone)
    if len(bad) > _IN_FULL:
        parts = [*page.lines(bad), "", "all of them: keepwatch alerts"]
    else:
        parts = ["\n\n".join(page.in_full(item) for item in bad)] if bad else []
    if good:
        parts += ["", "over:" if bad else "", *page.lines(good)]
    severity = max((item.severity for item in bad), default=Status.OK)
    return Message(_title(bad, good, host), "\n".join(parts).strip(), severity, tuple(worst_first))


def _title(bad: Sequence[Item], good: Sequence[Item], host: str) -> str:
    if len(bad) == 1:
        [item] = bad
        again = " still" if item.kind is ItemKind.REPEAT else ""
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
    runbooks: Mapping[str, str]
    host: str
    now: datetime
    zone: tzinfo

    def lines(self, items: Sequence[Item]) -> Iterable[str]:
        """A line an item, up to a limit."""
        yield from (self._line(item) for item in items[:_LINES])
        if len(items) > _LINES:
            yield f"and {len(items) - _LINES} more"

    def _line(self, item: Item) -> str:
        alert = self.alerts.get(item.alert_id)
        if item.kind is not ItemKind.RESOLVED:
            return f"{item.severity.label} {item.title}: {alert.message if alert else ''} ({item.alert_id})"
        if alert is None or alert.fired_at is None or alert.resolved_at is None:
            return f"{item.title} is over"
        lasted = format_duration(alert.resolved_at - alert.fired_at)
        why = alert.message if alert.ended_because == "recovered" else alert.ended_because
        return f"{item.title} is over after {lasted}: {why}"

    def in_full(self, item: Item) -> str:
        """Everything about one firing alert."""
        alert = self.alerts[item.alert_id]
        rows = [f"{alert.title} is {alert.severity.label}: {alert.message}"]
        rows.append(f"since {self._moment(alert.since)} ({format_duration(self.now - alert.since)}) on {self.host}")
        if alert.labels:
            rows.append("labels: " + ", ".join(f"{key}={value}" for key, value in sorted(alert.labels.items())))
        if runbook := self.runbooks.get(alert.check):
            rows.append(f"runbook: {runbook}")
        if alert.evidence:
            rows += ["seen when it fired:", *(f"  {line}" for line in alert.evidence)]
        matchers = [f"check={alert.check}"] + [f"entity={alert.entity}"] * bool(alert.entity)
        rows.append(f"acknowledge: keepwatch ack {alert.id}")
        rows.append(f"silence: keepwatch silence {' '.join(shlex.quote(matcher) for matcher in matchers)}")
        return "\n".join(rows)

    def _moment(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S %Z")
