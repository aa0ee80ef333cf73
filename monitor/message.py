"""The words of a notification: one alert in full, many as a digest. Plain text that reads well on a phone.

Here is where an alert is put into the language of its readers. Refuses to decide what is told to whom, and to know any
channel's markup.
"""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from config.said import Said, Say, listed
from config.units import format_duration
from monitor.alerting import RECOVERED, Alert
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
    say: Say = Said
    """Puts texts into the language of the message."""


def compose(items: Sequence[Item], alerts: Mapping[str, Alert], facts: Facts, now: datetime) -> Message:
    """Write the message that tells ``items``; ``alerts`` by id."""
    _ = facts.say
    worst_first = sorted(items, key=lambda item: (item.kind is ItemKind.RESOLVED, -item.severity, item.title))
    bad = [item for item in worst_first if item.kind is not ItemKind.RESOLVED]
    good = [item for item in worst_first if item.kind is ItemKind.RESOLVED]
    page = _Page(alerts, facts, now)
    if len(bad) > _IN_FULL:
        parts = [*page.lines(bad), "", _("all of them: %(command)s", command="keepwatch alerts")]
    else:
        parts = ["\n\n".join(page.in_full(item) for item in bad)] if bad else []
    if good:
        parts += ["", _("over:") if bad else "", *page.lines(good)]
    severity = max((item.severity for item in bad), default=Status.OK)
    return Message(_title(bad, good, facts.host, _), "\n".join(parts).strip(), severity, tuple(worst_first))


def _title(bad: Sequence[Item], good: Sequence[Item], host: str, _: Say) -> str:
    if len(bad) == 1:
        [item] = bad
        again = {
            ItemKind.REPEAT: Said("still %(alert)s", alert=item.title),
            ItemKind.FLAPPING: Said("flapping %(alert)s", alert=item.title),
        }
        about = [again.get(item.kind, item.title)]
    elif not bad:
        about = [good[0].title if len(good) == 1 else Said("%(count)s alerts", count=len(good))]
    else:
        critical = sum(item.severity is Status.CRITICAL for item in bad)
        counted = ((critical, "%(count)s critical"), (len(bad) - critical, "%(count)s warning"))
        about = [Said(text, count=count) for count, text in counted if count]
    if bad and good:
        about.append(Said("%(count)s over", count=len(good)))
    worst = max((item.severity for item in bad), default=Status.OK)
    mark = _(worst.label if bad else "resolved").upper()
    return f"[{mark}] {host}: {_(listed(about))}"


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
            yield self.facts.say("and %(count)s more", count=len(items) - _LINES)

    def _line(self, item: Item) -> str:
        _ = self.facts.say
        alert = self.alerts.get(item.alert_id)
        if item.kind is not ItemKind.RESOLVED:
            title = Said("%(alert)s (%(mark)s)", alert=item.title, mark=Said(item.mark)) if item.mark else item.title
            return _(
                "%(severity)s %(alert)s: %(why)s (%(id)s)", severity=Said(item.severity.label), alert=title,
                why=alert.message if alert else "", id=item.alert_id,
            )  # fmt: skip
        if alert is None or alert.fired_at is None or alert.resolved_at is None:
            return _("%(alert)s is over", alert=item.title)
        lasted = format_duration(alert.resolved_at - alert.fired_at)
        why = alert.message if alert.ended_because == RECOVERED else Said(alert.ended_because)
        return _("%(alert)s is over after %(time)s: %(why)s", alert=item.title, time=lasted, why=why)

    def in_full(self, item: Item) -> str:
        """Everything about one firing alert."""
        _, facts = self.facts.say, self.facts
        alert = self.alerts[item.alert_id]
        about = {"alert": alert.title, "severity": Said(item.severity.label), "why": alert.message}
        if item.kind is ItemKind.FLAPPING:
            rows = [_("%(alert)s is flapping (%(severity)s at times): %(why)s", **about)]
            rows.append(_("it comes and goes; the next message says how that ended"))
        else:
            rows = [_("%(alert)s is %(severity)s: %(why)s", **about)]
            if item.mark:
                rows.append(_("it is %(mark)s", mark=item.mark))
        lasting = format_duration(self.now - alert.since)
        since = self._moment(alert.since)
        rows.append(_("since %(when)s (%(time)s) on %(host)s", when=since, time=lasting, host=facts.host))
        if line := sparkline(facts.trend(alert.check, alert.entity)):
            rows.append(_("lately: %(trend)s", trend=line))
        if outlook := facts.outlook(alert.check, alert.entity):
            rows.append(_("outlook: %(when)s", when=outlook))
        if alert.labels:
            labels = ", ".join(f"{key}={value}" for key, value in sorted(alert.labels.items()))
            rows.append(_("labels: %(labels)s", labels=labels))
        if dependants := facts.dependants.get(alert.check):
            rows.append(_("what depends on it: %(names)s", names=_some(dependants)))
        if runbook := facts.runbooks.get(alert.check):
            rows.append(_("runbook: %(runbook)s", runbook=runbook))
        if plan := facts.plan(alert.check, alert.entity):
            rows.append(_("emergency plan: %(plan)s", plan=plan))
        if alert.evidence:
            rows += [_("seen when it fired:"), *(f"  {line}" for line in alert.evidence)]
        matchers = [f"check={alert.check}"] + [f"entity={alert.entity}"] * bool(alert.entity)
        silence = f"keepwatch silence {' '.join(shlex.quote(matcher) for matcher in matchers)}"
        rows.append(_("acknowledge: %(command)s", command=f"keepwatch ack {alert.id}"))
        rows.append(_("silence: %(command)s", command=silence))
        rows.append(_("why: %(command)s", command=f"keepwatch why {alert.id}"))
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
    told = ", ".join(names[:most])
    return Said("%(names)s and %(count)s more", names=told, count=len(names) - most) if len(names) > most else told
