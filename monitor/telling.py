"""What a channel should be told: the difference between what is so and what it was last told.

Level-triggered: no event is queued anywhere. As long as an alert fires, is not held back and the channel was not surely
told of it as it is, a message is owed; as long as the channel may believe that something fires and it does not, its
recovery is owed; nothing else is ever sent but repeats. So a restart, an outage of a channel or a silence that ends can
neither lose nor double anything. "As it is" is a severity and a mark: flapping, or past what somebody accepted.

Pure functions of values and ``now``; ``decide`` says for one alert and one channel what is owed and why not more, to
the sender as to ``keepwatch why``. Delivery is monitor/notify.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from config.notify import NotifySettings
from config.units import format_duration
from monitor.alerting import Alert
from monitor.result import Status
from monitor.suppress import Kind, Suppression

_CLOCK_STEP = timedelta(minutes=1)
"""More than two clocks that count the same seconds differ, be it after a slow send."""
FLAPPING = "flapping"
"""The mark of an alert that was told to flap."""


class ItemKind(StrEnum):
    """What one line of a message tells."""

    FIRING = "firing"
    REPEAT = "repeat"
    """Still firing, told before."""
    FLAPPING = "flapping"
    """Comes and goes; the next news is how that ended."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Told:
    """What a channel was last told of an alert. No such value: nothing, or that it is over."""

    alert_id: str
    channel: str
    severity: Status
    sure: bool
    """False from the first attempt of a message until its delivery is known: the channel may or may not have it."""
    told_at: datetime
    title: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell one channel. ``due_at`` is when it became so."""

    alert_id: str
    kind: ItemKind
    severity: Status
    title: str
    due_at: datetime
    mark: str = ""

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """What makes two items the same news."""
        return self.alert_id, self.kind.value, int(self.severity), self.mark


@dataclass(frozen=True, slots=True)
class Attention:
    """For how long an alert has fired with nothing holding it back: before, and since a moment, if it does so now."""

    before: timedelta = timedelta(0)
    since: datetime | None = None

    def lasting(self, now: datetime) -> timedelta:
        """All of it."""
        return self.before + (now - self.since if self.since is not None else timedelta(0))


@dataclass(frozen=True, slots=True)
class Failing:
    """A channel that has not got a message through since then."""

    channel: NotifySettings
    since: datetime
    told: Mapping[str, Told]
    """What it was told before, by alert."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What ``decide`` needs to know besides the alert and the channel."""

    now: datetime
    zone: tzinfo = UTC
    suppressed: Mapping[str, tuple[Suppression, ...]] = field(default_factory=dict)
    """By alert."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """By alert: what is to be told anew about it, such as ``beyond 8``."""
    attention: Mapping[str, Attention] = field(default_factory=dict)
    """By alert; kept only where some channel escalates."""
    steps: Mapping[str, tuple[timedelta, ...]] = field(default_factory=dict)
    """Severity -> when channels that take it step in, in order."""
    failing: Mapping[str, Sequence[Failing]] = field(default_factory=dict)
    """By name of the channel that stands in for them."""
    told_elsewhere: Collection[str] = ()
    """Severities that somebody else tells people of now."""

    def last_step(self, alert: Alert) -> timedelta:
        """The last step of escalation that the alert has reached: only channels of that one repeat."""
        lasting = self.attention.get(alert.id, Attention()).lasting(self.now)
        reached = [step for step in self.steps.get(alert.severity.label, ()) if step <= lasting]
        return max(reached, default=timedelta(0))


@dataclass(frozen=True, slots=True)
class Decision:
    """What a channel is owed about one alert (None: nothing), and why."""

    item: Item | None
    reason: str


def decide(alert: Alert | None, told: Told | None, channel: NotifySettings, situation: Situation) -> Decision:
    """Say what ``channel`` should be told of an alert now; ``told`` is what it was last told, ``alert`` how it
    stands.
    """
    if alert is not None and (alert.is_firing or alert.flapping):
        return _news(alert, told, channel, situation)
    if told is None:
        return Decision(None, "it does not fire, and the channel was not told that it does")
    since = alert.resolved_at if alert is not None and alert.resolved_at is not None else told.told_at
    item = Item(told.alert_id, ItemKind.RESOLVED, told.severity, told.title, since)
    return _unless_quiet(item, channel, situation, "it is over, and the channel was told of it")


def _news(alert: Alert, told: Told | None, channel: NotifySettings, situation: Situation) -> Decision:
    if not _is_for(alert, channel, situation):
        return Decision(None, f"the channel is not told of what is {alert.severity.label}")
    if alert.severity.label in situation.told_elsewhere:
        return Decision(None, f"what is {alert.severity.label} is told by Alertmanager")
    held = [one for one in situation.suppressed.get(alert.id, ()) if one.kind is not Kind.FLAPPING]
    if held:
        return Decision(None, "held back: " + "; ".join(one.reason for one in held))
    if channel.escalate_after:
        lasting = situation.attention.get(alert.id, Attention()).lasting(situation.now)
        if lasting < channel.escalate_after:
            rest = format_duration(channel.escalate_after - lasting)
            return Decision(None, f"the channel steps in when nobody has acknowledged it for another {rest}")
    mark = FLAPPING if alert.flapping else situation.marks.get(alert.id, "")
    kind = ItemKind.FLAPPING if alert.flapping else ItemKind.FIRING
    item = Item(alert.id, kind, alert.severity, alert.title, alert.changed_at, mark)
    if told is None:
        return _unless_quiet(item, channel, situation, "it fires, and the channel was not told")
    if not told.sure:
        return _unless_quiet(item, channel, situation, "it fires, and the channel may not have heard of it")
    if told.severity < alert.severity:
        return _unless_quiet(item, channel, situation, "it got worse than what the channel was told")
    if told.mark != mark and FLAPPING in (told.mark, mark):
        why = "it began to flap" if mark == FLAPPING else "it no longer flaps, and fires"
        return _unless_quiet(item, channel, situation, why)
    if mark and told.mark != mark:
        return _unless_quiet(item, channel, situation, f"it is {mark}")
    return _repeat(alert, told, mark, channel, situation)


def _repeat(alert: Alert, told: Told, mark: str, channel: NotifySettings, situation: Situation) -> Decision:
    if channel.escalate_after < situation.last_step(alert):
        return Decision(None, "told; only channels of the last step of escalation repeat")
    if not has_passed(channel.repeat, told.told_at, situation.now):
        rest = format_duration(told.told_at + channel.repeat - situation.now)
        return Decision(None, f"told {format_duration(situation.now - told.told_at)} ago; again in {rest}")
    item = Item(alert.id, ItemKind.REPEAT, alert.severity, alert.title, told.told_at + channel.repeat, mark)
    return _unless_quiet(item, channel, situation, "told, and it still fires")


def _unless_quiet(item: Item, channel: NotifySettings, situation: Situation, reason: str) -> Decision:
    if channel.quiet_hours is not None:
        moment = situation.now.astimezone(situation.zone)
        if window := channel.quiet_hours.hold(item.severity.label, moment):
            return Decision(None, f"{reason}; quiet hours {window}")
    return Decision(item, reason)


def _is_for(alert: Alert, channel: NotifySettings, situation: Situation) -> bool:
    """Whether the channel takes it for itself, or for one that fails and has not heard of it."""
    if alert.severity.label in channel.severities:
        return True
    return any(_is_lost(alert, failing) for failing in situation.failing.get(channel.name, ()))


def _is_lost(alert: Alert, failing: Failing) -> bool:
    """Whether a failing channel should know of the alert and does not."""
    if alert.severity.label not in failing.channel.severities:
        return False
    known = failing.told.get(alert.id)
    return known is None or not known.sure or known.told_at >= failing.since or known.severity < alert.severity


def owed(
    alerts: Iterable[Alert],
    told: Mapping[str, Told],
    channel: NotifySettings,
    situation: Situation,
    past: Mapping[str, Alert],
) -> list[Item]:
    """Return what ``channel`` should be told now. ``alerts``: all that fire or flap; ``told``: what this channel was
    told, and ``past``: every alert that is remembered, both by alert.
    """
    items = []
    noteworthy = set()
    for alert in alerts:
        noteworthy.add(alert.id)
        last = told.get(alert.id)
        if _is_settled(alert, last, channel, situation):
            continue
        if item := decide(alert, last, channel, situation).item:
            items.append(item)
    for last in told.values():
        if last.alert_id not in noteworthy:
            decision = decide(past.get(last.alert_id), last, channel, situation)
            items += [decision.item] if decision.item else []
    return items


def _is_settled(alert: Alert, told: Told | None, channel: NotifySettings, situation: Situation) -> bool:
    """Whether there is clearly nothing to tell: the usual case, ten thousand times a second on a very bad day."""
    if told is None:
        seen = situation.attention.get(alert.id) if channel.escalate_after else None
        return seen is not None and seen.lasting(situation.now) < channel.escalate_after
    return (
        told.sure
        and told.severity >= alert.severity
        and not told.mark
        and not alert.flapping
        and alert.id not in situation.marks
        and timedelta(0) <= situation.now - told.told_at < channel.repeat
    )


def steps_of(channels: Iterable[NotifySettings]) -> dict[str, tuple[timedelta, ...]]:
    """Return for each severity when its channels step in."""
    steps: dict[str, set[timedelta]] = {}
    for channel in channels:
        for severity in channel.severities:
            steps.setdefault(severity, set()).add(channel.escalate_after)
    return {severity: tuple(sorted(found)) for severity, found in steps.items()}


def attend(
    attention: Mapping[str, Attention], firing: Iterable[Alert], suppressed: Collection[str], now: datetime
) -> dict[str, Attention | None]:
    """Return what changes about how long alerts have fired unsuppressed; None for those that are over."""
    changed: dict[str, Attention | None] = {}
    seen = set()
    for alert in firing:
        seen.add(alert.id)
        before = attention.get(alert.id)
        if alert.id in suppressed:
            if before is not None and before.since is not None:
                changed[alert.id] = Attention(before.lasting(now))
        elif before is None or before.since is None:
            changed[alert.id] = Attention(before.before if before else timedelta(0), now)
    return changed | dict.fromkeys(attention.keys() - seen)


def is_time(items: Sequence[Item], last_message_at: datetime | None, channel: NotifySettings, now: datetime) -> bool:
    """Tell whether to send: company was waited for, and the last message is long enough ago."""
    return has_passed(channel.group_wait, min(item.due_at for item in items), now) and (
        last_message_at is None or has_passed(channel.group_interval, last_message_at, now)
    )


def has_passed(span: timedelta, since: datetime, now: datetime) -> bool:
    """Tell whether ``span`` is over.

    A moment well in the future means that the clock was set back: nothing waits for it to come by again.
    """
    return since - now > _CLOCK_STEP or now - since >= span


def identity_of(items: Iterable[Item]) -> frozenset[tuple[str, str, int, str]]:
    """Return what makes two messages the same news."""
    return frozenset(item.identity for item in items)
