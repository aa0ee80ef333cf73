"""What a channel should be told: the difference between what is so and what it was last told.

Level-triggered: no event is queued anywhere. As long as an alert fires, is not suppressed and the channel was not
surely told of it at that severity, a message is owed; as long as the channel may believe that something fires and it
does not, its recovery is owed; nothing else is ever sent but repeats. So a restart, an outage of a channel or a silence
that ends can neither lose nor double anything. Pure functions of values and ``now``; delivery is monitor/notify.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from config.settings import NotifySettings
from monitor.alerting import Alert
from monitor.result import Status

_CLOCK_STEP = timedelta(minutes=1)
"""More than two clocks that count the same seconds differ, be it after a slow send."""


class ItemKind(StrEnum):
    """What one line of a message tells."""

    FIRING = "firing"
    REPEAT = "repeat"
    """Still firing, told before."""
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


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell one channel. ``due_at`` is when it became so."""

    alert_id: str
    kind: ItemKind
    severity: Status
    title: str
    due_at: datetime

    @property
    def identity(self) -> tuple[str, str, int]:
        """What makes two items the same news."""
        return self.alert_id, self.kind.value, int(self.severity)


def owed(
    alerts: Mapping[str, Alert],
    told: Mapping[str, Told],
    suppressed: Collection[str],
    channel: NotifySettings,
    now: datetime,
) -> list[Item]:
    """Return what ``channel`` should be told now. ``alerts`` and ``told`` (this channel's) by alert id."""
    items = []
    for alert in alerts.values():
        if not alert.is_firing or alert.id in suppressed or alert.severity.label not in channel.severities:
            continue
        last = told.get(alert.id)
        if last is None or not last.sure or last.severity < alert.severity:
            items.append(Item(alert.id, ItemKind.FIRING, alert.severity, alert.title, alert.changed_at))
        elif has_passed(channel.repeat, last.told_at, now):
            items.append(Item(alert.id, ItemKind.REPEAT, alert.severity, alert.title, last.told_at + channel.repeat))
    for last in told.values():
        standing = alerts.get(last.alert_id)
        if standing is None or not standing.is_firing:
            since = standing.resolved_at if standing and standing.resolved_at else last.told_at
            items.append(Item(last.alert_id, ItemKind.RESOLVED, last.severity, last.title, since))
    return items


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


def identity_of(items: Iterable[Item]) -> frozenset[tuple[str, str, int]]:
    """Return what makes two messages the same news."""
    return frozenset(item.identity for item in items)
