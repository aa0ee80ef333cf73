"""The alert engine's one face for the daemon's loop: results in, messages into the outbox, standings out.

It holds the alerts in memory, hands each result to the pure functions below it (alerting, suppress, telling, message)
and records what they say before anybody acts on it. It reads no clock, starts no thread and sends nothing.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

from config.notify import NotifySettings
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
    clipped,
    close,
    no_data_policy,
    shifted,
)
from monitor.announcer import Announcer, Surroundings
from monitor.flapping import observe
from monitor.outbox import Ledger
from monitor.result import Result, Status
from monitor.store import ActionRequest, Changes, MonitorStore, MonitorStoreCorrupt, MonitorStoreError
from monitor.suppress import Acknowledgement, Kind, LoadWindow, Silence, Suppression, parents_of

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
        surroundings: Surroundings | None = None,
        clock_set_by: timedelta = timedelta(0),
    ) -> None:
        """``policies`` by check name (see monitor/policy.py); ``now`` is when the daemon started; ``surroundings``
        take the place of ``host`` and ``zone`` where there is more to say. ``clock_set_by``: by how much somebody set
        the wall clock since the daemon before this one, as far as that is known. Raises MonitorStoreError.
        """
        self._store, self._evidence = store, evidence
        grace_until = now - clock_set_by + startup_grace  # by the clock of the store, which is shifted below
        self._announcer = Announcer(store, surroundings or Surroundings(host, zone), grace_until)
        self._alerts = {alert.id: alert for alert in store.alerts()}
        self._statuses: dict[str, dict[str, Status]] = {}
        for (check, entity), status in store.statuses().items():
            self._statuses.setdefault(check, {})[entity] = status
        self._changes = Changes()
        self._seen: dict[str, tuple[str, ...]] = {}
        self._ran_at = store.ran_at()
        self._wanted: set[str] = set()
        self._pruned_at: datetime | None = None
        self.store_problem: MonitorStoreError | None = None
        """Why the latest changes are not recorded yet; None when they are."""
        self._live_by_check: dict[str, set[str]] = {}
        for alert in self._alerts.values():
            if alert.is_live:
                self._live_by_check.setdefault(alert.check, set()).add(alert.id)
        if clock_set_by:
            self.clock_stepped(clock_set_by, now)
        self._clip(now)
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
            self._announcer.refresh(now)
            posted = self._tell(now, load_windows)
            if self._pruned_at is None or abs(now - self._pruned_at) >= _PRUNE_EVERY:
                self._store.prune(now)
                self._pruned_at = now
        except MonitorStoreError as error:
            self._failed(error)
            return 0
        return posted

    def reconfigure(
        self,
        policies: Mapping[str, Policy],
        channels: Sequence[NotifySettings],
        now: datetime,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Go by new settings. Alerts of checks that are gone resolve as "no longer configured"."""
        self._policies = dict(policies)
        self._no_data_policies = {check: no_data_policy(policy) for check, policy in policies.items()}
        if surroundings is not None:
            self._announcer.surroundings = surroundings
        self._announcer.configure(channels, policies)
        self._parents = frozenset(parent for policy in policies.values() for parent in parents_of(policy))
        for check in self._ran_at.keys() - self._parents:
            del self._ran_at[check]
            self._changes.ran_at[check] = None
        for check in set(self._live_by_check) - set(self._policies):
            for key in sorted(self._live_by_check[check]):
                self._put(self._alerts[key], close(self._alerts[key], now, "no longer configured"))
        for check in set(self._statuses) - set(self._policies):
            for entity in self._statuses.pop(check):
                self._changes.statuses[check, entity] = None
        self._record(now)

    def clock_stepped(self, by: timedelta, now: datetime) -> None:
        """Take in that the wall clock was set, to ``now``: what was waiting goes on to wait for as long as before."""
        log.warning("clock set", extra={"by_seconds": round(by.total_seconds())})
        self._alerts = {key: shifted(alert, by) for key, alert in self._alerts.items()}
        self._ran_at = {check: at + by for check, at in self._ran_at.items()}
        self._changes.alerts |= self._alerts
        self._changes.ran_at |= self._ran_at
        try:
            self._changes.attention |= self._announcer.clock_stepped(by)
        except MonitorStoreError as error:
            self._failed(error)
        self._record(now)

    def checks_to_look_at(self) -> frozenset[str]:
        """Return checks that others depend on and that should run at once, since those others have just gone bad; each
        is returned once.
        """
        wanted, self._wanted = frozenset(self._wanted), set()
        return wanted

    def alerts(self) -> list[Standing]:
        """Firing first (worst first), then pending, then those resolved within the last day. As of the last tick."""
        notified: dict[str, datetime] = {}
        for told in self._announcer.ledger.told.values():
            for last in told.values():
                if last.sure and last.told_at >= notified.get(last.alert_id, last.told_at):
                    notified[last.alert_id] = last.told_at
        standings = [
            Standing(
                alert,
                self._policies[alert.check].runbook if alert.check in self._policies else None,
                self._announcer.acknowledgements.get(alert.id) if alert.is_live else None,
                self._announcer.suppressed.get(alert.id, ()),
                notified.get(alert.id),
            )
            for alert in self._alerts.values()
        ]
        return sorted(
            standings, key=lambda one: (_ORDER[one.alert.state], -one.alert.severity, one.alert.since, one.alert.id)
        )

    def silences(self, now: datetime) -> list[Silence]:
        """The active ones, as of the last tick."""
        return [silence for silence in self._announcer.silences if silence.is_active(now)]

    def suppressed_counts(self) -> dict[str, int]:
        """Firing alerts held back now, by kind of suppressor; every kind is there, 0 included."""
        counts = {kind.value: 0 for kind in Kind}
        for suppressions in self._announcer.suppressed.values():
            for kind in {suppression.kind for suppression in suppressions}:
                counts[kind.value] += 1
        return counts

    def pending_checks(self) -> frozenset[str]:
        """Checks with a pending alert, which should run at their retry interval (a quarter of the usual one)."""
        return frozenset(
            alert.check
            for keys in self._live_by_check.values()
            for alert in map(self._alerts.__getitem__, keys)
            if alert.state is State.PENDING and alert.name != NO_DATA
        )

    def ledger(self) -> Ledger:
        """What is owed to channels and what they were told, with their counters, as of the last tick."""
        return self._announcer.ledger

    def _clip(self, now: datetime) -> None:
        """Take what the store has of the future for having happened now. A machine that was off may come back with its
        clock set back, and nothing shall wait for the old time to come by again.
        """
        self._announcer.clip(now)
        self._alerts = {key: clipped(alert, now) for key, alert in self._alerts.items()}
        self._ran_at = {check: min(at, now) for check, at in self._ran_at.items()}

    def _take_run(self, policy: Policy, run: dict[str, Result], now: datetime) -> None:
        """Advance everything that one run of a check says something about, be it by its silence."""
        if policy.check in self._parents:
            self._ran_at[policy.check] = self._changes.ran_at[policy.check] = now
        self._note_statuses(policy.check, run)
        all_is_well = all(result.status is Status.OK for result in run.values())
        if all_is_well and policy.check not in self._live_by_check and policy.configured <= run.keys() | {""}:
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
            # What thresholds said: a forecast on top of them must not hold a threshold after a restart.
            status = max(result.standing.values()) if result.standing else result.status
            if result.status <= Status.CRITICAL and known.get(entity) is not status:
                known[entity] = self._changes.statuses[check, entity] = status
        if any(result.status is not Status.UNKNOWN for result in run.values()):
            for entity in known.keys() - run.keys():
                del known[entity]
                self._changes.statuses[check, entity] = None

    def _open_entities(self, check: str, name: str) -> set[str]:
        alerts = (self._alerts[key] for key in self._live_by_check.get(check, ()))
        return {alert.entity for alert in alerts if alert.name == name}

    def _advance(self, policy: Policy, result: Result, now: datetime) -> None:
        before = self._alerts.get(alert_id(policy.name, result.check, result.entity))
        after, transition = advance(before, result, policy, now)
        flapping = None
        if result.status <= Status.CRITICAL:
            after, flapping = observe(before, after, now)
        if transition is not None and after is not None:
            transition = replace(transition, alert=after)
        self._put(before, (after, transition))
        if flapping is not None:
            self._changes.transitions.append(flapping)

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
            if policy is not None:
                self._wanted.update(one for one in parents_of(policy) if self._is_older(one, after.since))
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

    def _is_older(self, check: str, moment: datetime) -> bool:
        return check in self._policies and (check not in self._ran_at or self._ran_at[check] < moment)

    def _index(self, alert: Alert | None) -> None:
        if alert is None:
            return
        standing = self._alerts.get(alert.id)
        if standing is not None and standing.is_live:
            self._live_by_check.setdefault(alert.check, set()).add(alert.id)
        elif keys := self._live_by_check.get(alert.check):
            keys.discard(alert.id)
            if not keys:
                del self._live_by_check[alert.check]

    def _forget_old(self, now: datetime) -> None:
        """Drop alerts that were resolved a day ago, unless a channel is still owed their recovery."""
        old = [
            alert
            for alert in self._alerts.values()
            if alert.resolved_at is not None
            and alert.state is State.RESOLVED
            and not alert.flapping
            and now - alert.resolved_at > _KEEP_RESOLVED
        ]
        for alert in old:
            if not any(alert.id in told for told in self._announcer.ledger.told.values()):
                self._put(alert, (None, None))

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
        self._changes.ran_at |= self._ran_at
        self._changes.statuses |= {(c, e): status for c, known in self._statuses.items() for e, status in known.items()}
        try:
            self._announcer.adopt()
            self._store.record(self._changes, now)
        except MonitorStoreError as error:
            self._failed(error)
        else:
            self._changes = Changes()

    def _failed(self, error: MonitorStoreError) -> None:
        if self.store_problem is None or str(self.store_problem) != str(error):
            log.error("monitor store failed", extra={"problem": str(error), "hint": error.hint})
        self.store_problem = error

    def _tell(self, now: datetime, load_windows: Sequence[LoadWindow]) -> int:
        noteworthy = [
            alert
            for keys in self._live_by_check.values()
            for alert in map(self._alerts.__getitem__, keys)
            if alert.is_firing or alert.flapping
        ]
        attention = self._announcer.weigh(noteworthy, self._policies, load_windows, self._ran_at, now)
        if attention:
            self._changes.attention |= attention
            self._record(now)
        if self._changes:
            return 0  # what is not recorded is not told
        return self._announcer.announce(noteworthy, self._alerts, now)
