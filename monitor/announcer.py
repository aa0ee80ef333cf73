"""What is announced to whom: weighs suppressors once a tick, and puts the difference to what channels know into the
outbox.

Below the alert engine, which hands it the alerts that matter and records what it returns. It holds the ledger and what
the command line wrote, as last read; it decides nothing itself (monitor/suppress.py, monitor/telling.py), and sends
nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

from config.notify import NotifySettings
from config.said import Said, Say
from monitor.alerting import NO_DATA, Alert, Policy
from monitor.maintenance import Maintenance
from monitor.message import Facts, Message, compose
from monitor.outbox import ChannelState, Ledger, Outbox
from monitor.store import MonitorStore
from monitor.suppress import (
    Acknowledgement,
    Kind,
    LoadWindow,
    Silence,
    Suppression,
    Suppressors,
    critical_checks,
    parents_of,
)
from monitor.telling import Attention, Failing, Situation, attend, identity_of, is_time, owed, steps_of

_UNKNOWN_CHANNEL = ChannelState()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What messages tell besides the alert, and when nothing is to be told. All from outside the engine."""

    host: str
    zone: tzinfo = UTC
    """Where messages write moments, and where quiet hours are meant."""
    maintenance: Sequence[Maintenance] = ()
    plan: Callable[[str, str], str | None] = lambda _check, _entity: None
    """The emergency plan that a check and entity call for, and its owner, in words."""
    trend: Callable[[str, str], Sequence[float]] = lambda _check, _entity: ()
    """Recent values of an entity's main reading, oldest first."""
    outlook: Callable[[str, str], str | None] = lambda _check, _entity: None
    """When an entity will be past its bound, in words, where that is known."""
    told_elsewhere: Callable[[], Collection[str]] = lambda: ()
    """Severities whose alerts somebody else tells people of now (Alertmanager), so that no channel does."""
    silences: Callable[[], Sequence[Silence]] = lambda: ()
    """Silences that people made elsewhere."""
    say: Say = Said
    """Puts texts into the language that messages are in."""


