"""The life of an alert as a function of values: ok -> pending -> firing -> recovering -> resolved.

``advance`` takes the alert so far, one result and the policy of its check, and returns the next alert and at most one
transition. Nothing here reads a clock, keeps state, or knows of messages: silences, acknowledgements and channels
decide what is told (monitor/suppress.py, monitor/telling.py), never what is true. Whether a reading is past its
threshold, sticky bound included, was judged before, by the check runner.

The rules, all in this module:

- A level fires when its status has lasted its ``for`` and ``min_samples`` of the last ``of_samples`` results, whichever
  is later. Critical implies warning; each level has its own streak. A streak is broken by so many results on the good
  side that ``min_samples`` of ``of_samples`` cannot hold any more: by one, where all of them have to be bad.
- A firing alert needs ``keep_firing_for`` of clear results without a break, and as many of them as break a streak; a
  breach before that returns to firing.
- Warning becomes critical after critical's own ``for``; critical becomes warning at once.
- UNKNOWN neither resolves nor confirms: a firing alert stays and says since when its data is stale. Three of them in
  a row make an alert of their own, ``CheckNoData``, which is this same state machine fed by ``no_data_result``.
- ABSENT begins nothing; it ends the alert of a discovered entity as gone, never that of a configured one.
- A gap without judged results (restart, long silence of the probe) of up to an hour keeps ``since``; after a longer
  one a pending alert starts again, and so does the wait for recovery.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from config.said import Said
from monitor.result import Result, Status

NO_DATA = "CheckNoData"
"""Name of the alert that says a check cannot be judged."""
RECOVERED = "recovered"
"""Why an alert ended that a good result ended; all other reasons end its flapping, too."""
_NO_DATA_SAMPLES = 3
_LONGEST_GAP = timedelta(hours=1)


class State(StrEnum):
    """Where an alert stands. One that was never raised, or whose pending ended, is no alert at all."""

    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"
    """Still firing to everyone, but clear; resolves after ``keep_firing_for``."""
    RESOLVED = "resolved"


class Change(StrEnum):
    """What a transition did."""

    PENDING = "pending"
    CLEARED = "cleared"
    """Pending ended without firing."""
    FIRED = "fired"
    WORSENED = "worsened"
    """Warning to critical."""
    EASED = "eased"
    """Critical to warning."""
    STALE = "stale"
    """Firing, but the probe no longer says anything."""
    RECOVERING = "recovering"
    RETURNED = "returned"
    """Recovering, and bad again."""
    FLAPPING = "flapping"
    """Firing and ending too often to tell each time."""
    STEADY = "steady"
    """No longer flapping."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class ActionPolicy:
    """A command to run when the alert fires as critical, at most ``limit`` times a ``period``."""

    run: str
    limit: int
    period: timedelta
    cooldown: timedelta = timedelta(0)
    """How long after one run ended the next may begin."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How one check's results become an alert. ``name`` is the alert's name, ``check`` the check's."""

    name: str
    check: str
    every: timedelta
    """The check's interval; tells a gap from a slow rhythm."""
    warning_for: timedelta = timedelta(0)
    critical_for: timedelta = timedelta(0)
    keep_firing_for: timedelta = timedelta(0)
    min_samples: int = 1
    of_samples: int = 1
    """The window in which ``min_samples`` must be bad; as many as those, and they must be bad in a row."""
    configured: frozenset[str] = frozenset({""})
    """Entities that the operator named (``""``: the check is one thing). If they vanish, somebody must know."""
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook: str | None = None
    depends_on: tuple[str | tuple[str, ...], ...] = ()
    """Names of checks whose critical alert mutes messages about this one; a tuple among them is a redundancy group,
    which is down only when all of it is.
    """
    bad_below: frozenset[str] = frozenset()
    """Readings that are bad when they fall (``""`` for the main one); all others are when they rise."""
    waits_for_load: bool = False
    """Whether our own backup or drill explains it: CPU, load, disk activity, network traffic."""
    on_critical: ActionPolicy | None = None

    @property
    def breaking_samples(self) -> int:
        """How many results on the good side in a row break a streak."""
        return max(self.of_samples - self.min_samples, 0) + 1

    @property
    def longest_gap(self) -> timedelta:
        """Time between judged results above which a streak is broken."""
        return max(_LONGEST_GAP, 3 * self.every)


