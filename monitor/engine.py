"""The alert engine's one face for the daemon's loop: results in, messages into the outbox, standings out.

It holds the alerts in memory, hands each result to the pure functions below it (alerting, suppress, telling, message)
and records what they say before anybody acts on it. It reads no clock, starts no thread and sends nothing.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

from config.settings import NotifySettings
from monitor import runs
from monitor.alerting import (
    NO_DATA,
    Alert,
    Change,
    Policy,
    State,
    Step,
    Transition,
    advance,
    alert_id,
    close,
    no_data_policy,
)
from monitor.message import Message, compose
from monitor.outbox import Ledger, Outbox
from monitor.result import Result, Status
from monitor.store import ActionRequest, Changes, MonitorStore, MonitorStoreCorrupt, MonitorStoreError
from monitor.suppress import Acknowledgement, Kind, LoadWindow, Silence, Suppression, Suppressors, critical_checks
from monitor.telling import identity_of, is_time, owed

log = logging.getLogger(__name__)

Evidence = Callable[[Alert], Sequence[str]]
"""Called when alerts of a check fire or worsen, once for those of one batch: lines such as the top processes. Must
return quickly and never raise.
"""

_KEEP_RESOLVED = timedelta(days=1)
_PRUNE_EVERY = timedelta(hours=1)
_ORDER = {State.FIRING: 0, State.RECOVERING: 1, State.PENDING: 2, State.RESOLVED: 3}


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert with all that is known about it now."""

    alert: Alert
    runbook: str | None
    acknowledgement: Acknowledgement | None
    suppressed_by: tuple[Suppression, ...]
    notified_at: datetime | None
    """When a channel was last told that it fires; None when none was, or all were told that it is over."""


