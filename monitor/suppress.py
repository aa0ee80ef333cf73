"""Why a message is not sent now: silences, maintenance, acknowledgements, dependencies, our own load, start-up grace.

Suppressors hold back new messages about an alert and its repeats. They never stop evaluation, never hide an alert
from the page or the metrics, and never hold back the news that something told earlier is over. Each gives its reason,
and all that apply are shown. Pure functions of values and ``now``. What holds one channel back and not the others
(quiet hours, its rate) is decided in monitor/telling.py.
"""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from config.said import Said
from monitor.alerting import Alert, Policy
from monitor.flapping import share
from monitor.maintenance import Maintenance
from monitor.matching import Matcher, labels_of
from monitor.result import Status

_LINGER = timedelta(minutes=1)
"""How long after a load window the checks have to see that the load is gone."""
_LONGEST_LOOK = timedelta(seconds=15)
"""How long an alert waits for a look at what it depends on."""


class Kind(StrEnum):
    """The kinds of suppressors: the label ``reason`` of ``keepwatch_alerts_suppressed``."""

    SILENCE = "silence"
    MAINTENANCE = "maintenance"
    ACKNOWLEDGEMENT = "acknowledgement"
    BASELINE = "baseline"
    """Acknowledged up to a value that it has not passed."""
    DEPENDENCY = "dependency"
    FLAPPING = "flapping"
    """Not held back as a whole: one message says so, the next one how it ended."""
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

    def shifted(self, by: timedelta) -> "LoadWindow":
        """Return it as the clock tells it that was set by so much."""
        return LoadWindow(self.reason, self.opened_at + by, self.closed_at + by if self.closed_at else None)


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
    """A named person has this episode of an alert, at the severity it had. A worse one has to be told again. It is
    cleared together with the end of its episode (monitor/store.py), so no moments have to be compared.

    With a ``baseline``, what stands there is known and accepted ("8 reallocated sectors"): in this and all later
    episodes the alert is told only when ``reading`` gets worse than that.
    """

    alert_id: str
    severity: Status
    author: str
    comment: str
    acknowledged_at: datetime
    expires_at: datetime | None = None
    reading: str = ""
    baseline: float | None = None

    def covers(self, alert: Alert, now: datetime, bad_below: Collection[str] = ()) -> bool:
        """Tell whether it still counts for the alert as it stands. ``bad_below``: readings that are bad when they
        fall.
        """
        if not alert.is_live or (self.expires_at is not None and now >= self.expires_at):
            return False
        if self.baseline is not None:
            return not self.is_passed_by(alert, bad_below)
        return alert.severity <= self.severity

    def is_passed_by(self, alert: Alert, bad_below: Collection[str] = ()) -> bool:
        """Tell whether the alert is about another reading, or is worse than the accepted value. Without one: no."""
        if self.baseline is None:
            return False
        if alert.value is None or alert.reading != self.reading:
            return True
        falls = alert.reading in bad_below
        return alert.value < self.baseline if falls else alert.value > self.baseline


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
    maintenance: Sequence[Maintenance] = ()
    ran_at: Mapping[str, datetime] = field(default_factory=dict)
    """When each check that others depend on last had results, as far as known."""
    _causes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Check -> what explains that it cannot be reached, as found so far."""

    def active(self, now: datetime) -> "Suppressors":
        """Return the same without what does not count now, for asking about many alerts."""
        return Suppressors(
            self.host, self.policies, [s for s in self.silences if s.is_active(now)], self.acknowledgements,
            self.load_windows, self.grace_until, self.critical_checks,
            [m for m in self.maintenance if m.is_open(now)], self.ran_at,
        )  # fmt: skip

    def of(self, alert: Alert, now: datetime) -> tuple[Suppression, ...]:
        """Return every reason why ``alert`` is not told now; none for one that neither fires nor flaps."""
        if not alert.is_firing and not alert.flapping:
            return ()
        policy = self.policies.get(alert.check)
        return (
            *(self._matching(alert, now) if self.silences or self.maintenance else ()),
            *(self._acknowledgement(alert, policy, now) if alert.id in self.acknowledgements else ()),
            *(self._dependencies(alert, policy, now) if policy and policy.depends_on else ()),
            *(self._flapping(alert) if alert.flapping else ()),
            *(self._load(now) if policy and policy.waits_for_load and alert.name == policy.name else ()),
            *self._grace(now),
        )

    def _matching(self, alert: Alert, now: datetime) -> Iterator[Suppression]:
        labels = labels_of(alert, self.host)
        for silence in self.silences:
            if silence.is_active(now) and silence.matches(labels):
                who, why = silence.author, silence.comment
                reason = Said("silence %(id)s by %(who)s: %(why)s", id=silence.id, who=who, why=why)
                yield Suppression(Kind.SILENCE, reason)
        for window in self.maintenance:
            if window.matches(labels) and window.is_open(now):
                yield Suppression(Kind.MAINTENANCE, Said("maintenance %(name)s", name=window.name))

    def _acknowledgement(self, alert: Alert, policy: Policy | None, now: datetime) -> Iterator[Suppression]:
        given = self.acknowledgements[alert.id]
        if not given.covers(alert, now, policy.bad_below if policy else ()):
            return
        if given.baseline is None:
            reason = Said("acknowledged by %(who)s: %(why)s", who=given.author, why=given.comment)
            yield Suppression(Kind.ACKNOWLEDGEMENT, reason)
        else:
            reason = Said(
                "%(reading)s accepted by %(who)s up to %(value)s: %(why)s", reading=given.reading, who=given.author,
                value=f"{given.baseline:g}", why=given.comment,
            )  # fmt: skip
            yield Suppression(Kind.BASELINE, reason)

    def _dependencies(self, alert: Alert, policy: Policy, now: datetime) -> Iterator[Suppression]:
        """Yield the critical checks that this one depends on, directly or through others; or those to look at first."""
        for cause in self._causes_of(alert.check, frozenset()):
            yield Suppression(Kind.DEPENDENCY, Said("depends on %(check)s, which is critical", check=cause))
        if alert.fired_at is None or not timedelta(0) <= now - alert.fired_at < _LONGEST_LOOK:
            return
        for parent in parents_of(policy):
            ran_at = self.ran_at.get(parent)
            if ran_at is not None and ran_at < alert.since:
                reason = Said("waits for a look at %(check)s, which it depends on", check=parent)
                yield Suppression(Kind.DEPENDENCY, reason)

    def _causes_of(self, check: str, below: frozenset[str]) -> tuple[str, ...]:
        """Return the critical checks that explain why ``check`` cannot be well. A redundancy group explains it when
        each of its checks is critical or explained itself. ``below``: checks under way, so that a circle ends.
        """
        if (known := self._causes.get(check)) is not None:
            return known
        policy = self.policies.get(check)
        found: list[str] = []
        for parent in policy.depends_on if policy else ():
            group = (parent,) if isinstance(parent, str) else parent
            causes = [self._down(one, below | {check}) for one in group]
            if all(causes):
                found += [cause for one in causes for cause in one]
        unique = tuple(dict.fromkeys(found))
        if not below:  # what was found inside a circle is not the whole answer
            self._causes[check] = unique
        return unique

    def _down(self, check: str, below: frozenset[str]) -> tuple[str, ...]:
        if check in below:
            return ()
        own = (check,) if check in self.critical_checks else ()
        return own + self._causes_of(check, below)

    def _flapping(self, alert: Alert) -> Iterator[Suppression]:
        changed = f"{share(alert.flips):.0%}"
        yield Suppression(Kind.FLAPPING, Said("flapping: %(share)s of its last results changed it", share=changed))

    def _load(self, now: datetime) -> Iterable[Suppression]:
        for window in self.load_windows:
            if window.opened_at <= now and (window.closed_at is None or now < window.closed_at + _LINGER):
                yield Suppression(Kind.LOAD_WINDOW, Said("load of our own %(run)s", run=window.reason))

    def _grace(self, now: datetime) -> Iterable[Suppression]:
        if self.grace_until is not None and now < self.grace_until:
            yield Suppression(Kind.STARTUP_GRACE, Said("the daemon has just started"))


def parents_of(policy: Policy) -> Iterator[str]:
    """Yield every check that one depends on, those of redundancy groups included."""
    for parent in policy.depends_on:
        yield from (parent,) if isinstance(parent, str) else parent


def critical_checks(alerts: Iterable[Alert]) -> frozenset[str]:
    """Return the checks whose own alert fires as critical. One whose data is stale is unknown, and mutes nobody."""
    return frozenset(
        alert.check
        for alert in alerts
        if alert.is_firing and alert.severity is Status.CRITICAL and alert.stale_since is None
    )