@dataclass(frozen=True, slots=True)
class Streak:
    """Bad results, at one level or above: when the first was, how many of the last ones, and how many good ones
    since.
    """

    since: datetime
    samples: int
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. ``severity`` is WARNING or CRITICAL: what it fires as, or, while pending, what the last result was."""

    id: str
    """Stable over episodes and restarts: a hash of name, check and entity."""
    name: str
    check: str
    entity: str
    state: State
    severity: Status
    since: datetime
    """Start of the breach."""
    message: str
    """The last judged result's line for people: value and bound; says so when it is stale."""
    judged_at: datetime
    """Last result that was not UNKNOWN."""
    changed_at: datetime
    """Last change that somebody may have to be told of: fired, worsened, resolved."""
    labels: Mapping[str, str] = field(default_factory=dict)
    warning: Streak | None = None
    critical: Streak | None = None
    clear_since: datetime | None = None
    clear_samples: int = 0
    """Good results in a row since then."""
    stale_since: datetime | None = None
    fired_at: datetime | None = None
    """Start of the latest episode of firing."""
    resolved_at: datetime | None = None
    """End of the latest episode of firing."""
    ended_because: str = ""
    evidence: tuple[str, ...] = ()
    """What was seen when it fired, a line each, such as the top processes."""
    recent: str = ""
    """The last judged statuses, a digit each, newest last, as far as the window of ``of_samples`` reaches."""
    reading: str = ""
    value: float | None = None
    """The reading that is bad (the main one when none is known to be), and what it was when last judged."""
    flips: int = 0
    flapping: bool = False
    """Bits of the last results that changed the alert, and what they amount to (see monitor/flapping.py)."""

    @property
    def is_open(self) -> bool:
        """Pending, firing or recovering."""
        return self.state is not State.RESOLVED

    @property
    def is_live(self) -> bool:
        """Whether good results still matter to it."""
        return self.is_open or self.flips != 0

    @property
    def is_firing(self) -> bool:
        """Firing to the outside; recovering counts."""
        return self.state in (State.FIRING, State.RECOVERING)

    @property
    def title(self) -> str:
        """Name for people: the alert's, the check's when that differs, the entity."""
        parts = [self.name] if self.name == self.check else [self.name, self.check]
        return " / ".join([*parts, self.entity] if self.entity else parts)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of one alert, as it goes to the log. ``alert`` is how it stands afterwards."""

    at: datetime
    change: Change
    alert: Alert
    reason: str


Step = tuple[Alert | None, Transition | None]
"""The alert afterwards (None is ok, without a past), and what changed."""


def alert_id(name: str, check: str, entity: str) -> str:
    """Return the identity of an alert: ten hexadecimal digits that an operator can type."""
    return hashlib.sha256(f"{name}\0{check}\0{entity}".encode()).hexdigest()[:10]


def advance(alert: Alert | None, result: Result, policy: Policy, now: datetime) -> Step:
    """Return what ``alert`` becomes by ``result``, and the transition if that is one. None is ok, without a past."""
    standing = alert if alert is not None and alert.is_open else None
    if result.status in (Status.UNKNOWN, Status.ABSENT):
        if standing is None:
            return alert, None
        if result.status is Status.UNKNOWN or (standing.is_firing and standing.entity in policy.configured):
            return _stale(standing, result, now)
        return close(standing, now, "gone")
    broken = standing is not None and now - standing.judged_at > policy.longest_gap
    if result.status is Status.OK:
        return (alert, None) if standing is None else _clear(standing, result, policy, now, broken)
    if standing is not None and standing.is_firing:
        return _still_bad(standing, result, policy, now, broken)
    return _bad(alert, result, policy, now, broken)


def close(alert: Alert, now: datetime, because: str) -> Step:
    """End an alert for a reason other than a good result: ``gone``, ``no longer configured``. Ended ones stay ended."""
    if alert.state is State.RESOLVED:
        return (replace(alert, flips=0, flapping=False) if alert.flips else alert), None
    if alert.state is State.PENDING:
        return _drop(alert, now, because)
    ended = replace(
        alert, state=State.RESOLVED, warning=None, critical=None, clear_since=None, clear_samples=0, stale_since=None,
        resolved_at=now, changed_at=now, ended_because=because, recent="",
        flips=alert.flips if because == RECOVERED else 0, flapping=alert.flapping and because == RECOVERED,
    )  # fmt: skip
    return ended, Transition(now, Change.RESOLVED, ended, because)


def no_data_policy(policy: Policy) -> Policy:
    """The policy under which a check's UNKNOWN results become ``CheckNoData``: three in a row, then a warning."""
    return replace(
        policy, name=NO_DATA, warning_for=timedelta(0), critical_for=timedelta(0), keep_firing_for=timedelta(0),
        min_samples=_NO_DATA_SAMPLES, of_samples=_NO_DATA_SAMPLES, configured=frozenset(), on_critical=None,
        waits_for_load=False,
    )  # fmt: skip