class AlertEngine:
    """Advances alerts, and tells the difference between what is so and what each channel was told.

    One thread at a time. State is loaded from the store at construction; alerts of checks that are in no policy any
    more resolve as "no longer configured". A store that fails never stops evaluation: changes wait in memory, are
    written as soon as it works again, and ``store_problem`` says why not yet. No method raises MonitorStoreError but
    the constructor.
    """

    def __init__(
        self,
        store: MonitorStore,
        policies: Mapping[str, Policy],
        channels: Sequence[NotifySettings],
        *,
        host: str,
        now: datetime,
        startup_grace: timedelta = timedelta(seconds=30),
        evidence: Evidence | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        """``policies`` by check name (see monitor/policy.py); ``now`` is when the daemon started; ``zone`` is where
        messages write moments. Raises MonitorStoreError.
        """
        self._store, self._outbox = store, Outbox(store.database)
        self._host, self._zone, self._evidence = host, zone, evidence
        self._grace_until = now + startup_grace
        self._alerts = {alert.id: alert for alert in store.alerts()}
        self._statuses: dict[str, dict[str, Status]] = {}
        for (check, entity), status in store.statuses().items():
            self._statuses.setdefault(check, {})[entity] = status
        self._changes = Changes()
        self._seen: dict[str, tuple[str, ...]] = {}
        self._suppressed: dict[str, tuple[Suppression, ...]] = {}
        self._pruned_at: datetime | None = None
        self._revision: tuple[int, int] | None = None
        self._ledger = Ledger({}, {}, {})
        self._silences: list[Silence] = []
        self._acknowledgements: dict[str, Acknowledgement] = {}
        self.store_problem: MonitorStoreError | None = None
        """Why the latest changes are not recorded yet; None when they are."""
        self._open_by_check: dict[str, set[str]] = {}
        for alert in self._alerts.values():
            if alert.is_open:
                self._open_by_check.setdefault(alert.check, set()).add(alert.id)
        self.reconfigure(policies, channels, now)

    def take(self, results: Sequence[Result], now: datetime) -> list[Transition]:
        """Advance the alerts of whole runs of checks: each run's results together, all of its entities in it.

        Everything that changed is recorded in one transaction. Results of checks without a policy are dropped.
        """
        before = len(self._changes.transitions)
        self._seen.clear()
        for check, run in runs.split(results):
            policy = self._policies.get(check)
            if policy is not None:
                self._take_run(policy, run, now)
        transitions = self._changes.transitions[before:]
        self._record(now)
        return transitions

    def tick(self, now: datetime, load_windows: Sequence[LoadWindow] = ()) -> int:
        """Put into the outbox what channels should be told now, and return how many messages that was.

        Cheap; call it every second.
        """
        self._forget_old(now)
        self._record(now)
        try:
            self._refresh(now)
            posted = self._tell(now, load_windows)
            if self._pruned_at is None or abs(now - self._pruned_at) >= _PRUNE_EVERY:
                self._store.prune(now)
                self._pruned_at = now
        except MonitorStoreError as error:
            self._failed(error)
            return 0
        return posted

    def reconfigure(self, policies: Mapping[str, Policy], channels: Sequence[NotifySettings], now: datetime) -> None:
        """Go by new settings. Alerts of checks that are gone resolve as "no longer configured"."""
        self._policies = dict(policies)
        self._no_data_policies = {check: no_data_policy(policy) for check, policy in policies.items()}
        self._channels = tuple(channels)
        self._channels_changed = True
        for check in set(self._open_by_check) - set(self._policies):
            for key in sorted(self._open_by_check[check]):
                self._put(self._alerts[key], close(self._alerts[key], now, "no longer configured"))
        for check in set(self._statuses) - set(self._policies):
            for entity in self._statuses.pop(check):
                self._changes.statuses[check, entity] = None
        self._record(now)

    def alerts(self) -> list[Standing]:
        """Firing first (worst first), then pending, then those resolved within the last day. As of the last tick."""
        notified: dict[str, datetime] = {}
        for told in self._ledger.told.values():
            for last in told.values():
                if last.sure and last.told_at >= notified.get(last.alert_id, last.told_at):
                    notified[last.alert_id] = last.told_at
        standings = [
            Standing(
                alert,
                self._policies[alert.check].runbook if alert.check in self._policies else None,
                self._acknowledgements.get(alert.id) if alert.is_open else None,
                self._suppressed.get(alert.id, ()),
                notified.get(alert.id),
            )
            for alert in self._alerts.values()
        ]
        return sorted(
            standings, key=lambda one: (_ORDER[one.alert.state], -one.alert.severity, one.alert.since, one.alert.id)
        )

    def silences(self, now: datetime) -> list[Silence]:
        """The active ones, as of the last tick."""
        return [silence for silence in self._silences if silence.is_active(now)]

    def suppressed_counts(self) -> dict[str, int]:
        """Firing alerts held back now, by kind of suppressor; every kind is there, 0 included."""
        counts = {kind.value: 0 for kind in Kind}
        for suppressions in self._suppressed.values():
            for kind in {suppression.kind for suppression in suppressions}:
                counts[kind.value] += 1
        return counts

    def pending_checks(self) -> frozenset[str]:
        """Checks with a pending alert, which should run at their retry interval (a quarter of the usual one)."""
        return frozenset(
            alert.check
            for keys in self._open_by_check.values()
            for alert in map(self._alerts.__getitem__, keys)
            if alert.state is State.PENDING and alert.name != NO_DATA
        )

    def ledger(self) -> Ledger:
        """What is owed to channels and what they were told, with their counters, as of the last tick."""
        return self._ledger

    def _take_run(self, policy: Policy, run: dict[str, Result], now: datetime) -> None:
        """Advance everything that one run of a check says something about, be it by its silence."""
        self._note_statuses(policy.check, run)
        all_is_well = all(result.status is Status.OK for result in run.values())
        if all_is_well and policy.check not in self._open_by_check and policy.configured <= run.keys() | {""}:
            return
        alerting, without_data = (self._open_entities(policy.check, name) for name in (policy.name, NO_DATA))
        news = runs.read(run, policy, alerting, without_data)
        no_data = self._no_data_policies[policy.check]
        for result in news.results:
            self._advance(policy, result, now)
        for result in news.no_data:
            self._advance(no_data, result, now)
        for name, gone in ((policy.name, news.gone), (NO_DATA, news.no_data_gone)):
            for entity in sorted(gone):
                alert = self._alerts[alert_id(name, policy.check, entity)]
                self._put(alert, close(alert, now, "gone"))

    def _note_statuses(self, check: str, run: Mapping[str, Result]) -> None:
        known = self._statuses.setdefault(check, {})
        for entity, result in run.items():
            if result.status <= Status.CRITICAL and known.get(entity) is not result.status:
                known[entity] = self._changes.statuses[check, entity] = result.status
        if any(result.status is not Status.UNKNOWN for result in run.values()):
            for entity in known.keys() - run.keys():
                del known[entity]
                self._changes.statuses[check, entity] = None

    def _open_entities(self, check: str, name: str) -> set[str]:
        alerts = (self._alerts[key] for key in self._open_by_check.get(check, ()))
        return {alert.entity for alert in alerts if alert.name == name}

    def _advance(self, policy: Policy, result: Result, now: datetime) -> None:
        before = self._alerts.get(alert_id(policy.name, result.check, result.entity))
        self._put(before, advance(before, result, policy, now))

    def _put(self, before: Alert | None, step: Step) -> None:
        """Take over what an alert became, and all that follows from it."""
        after, transition = step
        if transition is not None and transition.change in (Change.FIRED, Change.WORSENED):
            assert after is not None
            if self._evidence is not None and after.name != NO_DATA:
                if after.check not in self._seen:
                    self._seen[after.check] = tuple(self._evidence(after))
                after = replace(after, evidence=self._seen[after.check])
                transition = replace(transition, alert=after)
            policy = self._policies.get(after.check)
            if policy and policy.on_critical and after.severity is Status.CRITICAL and after.name == policy.name:
                request = ActionRequest(after.id, after.check, after.entity, policy.on_critical, transition.at)
                self._changes.actions.append(request)
        if transition is not None:
            self._changes.transitions.append(transition)
            if transition.change is Change.WORSENED:
                self._changes.acknowledged_below[transition.alert.id] = transition.alert.severity
            elif transition.change in (Change.RESOLVED, Change.CLEARED):
                self._changes.acknowledged_below[transition.alert.id] = Status.UNKNOWN
        if after is None and before is not None:
            del self._alerts[before.id]
            self._changes.alerts[before.id] = None
        elif after is not None and after is not before:
            self._alerts[after.id] = self._changes.alerts[after.id] = after
        self._index(after or before)

    def _index(self, alert: Alert | None) -> None:
        if alert is None:
            return
        standing = self._alerts.get(alert.id)
        if standing is not None and standing.is_open:
            self._open_by_check.setdefault(alert.check, set()).add(alert.id)
        elif keys := self._open_by_check.get(alert.check):
            keys.discard(alert.id)
            if not keys:
                del self._open_by_check[alert.check]

    def _forget_old(self, now: datetime) -> None:
        """Drop alerts that were resolved a day ago, unless a channel is still owed their recovery."""
        old = [
            alert
            for alert in self._alerts.values()
            if alert.state is State.RESOLVED and alert.resolved_at and now - alert.resolved_at > _KEEP_RESOLVED
        ]
        for alert in old:
            if not any(alert.id in told for told in self._ledger.told.values()):
                del self._alerts[alert.id]
                self._changes.alerts[alert.id] = None

    def _record(self, now: datetime) -> None:
        """Write what is waiting. Whatever goes wrong with the file, nothing of it is forgotten."""
        if not self._changes:
            return
        try:
            self._store.record(self._changes, now)
        except MonitorStoreCorrupt as error:
            self._failed(error)
            if error.set_aside is not None:
                self._start_over(now)
        except MonitorStoreError as error:
            self._failed(error)
        else:
            self._changes = Changes()
            if self.store_problem is not None:
                log.info("monitor store works again", extra={"path": str(self._store.database.path)})
                self.store_problem = None

    def _start_over(self, now: datetime) -> None:
        """Write all that is known into the empty database that took a damaged one's place."""
        self._changes.alerts = {**self._alerts, **self._changes.alerts}
        self._changes.statuses |= {(c, e): status for c, known in self._statuses.items() for e, status in known.items()}
        try:
            self._outbox.adopt(self._ledger)
            self._store.adopt(self._silences, self._acknowledgements)
            self._store.record(self._changes, now)
        except MonitorStoreError as error:
            self._failed(error)
        else:
            self._changes = Changes()

    def _failed(self, error: MonitorStoreError) -> None:
        if self.store_problem is None or str(self.store_problem) != str(error):
            log.error("monitor store failed", extra={"problem": str(error), "hint": error.hint})
        self.store_problem = error

    def _refresh(self, now: datetime) -> None:
        """Read again what the sender and the command line may have written, if anything was."""
        if self._channels_changed:
            self._outbox.keep_channels({channel.name for channel in self._channels})
            self._channels_changed = False
        revision = self._store.database.revision()
        if revision != self._revision:
            self._ledger = self._outbox.ledger()
            self._silences = self._store.silences(now)
            self._acknowledgements = self._store.acknowledgements()
            self._revision = revision

    def _tell(self, now: datetime, load_windows: Sequence[LoadWindow]) -> int:
        suppressors = Suppressors(
            self._host, self._policies, self._silences, self._acknowledgements, load_windows, self._grace_until,
            critical_checks(alert for alert in self._firing() if alert.name != NO_DATA),
        )  # fmt: skip
        self._suppressed = {
            alert.id: reasons for alert in self._firing() if (reasons := suppressors.of(alert, now))
        }
        if self._changes:
            return 0  # what is not recorded is not told
        messages: dict[str, Message] = {}
        for channel in self._channels:
            if (message := self._message_for(channel, now)) is not None:
                messages[channel.name] = message
        return self._outbox.post(messages, self._ledger, now) if messages else 0

    def _message_for(self, channel: NotifySettings, now: datetime) -> Message | None:
        """Return the message that is to stand in the outbox now; one without items withdraws the one that does."""
        items = owed(self._alerts, self._ledger.told.get(channel.name, {}), self._suppressed, channel, now)
        parcel = self._ledger.parcels.get(channel.name)
        if parcel is not None:
            if parcel.is_claimed(now) or identity_of(parcel.message.items) == identity_of(items):
                return None
        elif not items or not is_time(items, self._last_message_at(channel), channel, now):
            return None
        runbooks = {check: policy.runbook for check, policy in self._policies.items() if policy.runbook}
        return compose(items, self._alerts, runbooks, self._host, now, self._zone)

    def _last_message_at(self, channel: NotifySettings) -> datetime | None:
        state = self._ledger.channels.get(channel.name)
        return state.last_message_at if state else None

    def _firing(self) -> Iterable[Alert]:
        return (
            alert
            for keys in self._open_by_check.values()
            for alert in map(self._alerts.__getitem__, keys)
            if alert.is_firing
        )
