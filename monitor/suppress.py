"""Why a message is not sent now: silences, acknowledgements, dependencies, our own load, start-up grace.

Suppressors hold back new messages about an alert and its repeats. They never stop evaluation, never hide an alert
from the page or the metrics, and never hold back the news that something told earlier is over. Each gives its reason,
and all that apply are shown. Pure functions of values and ``now``.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.alerting import Alert, Policy
from monitor.result import Status

_LINGER = timedelta(minutes=1)
"""How long after a load window the checks have to see that the load is gone."""


class Kind(StrEnum):
    """The kinds of suppressors: the label ``reason`` of ``keepwatch_alerts_suppressed``."""

    SILENCE = "silence"
    ACKNOWLEDGEMENT = "acknowledgement"
    DEPENDENCY = "dependency"
    LOAD_WINDOW = "load_window"
    STARTUP_GRACE = "startup_grace"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One reason why an alert is not told: its kind, and words for people such as ``silence 3 by ann: new disk``."""

    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class LoadWindow:
    """A time in which a job of ours explains load on this host. ``closed_at`` is None while the job runs."""

    reason: str
    """What runs, such as ``backup documents``."""
    opened_at: datetime
    closed_at: datetime | None = None


_MATCHER = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)(.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, wanted: re.fullmatch(wanted, value) is not None,
    "!~": lambda value, wanted: re.fullmatch(wanted, value) is None,
}


@dataclass(frozen=True, slots=True)
class Matcher:
    """``label=value``, ``label!=value``, ``label=~regex`` or ``label!~regex``; the regex must match the whole value.

    A label that an alert does not have counts as the empty text, as in Alertmanager.
    """

    label: str
    op: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Matcher":
        """Read one matcher. Raises ValueError that says what is wrong with it."""
        if not (match := _MATCHER.fullmatch(text)):
            raise ValueError(f"'{text}' is not a matcher; write label=value or label=~regex, such as check='root disk'")
        label, op, value = match.group(1), match.group(2), match.group(3).strip()
        if op.endswith("~"):
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"'{value}' in '{text}' is not a regular expression: {error}") from None
        return cls(label, op, value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the labels are meant."""
        return _COMPARE[self.op](labels.get(self.label, ""), self.value)

    def __str__(self) -> str:
        return f"{self.label}{self.op}{self.value}"


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that all matchers match are not told between the two moments."""

    id: int
    matchers: tuple[Matcher, ...]
    author: str
    comment: str
    starts_at: datetime
    expires_at: datetime

    def is_active(self, now: datetime) -> bool:
        """Tell whether it counts now."""
        return self.starts_at <= now < self.expires_at

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the labels are meant. A silence without matchers would hide everything and matches nothing."""
        return bool(self.matchers) and all(matcher.matches(labels) for matcher in self.matchers)

    def __str__(self) -> str:
        return " ".join(shlex.quote(str(matcher)) for matcher in self.matchers)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A named person has this episode of an alert, at the severity it had. A worse one has to be told again."""

    alert_id: str
    severity: Status
    author: str
    comment: str
    acknowledged_at: datetime
    expires_at: datetime | None = None

    def covers(self, alert: Alert, now: datetime) -> bool:
        """Tell whether it still counts for the alert as it stands."""
        return (
            alert.is_open
            and alert.severity <= self.severity
            and (self.expires_at is None or now < self.expires_at)
            and alert.since <= self.acknowledged_at
        )


def labels_of(alert: Alert, host: str) -> dict[str, str]:
    """Return all labels that a silence can match: the alert's own, and alertname, check, entity, severity, host, id."""
    return {
        **alert.labels, "alertname": alert.name, "check": alert.check, "entity": alert.entity,
        "severity": alert.severity.label, "host": host, "id": alert.id,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suppressors:
    """Everything that can hold a message back at one moment."""

    host: str
    policies: Mapping[str, Policy]
    silences: Sequence[Silence] = ()
    acknowledgements: Mapping[str, Acknowledgement] = field(default_factory=dict)
    """By alert."""
    load_windows: Sequence[LoadWindow] = ()
    grace_until: datetime | None = None
    critical_checks: Collection[str] = ()
    """Checks that fire as critical on fresh data (see ``critical_checks``)."""

    def of(self, alert: Alert, now: datetime) -> tuple[Suppression, ...]:
        """Return every reason why ``alert`` is not told now; none for one that does not fire."""
        if not alert.is_firing:
            return ()
        policy = self.policies.get(alert.check)
        return (
            *self._silences(alert, now),
            *self._acknowledgement(alert, now),
            *self._dependencies(alert),
            *(self._load(now) if policy and policy.waits_for_load and alert.name == policy.name else ()),
            *self._grace(now),
        )

    def _silences(self, alert: Alert, now: datetime) -> Iterable[Suppression]:
        active = [silence for silence in self.silences if silence.is_active(now)]
        labels = labels_of(alert, self.host) if active else {}
        for silence in active:
            if silence.matches(labels):
                yield Suppression(Kind.SILENCE, f"silence {silence.id} by {silence.author}: {silence.comment}")

    def _acknowledgement(self, alert: Alert, now: datetime) -> Iterable[Suppression]:
        acknowledgement = self.acknowledgements.get(alert.id)
        if acknowledgement and acknowledgement.covers(alert, now):
            yield Suppression(
                Kind.ACKNOWLEDGEMENT, f"acknowledged by {acknowledgement.author}: {acknowledgement.comment}"
            )

    def _dependencies(self, alert: Alert) -> Iterable[Suppression]:
        """Yield the critical checks that this one depends on, directly or through others."""
        seen, ahead = {alert.check}, [alert.check]
        while ahead:
            policy = self.policies.get(ahead.pop())
            for parent in policy.depends_on if policy else ():
                if parent not in seen:
                    seen.add(parent)
                    ahead.append(parent)
                    if parent in self.critical_checks:
                        yield Suppression(Kind.DEPENDENCY, f"depends on {parent}, which is critical")

    def _load(self, now: datetime) -> Iterable[Suppression]:
        for window in self.load_windows:
            if window.opened_at <= now and (window.closed_at is None or now < window.closed_at + _LINGER):
                yield Suppression(Kind.LOAD_WINDOW, f"load of our own {window.reason}")

    def _grace(self, now: datetime) -> Iterable[Suppression]:
        if self.grace_until is not None and now < self.grace_until:
            yield Suppression(Kind.STARTUP_GRACE, "the daemon has just started")


def critical_checks(alerts: Iterable[Alert]) -> frozenset[str]:
    """Return the checks whose own alert fires as critical. One whose data is stale is unknown, and mutes nobody."""
    return frozenset(
        alert.check
        for alert in alerts
        if alert.is_firing and alert.severity is Status.CRITICAL and alert.stale_since is None
    )