def no_data_result(result: Result) -> Result:
    """The result as ``CheckNoData`` sees it: bad when UNKNOWN, otherwise good."""
    if result.status is Status.UNKNOWN:
        message = Said("cannot be judged: %(reason)s", reason=result.message)
        return replace(result, status=Status.WARNING, message=message)
    return replace(result, status=Status.OK)


def shifted(alert: Alert, by: timedelta) -> Alert:
    """Return an alert as if all of it had happened ``by`` later: what is due after the wall clock was set.

    What lasted one minute before the clock jumped an hour has lasted one minute after it.
    """
    return _moved(alert, lambda moment: moment + by)


def clipped(alert: Alert, now: datetime) -> Alert:
    """Return an alert of which nothing lies in the future: a clock that was set while nobody looked may leave that."""
    return alert if alert.judged_at <= now else _moved(alert, lambda moment: min(moment, now))


def _moved(alert: Alert, move: Callable[[datetime], datetime]) -> Alert:
    def moment(known: datetime | None) -> datetime | None:
        return None if known is None else move(known)

    def streak(known: Streak | None) -> Streak | None:
        return None if known is None else replace(known, since=move(known.since))

    return replace(
        alert, since=move(alert.since), judged_at=move(alert.judged_at), changed_at=move(alert.changed_at),
        warning=streak(alert.warning), critical=streak(alert.critical), clear_since=moment(alert.clear_since),
        stale_since=moment(alert.stale_since), fired_at=moment(alert.fired_at), resolved_at=moment(alert.resolved_at),
    )  # fmt: skip


def _bad(alert: Alert | None, result: Result, policy: Policy, now: datetime, broken: bool) -> Step:
    """A bad result of something that does not fire yet."""
    pending = alert if alert is not None and alert.state is State.PENDING else None
    earlier = None if broken else pending
    recent = _remember(earlier, result, policy)
    warning = _lengthen(earlier.warning if earlier else None, recent, result, Status.WARNING, policy)
    critical = _lengthen(earlier.critical if earlier else None, recent, result, Status.CRITICAL, policy)
    assert warning is not None
    reading, value = _told_reading(result)
    begun = Alert(
        id=alert.id if alert else alert_id(policy.name, result.check, result.entity), name=policy.name,
        check=result.check, entity=result.entity, state=State.PENDING, severity=result.status, since=warning.since,
        message=result.message, judged_at=now, changed_at=alert.changed_at if alert else now,
        labels={**policy.labels, **result.labels}, warning=warning, critical=critical,
        fired_at=alert.fired_at if alert else None, resolved_at=alert.resolved_at if alert else None,
        ended_because=alert.ended_because if alert else "", recent=recent, reading=reading, value=value,
        flips=alert.flips if alert else 0, flapping=alert.flapping if alert else False,
    )  # fmt: skip
    return _fire_if_ripe(begun, policy, now, fresh=pending is None)


def _fire_if_ripe(begun: Alert, policy: Policy, now: datetime, *, fresh: bool) -> Step:
    severity = Status.WARNING
    if _is_ripe(begun.critical, policy.critical_for, policy, now):
        severity = Status.CRITICAL
    elif not _is_ripe(begun.warning, policy.warning_for, policy, now):
        return begun, Transition(now, Change.PENDING, begun, begun.message) if fresh else None
    fired = replace(
        begun, state=State.FIRING, severity=severity, fired_at=now, changed_at=now, resolved_at=None, ended_because=""
    )
    return fired, Transition(now, Change.FIRED, fired, begun.message)


def _still_bad(alert: Alert, result: Result, policy: Policy, now: datetime, broken: bool) -> Step:
    """A bad result of something that fires or recovers."""
    recent = _remember(None if broken else alert, result, policy)
    warning = _lengthen(None if broken else alert.warning, recent, result, Status.WARNING, policy)
    critical = _lengthen(None if broken else alert.critical, recent, result, Status.CRITICAL, policy)
    stays_critical = critical is not None and alert.severity is Status.CRITICAL
    ripe = stays_critical or _is_ripe(critical, policy.critical_for, policy, now)
    severity = Status.CRITICAL if ripe else Status.WARNING
    change = None
    if severity > alert.severity:
        change = Change.WORSENED
    elif alert.state is State.RECOVERING:
        change = Change.RETURNED
    elif severity < alert.severity:
        change = Change.EASED
    reading, value = _told_reading(result)
    after = replace(
        alert, state=State.FIRING, severity=severity, message=result.message, judged_at=now, warning=warning,
        critical=critical, clear_since=None, clear_samples=0, stale_since=None,
        changed_at=now if change is Change.WORSENED else alert.changed_at, labels={**policy.labels, **result.labels},
        recent=recent, reading=reading, value=value,
    )  # fmt: skip
    return after, Transition(now, change, after, result.message) if change else None


