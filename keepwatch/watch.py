"""The monitor half under the daemon: checks on the pool, results into alerts, alerts into messages.

Owned by the daemon's loop, which calls ``evaluate`` every second. Keeps the last results in memory for whoever shows
them; what has to outlive the process lies in monitor.db.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from config.settings import Settings
from keepwatch import bridge
from keepwatch.alertmanager_wire import Sender
from keepwatch.alertmanagers import Alertmanagers
from keepwatch.check_pool import CheckPool
from keepwatch.duties import Key
from keepwatch.languages import language
from keepwatch.orders import Progress
from keepwatch.view import AlertView, ChannelView, CheckView
from keepwatch.viewing import WatchPart
from monitor.actions import Actions
from monitor.alerting import Alert, Policy, State
from monitor.announcer import Surroundings
from monitor.build import build_checks
from monitor.clock_steps import ClockSteps
from monitor.engine import AlertEngine, Standing
from monitor.forecaster import Forecaster
from monitor.history import History
from monitor.inbox import Inbox
from monitor.maintenance import maintenance_of
from monitor.memory import Memories
from monitor.notify import AppriseNotifier, Delivery
from monitor.outbox import ChannelState
from monitor.policy import bounded_readings, policy_of
from monitor.probes.file_systems import FileSystems
from monitor.result import Result, Status
from monitor.store import MonitorStore, MonitorStoreError
from monitor.suppress import LoadWindow
from monitor.top_processes import RESOURCE_OF_CHECK, top_processes
from monitor.usual import UsualRanges

log = logging.getLogger(__name__)

_TREND_LENGTH = 60
_NEVER_TOLD = ChannelState()
_LINGER = timedelta(minutes=1)
"""How long a load window is remembered after its job ended."""


class Watch:
    """Checks, alerts, messages and actions of one daemon. All methods belong to its loop."""

    def __init__(
        self,
        settings: Settings,
        database: Path,
        clock: Callable[[], datetime],
        plan: Callable[[str, str], str | None] = lambda _check, _entity: None,
        memories: Memories | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        """Open the store; a damaged one is set aside. ``plan``: the emergency plan that a check and entity call for.

        Raises MonitorStoreError.
        """
        self._clock, self._plan = clock, plan
        self._memories = memories or Memories()
        self._inbox = inbox or Inbox(self._memories)
        self._store = MonitorStore(database, set_aside_corrupt=True)
        self.file_systems = FileSystems()
        self._latest: dict[str, dict[str, Result]] = {}
        self._counts: dict[str, list[int]] = {}
        self._windows: dict[Key, LoadWindow] = {}
        self._settings = settings
        self.history = History(self._store)
        self._forecaster = Forecaster(self.history, {})
        self._usual = UsualRanges(self.history, settings.daemon.zone)
        self._clock_steps = ClockSteps(self._memories)
        clock_set_by = self._clock_steps.step(clock()) or timedelta(0)
        self.pool = CheckPool(clock)
        self._alertmanagers = _alertmanagers(settings, clock())
        self._engine = AlertEngine(
            self._store, policies_of(settings), settings.notify, host=settings.daemon.host, now=clock(),
            evidence=self._evidence, surroundings=self._surroundings(), clock_set_by=clock_set_by,
        )  # fmt: skip
        self._delivery = Delivery(self._store, _notifiers(settings))
        self._actions = Actions(self._store, clock())
        self._configure_pool()
        self._inbox.clock_stepped(clock_set_by)

    def reconfigure(self, settings: Settings, now: datetime) -> None:
        """Go by new settings."""
        self._settings = settings
        if self._alertmanagers is None or self._alertmanagers.settings != settings.alertmanager:
            self._alertmanagers = _alertmanagers(settings, now)
        self._engine.reconfigure(policies_of(settings), settings.notify, now, self._surroundings())
        self._delivery.notifiers = _notifiers(settings)
        self._configure_pool()

    def evaluate(self, now: datetime, running: Mapping[Key, Progress | None]) -> bool:
        """Take in what was measured, advance alerts, and send what is owed. Return whether anything changed."""
        if (step := self._clock_steps.step(now)) is not None:
            self._clock_stepped(step, now)
        results = self.pool.collect()
        transitions = self.take(results, now)
        posted = self._engine.tick(now, self._load_windows(running, now))
        self.pool.hasten(self._engine.pending_checks())
        self.pool.run_at_once(self._engine.checks_to_look_at())
        try:
            begun = self._delivery.run_due(now) + self._actions.run_due(now)
        except MonitorStoreError:
            begun = 0  # the engine has the same trouble and reports it
        return bool(results or transitions or posted or begun)

    def take(self, results: Sequence[Result], now: datetime) -> bool:
        """Judge results, from the pool or from the daemon itself. Return whether an alert changed."""
        if not results:
            return False
        self.history.add(results)
        results = self._forecaster.applied(results, now)
        fresh: dict[str, dict[str, Result]] = {}
        for result in results:
            fresh.setdefault(result.check, {})[result.entity] = result
        for check, by_entity in fresh.items():
            runs = self._counts.setdefault(check, [0, 0])
            runs[0] += 1
            runs[1] += any(result.status is Status.UNKNOWN for result in by_entity.values())
        self._latest |= fresh
        transitions = self._engine.take(results, now)
        for transition in transitions:
            fields = {"alert": transition.alert.title, "change": transition.change, "why": transition.reason}
            log.info("alert changed", extra=fields)
        return bool(transitions)

    def tell_alertmanagers(self, now: datetime, *, alive: bool) -> None:
        """Send Alertmanagers what they should know, where there are any. ``alive``: whether all loops advance."""
        if self._alertmanagers is not None:
            self._alertmanagers.tick(self._engine.alerts(), self._engine.silences(now), now, alive=alive)

    def keep_history(self, now: datetime) -> None:
        """Write the samples that have come in. A store that refuses costs nothing but their age."""
        try:
            self.history.flush(now)
        except MonitorStoreError as error:
            log.warning("history not written", extra={"reason": error})
        self._usual.refresh(
            [
                (check, entity, result.readings[0].name)
                for check, results in self._latest.items()
                for entity, result in results.items()
                if result.readings
            ],
            now,
        )

    def problems(self) -> dict[str, str | None]:
        """What is wrong with this half itself, by part; None for a sound part."""
        aside = self._store.database.set_aside
        problem = str(self._engine.store_problem) if self._engine.store_problem else None
        if aside and not problem:
            problem = f"monitor.db was damaged, is now {aside[-1].name}, and history starts afresh"
        stuck = f"{self.pool.stuck} checks are stuck in the system" if self.pool.stuck else None
        dead = self.file_systems.stuck_children
        mounts = f"{dead} questions to file systems hang in the kernel, as on a dead network mount" if dead else None
        silent = self._alertmanagers.problem() if self._alertmanagers else None
        return {"monitor.db": problem, "check pool": stuck, "mounts": mounts, "alertmanager": silent}

    def part(self, now: datetime) -> WatchPart:
        """Return what the view shows of this half."""
        ledger = self._engine.ledger()
        owed = [parcel.created_at for parcel in ledger.parcels.values()]
        return WatchPart(
            checks=tuple(self._check_views()),
            alerts=tuple(_alert_view(standing) for standing in self._engine.alerts()),
            silences=tuple(
                (s.id, str(s), s.author, s.comment, s.expires_at) for s in self._engine.silences(now)
            ),
            scheduler_lag_seconds=self.pool.lag_seconds,
            lags=self.pool.lags.cumulative(),
            lag_seconds_sum=self.pool.lags.seconds,
            outbox_pending=len(owed),
            outbox_oldest_at=min(owed, default=None),
            channels=tuple(
                ChannelView(channel.name, state.given_up, state.failing_since)
                for channel in self._settings.notify
                for state in (ledger.channels.get(channel.name, _NEVER_TOLD),)
            ),
            notifications=(
                *(
                    (channel.name, state.sent, state.failed)
                    for channel in self._settings.notify
                    for state in (ledger.channels.get(channel.name, _NEVER_TOLD),)
                ),
                *([("alertmanager", told.sent, told.failed)] if (told := self._alertmanagers) else []),
            ),
            suppressed=tuple(self._engine.suppressed_counts().items()),
        )  # fmt: skip

    def close(self) -> None:
        """Give messages under way a moment, and close the store."""
        self.pool.stop()
        self._delivery.settle(5)
        self._actions.close(self._clock())
        self.keep_history(self._clock())
        self.file_systems.close()
        self._store.close()

    def _configure_pool(self) -> None:
        self._inbox.expect(self._settings.checks, self._clock())
        checks = build_checks(
            self._settings.checks, file_systems=self.file_systems, clock=self._clock, memories=self._memories,
            inbox=self._inbox, zone=self._settings.daemon.zone,
        )  # fmt: skip
        self._types = {check.name: check.type for check in checks}
        self._latest = {name: results for name, results in self._latest.items() if name in self._types}
        statuses: dict[str, dict[str, Status]] = {}
        for (check, entity), status in self._store.statuses().items():
            statuses.setdefault(check, {})[entity] = status
        self.pool.configure(checks, statuses)
        rules = {check.name: tuple(check.forecast) for check in self._settings.checks}
        self._forecaster.configure(bridge.forecasts(self._settings.jobs, self._settings.repositories) | rules)
        self.history.follow = {check.name: bounded_readings(check) for check in self._settings.checks}
        kept = self._settings.history
        self.history.configure(kept.raw, kept.five_minutes, kept.hours, kept.max_size)

    def _clock_stepped(self, by: timedelta, now: datetime) -> None:
        self._engine.clock_stepped(by, now)
        self._inbox.clock_stepped(by)
        self._windows = {key: window.shifted(by) for key, window in self._windows.items()}

    def _surroundings(self) -> Surroundings:
        daemon = self._settings.daemon
        return Surroundings(
            daemon.host, daemon.zone, maintenance_of(self._settings.maintenance, daemon.zone), self._plan,
            partial(self.history.trend, n=_TREND_LENGTH), self._forecaster.outlook,
            told_elsewhere=lambda: self._alertmanagers.told_here() if self._alertmanagers else (),
            silences=lambda: self._alertmanagers.silences() if self._alertmanagers else (),
            say=language(daemon.language),
        )  # fmt: skip

    def _load_windows(self, running: Mapping[Key, Progress | None], now: datetime) -> list[LoadWindow]:
        """Our own runs explain load on this machine while they last."""
        for key in running:
            self._windows.setdefault(key, LoadWindow(" ".join(filter(None, key[:2])), now))
        for key, window in list(self._windows.items()):
            if key not in running and window.closed_at is None:
                self._windows[key] = LoadWindow(window.reason, window.opened_at, now)
            elif window.closed_at is not None and now - window.closed_at > 2 * _LINGER:
                del self._windows[key]
        return list(self._windows.values())

    def _evidence(self, alert: Alert) -> Sequence[str]:
        resource = RESOURCE_OF_CHECK.get(self._types.get(alert.check, ""))
        if resource is None:
            return ()
        try:
            return top_processes(resource)
        except Exception:
            log.exception("evidence not collected", extra={"alert": alert.title})
            return ()

    def _check_views(self) -> Iterable[CheckView]:
        for name, kind in self._types.items():
            runs, failures = self._counts.get(name, (0, 0))
            results = self._latest.get(name)
            if not results:
                yield CheckView(name, "", kind, Status.UNKNOWN, "has not run yet", None)
                continue
            for entity, result in results.items():
                usual = self._usual.of(name, entity)
                yield CheckView(
                    name, entity, kind, result.status, result.message, result.at, result.took_seconds,
                    result.readings, self.history.trend(name, entity, _TREND_LENGTH), runs, failures,
                    (usual.low, usual.high) if usual else None, self._forecaster.outlook(name, entity),
                )  # fmt: skip


def policies_of(settings: Settings) -> dict[str, Policy]:
    """Return the policies of all checks, configured and our own, by name."""
    own = bridge.policies(settings.jobs, settings.repositories)
    return own | {check.name: policy_of(check) for check in settings.checks}


def _alertmanagers(settings: Settings, now: datetime) -> Alertmanagers | None:
    if settings.alertmanager is None:
        return None
    page = settings.web.external_url or f"http://{settings.web.listen}/"
    return Alertmanagers(settings.alertmanager, Sender(settings.daemon.host, page), now)


def _notifiers(settings: Settings) -> dict[str, AppriseNotifier]:
    return {channel.name: AppriseNotifier(channel.url.get_secret_value()) for channel in settings.notify}


def _alert_view(standing: Standing) -> AlertView:
    alert, acknowledgement = standing.alert, standing.acknowledgement
    return AlertView(
        id=alert.id,
        name=alert.name,
        check=alert.check,
        entity=alert.entity,
        severity=alert.severity.label,
        state=alert.state.value,
        since=alert.since,
        message=alert.message,
        runbook=standing.runbook,
        acknowledged_by=acknowledgement.author if acknowledgement else None,
        suppressed_by=tuple(suppression.reason for suppression in standing.suppressed_by),
        notified_at=standing.notified_at,
        resolved_at=alert.resolved_at if alert.state is State.RESOLVED else None,
        flapping=alert.flapping,
    )