class Announcer:
    """One thread at a time. Methods raise MonitorStoreError unless they say otherwise."""

    def __init__(self, store: MonitorStore, surroundings: Surroundings, grace_until: datetime) -> None:
        self._store, self._outbox = store, Outbox(store.database)
        self.surroundings = surroundings
        self._grace_until = grace_until
        self._channels: tuple[NotifySettings, ...] = ()
        self._channels_changed = True
        self._steps: Mapping[str, tuple[timedelta, ...]] = {}
        self._revision: tuple[int, int] | None = None
        self._marks: dict[str, str] = {}
        self._attention = store.attention()
        self.ledger = Ledger({}, {}, {})
        self.silences: list[Silence] = []
        self.acknowledgements: dict[str, Acknowledgement] = {}
        self.suppressed: dict[str, tuple[Suppression, ...]] = {}
        """By alert, as of the last ``weigh``."""

    def clip(self, now: datetime) -> None:
        """Take what lies in the future for having happened now."""
        self._outbox.clip(now)
        for key, one in self._attention.items():
            if one.since is not None and one.since > now:
                self._attention[key] = replace(one, since=now)

    def configure(self, channels: Sequence[NotifySettings], policies: Mapping[str, Policy]) -> None:
        """Go by new settings. Never raises."""
        self._channels = tuple(channels)
        self._channels_changed = True
        self._steps = steps_of(channels)
        self._runbooks = {check: policy.runbook for check, policy in policies.items() if policy.runbook}
        self._dependants: dict[str, list[str]] = {}
        for check, policy in policies.items():
            for parent in parents_of(policy):
                self._dependants.setdefault(parent, []).append(check)

    def refresh(self, now: datetime) -> None:
        """Read again what the sender and the command line may have written, if anything was."""
        if self._channels_changed:
            self._outbox.keep_channels({channel.name for channel in self._channels})
            self._channels_changed = False
        self.read(now)

    def read(self, now: datetime) -> None:
        """Do the same and write nothing: what a bystander may do."""
        # What the engine and the history write changes nothing here, and comes every second.
        revision = self._store.database.revision(about="announcements")
        if revision != self._revision:
            self.ledger = self._outbox.ledger()
            self.silences = self._store.silences(now)
            self.acknowledgements = self._store.acknowledgements()
            self._revision = revision

    def weigh(
        self,
        alerts: Sequence[Alert],
        policies: Mapping[str, Policy],
        load_windows: Sequence[LoadWindow],
        ran_at: Mapping[str, datetime],
        now: datetime,
    ) -> dict[str, Attention | None]:
        """Find out what holds back each of ``alerts`` (those that fire or flap); return what is to be recorded of for
        how long they have fired with nothing holding them back. Never raises.
        """
        suppressors = Suppressors(
            self.surroundings.host, policies, [*self.silences, *self.surroundings.silences()], self.acknowledgements,
            load_windows, self._grace_until,
            critical_checks(alert for alert in alerts if alert.name != NO_DATA), self.surroundings.maintenance, ran_at,
        ).active(now)  # fmt: skip
        self.suppressed = {alert.id: reasons for alert in alerts if (reasons := suppressors.of(alert, now))}
        self._marks = {}
        by_id = {alert.id: alert for alert in alerts} if self.acknowledgements else {}
        for key, given in self.acknowledgements.items():
            if given.baseline is not None and (alert := by_id.get(key)) is not None:
                policy = policies.get(alert.check)
                if given.is_passed_by(alert, policy.bad_below if policy else ()):
                    accepted = f"{given.baseline:g}"
                    mark = Said("beyond the %(value)s that %(who)s accepted", value=accepted, who=given.author)
                    self._marks[key] = mark
        if not any(channel.escalate_after for channel in self._channels):
            changes: dict[str, Attention | None] = dict.fromkeys(self._attention)
        else:
            held = {
                key for key, reasons in self.suppressed.items() if any(one.kind is not Kind.FLAPPING for one in reasons)
            }
            changes = attend(self._attention, (alert for alert in alerts if alert.is_firing), held, now)
        for key, one in changes.items():
            if one is None:
                self._attention.pop(key, None)
            else:
                self._attention[key] = one
        return changes

    def announce(self, alerts: Sequence[Alert], past: Mapping[str, Alert], now: datetime) -> int:
        """Put into the outbox what channels should be told of ``alerts`` (those weighed) and of what they were told
        before (``past``: every alert that is remembered); return how many messages that was.
        """
        situation = self.situation(now)
        messages: dict[str, Message] = {}
        for channel in self._channels:
            if (message := self._message_for(channel, alerts, past, situation)) is not None:
                messages[channel.name] = message
        return self._outbox.post(messages, self.ledger, now) if messages else 0

    def situation(self, now: datetime) -> Situation:
        """Return what decisions are made from, as of the last ``refresh`` and ``weigh``. Never raises."""
        failing: dict[str, list[Failing]] = {}
        for channel in self._channels:
            since = self.ledger.channels.get(channel.name, _UNKNOWN_CHANNEL).failing_since
            if channel.fallback and since is not None and now - since >= channel.fallback_after:
                told = self.ledger.told.get(channel.name, {})
                for name in channel.fallback:
                    failing.setdefault(name, []).append(Failing(channel, since, told))
        return Situation(
            now, self.surroundings.zone, self.suppressed, self._marks, self._attention, self._steps, failing,
            frozenset(self.surroundings.told_elsewhere()),
        )  # fmt: skip

    def clock_stepped(self, by: timedelta) -> dict[str, Attention | None]:
        """The wall clock was set: nothing waits for a moment that lost its meaning. Return what is to be recorded."""
        self._grace_until += by
        moved = {
            key: Attention(one.before, one.since + by) for key, one in self._attention.items() if one.since is not None
        }
        self._attention |= moved
        self._outbox.shift(by)
        return dict(moved)

    def adopt(self) -> None:
        """Write all that is known into an empty database that took a damaged one's place."""
        self._outbox.adopt(self.ledger)
        self._store.adopt(self.silences, self.acknowledgements)

    def _message_for(
        self, channel: NotifySettings, alerts: Iterable[Alert], past: Mapping[str, Alert], situation: Situation
    ) -> Message | None:
        """Return the message that is to stand in the outbox now; one without items withdraws the one that does."""
        now = situation.now
        items = owed(alerts, self.ledger.told.get(channel.name, {}), channel, situation, past)
        parcel = self.ledger.parcels.get(channel.name)
        if parcel is not None:
            if parcel.is_claimed(now) or identity_of(parcel.message.items) == identity_of(items):
                return None
        elif not items or not is_time(items, self._last_message_at(channel), channel, now):
            return None
        elif channel.limit is not None:
            most, period = channel.limit
            if self._outbox.made_since(channel.name, now - period, now) >= most:
                return None
        facts = Facts(
            self.surroundings.host, self.surroundings.zone, self._runbooks, self._dependants, self.surroundings.plan,
            self.surroundings.trend, self.surroundings.outlook, self.surroundings.say,
        )  # fmt: skip
        return compose(items, past, facts, now)

    def _last_message_at(self, channel: NotifySettings) -> datetime | None:
        return self.ledger.channels.get(channel.name, _UNKNOWN_CHANNEL).last_message_at