def _clear(alert: Alert, result: Result, policy: Policy, now: datetime, broken: bool) -> Step:
    """A good result of something pending, firing or recovering."""
    recent = _remember(None if broken else alert, result, policy)
    if alert.state is State.PENDING:
        warning = None if broken else _lengthen(alert.warning, recent, result, Status.WARNING, policy)
        if warning is None:
            return _drop(alert, now, result.message)
        critical = _lengthen(alert.critical, recent, result, Status.CRITICAL, policy)
        return replace(alert, judged_at=now, recent=recent, warning=warning, critical=critical), None
    begins = alert.clear_since is None or broken
    since = result.at if alert.clear_since is None or broken else min(alert.clear_since, result.at)
    _, value = _told_reading(result, alert.reading)
    after = replace(
        alert, state=State.RECOVERING, message=result.message, judged_at=now, clear_since=since,
        clear_samples=1 if begins else alert.clear_samples + 1, stale_since=None, recent=recent, value=value,
        warning=_lengthen(None if broken else alert.warning, recent, result, Status.WARNING, policy),
        critical=_lengthen(None if broken else alert.critical, recent, result, Status.CRITICAL, policy),
    )  # fmt: skip
    if now - since >= policy.keep_firing_for and after.clear_samples >= policy.breaking_samples:
        return close(after, now, RECOVERED)
    return after, Transition(now, Change.RECOVERING, after, result.message) if alert.state is State.FIRING else None


def _stale(alert: Alert, result: Result, now: datetime) -> Step:
    """No word about an open alert. A wait for recovery ends, since clear without a break is what it waited for."""
    if alert.state is State.PENDING or alert.stale_since is not None:
        return alert, None
    message = Said(
        "%(message)s; data stale since %(when)s: %(reason)s", message=alert.message,
        when=f"{result.at:%Y-%m-%d %H:%M:%S} UTC", reason=result.message,
    )  # fmt: skip
    after = replace(
        alert, state=State.FIRING, message=message, clear_since=None, clear_samples=0, stale_since=result.at
    )
    return after, Transition(now, Change.STALE, after, result.message)


def _drop(alert: Alert, now: datetime, because: str) -> Step:
    """End a pending alert. One that fired before goes back to resolved: somebody may still be owed that news."""
    if alert.resolved_at is None:
        return None, Transition(now, Change.CLEARED, alert, because)
    ended = replace(alert, state=State.RESOLVED, warning=None, critical=None, judged_at=now, recent="")
    return ended, Transition(now, Change.CLEARED, ended, because)


def _remember(alert: Alert | None, result: Result, policy: Policy) -> str:
    """Append a judged result to the window; nothing is kept where all samples have to be bad anyway."""
    if policy.of_samples <= policy.min_samples:
        return ""
    return ((alert.recent if alert else "") + str(int(result.status)))[-policy.of_samples :]


def _lengthen(streak: Streak | None, recent: str, result: Result, level: Status, policy: Policy) -> Streak | None:
    """Count a judged result. A clock that stepped back moves the start with it, so that no wait outlasts the step."""
    if result.status < level:
        if streak is None or streak.misses + 1 >= policy.breaking_samples:
            return None
        return Streak(min(streak.since, result.at), _count(recent, level), streak.misses + 1)
    if streak is None:
        return Streak(result.at, 1)
    samples = _count(recent, level) if policy.of_samples > policy.min_samples else streak.samples + 1
    return Streak(min(streak.since, result.at), samples)


def _count(recent: str, level: Status) -> int:
    return sum(int(digit) >= level for digit in recent)


def _is_ripe(streak: Streak | None, lasting: timedelta, policy: Policy, now: datetime) -> bool:
    return (
        streak is not None
        and streak.misses == 0
        and streak.samples >= policy.min_samples
        and now - streak.since >= lasting
    )


def _told_reading(result: Result, known: str = "") -> tuple[str, float | None]:
    """Return the reading that a result's status is about, and its value."""
    bad = [name for name, status in result.standing.items() if status == result.status and status > Status.OK]
    wanted = bad or [known]
    found = next((reading for reading in result.readings if reading.name in wanted), None)
    found = found or (result.readings[0] if result.readings else None)
    return (found.name, found.value) if found else (known, None)
