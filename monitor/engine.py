"""The alert engine's one face for the daemon's loop: results in, messages into the outbox, standings out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.settings import NotifySettings
from monitor.alerting import Alert, Policy, Transition
from monitor.result import Result
from monitor.store import MonitorStore, MonitorStoreError
from monitor.suppress import Acknowledgement, LoadWindow, Silence, Suppression

Evidence = Callable[[Alert], Sequence[str]]
"""Called once when an alert fires or worsens: lines such as the top processes. Must return quickly and never raise."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert with all that is known about it now."""

    alert: Alert
    runbook: str | None
    acknowledgement: Acknowledgement | None
    suppressed_by: tuple[Suppression, ...]
    notified_at: datetime | None
    """When a channel was last told of this episode."""


class AlertEngine:
    """Advances alerts, and tells the difference between what is so and what each channel was told.

    One thread at a time. State is loaded from the store at construction; alerts of checks that are in no policy any
    more resolve as "no longer configured". A store that fails never stops evaluation: changes wait in memory, are
    written as soon as it works again, and ``store_problem`` says why not yet. No method raises MonitorStoreError but
    the constructor.
    """

    store_problem: MonitorStoreError | None

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
    ) -> None:
        """``policies`` by check name (see monitor/policy.py); ``now`` is when the daemon started."""
        raise NotImplementedError

    def take(self, results: Sequence[Result], now: datetime) -> list[Transition]:
        """Advance the alerts of whole runs of checks: each run's results together, all of its entities in it.

        Everything that changed is recorded in one transaction. Results of checks without a policy are dropped.
        """
        raise NotImplementedError

    def tick(self, now: datetime, load_windows: Sequence[LoadWindow] = ()) -> int:
        """Put into the outbox what channels should be told now. Return how many messages that was. Cheap; call it every second."""
        raise NotImplementedError

    def reconfigure(self, policies: Mapping[str, Policy], channels: Sequence[NotifySettings], now: datetime) -> None:
        """Go by new settings. Alerts of checks that are gone resolve as "no longer configured"."""
        raise NotImplementedError

    def alerts(self) -> list[Standing]:
        """Firing first (worst first), then pending, then those resolved within the last day. As of the last tick."""
        raise NotImplementedError

    def silences(self) -> list[Silence]:
        """The active ones, as of the last tick."""
        raise NotImplementedError

    def suppressed_counts(self) -> dict[str, int]:
        """Firing alerts held back now, by kind of suppressor; every kind is there, 0 included."""
        raise NotImplementedError

    def pending_checks(self) -> frozenset[str]:
        """Checks with a pending alert, which should run at their retry interval (a quarter of the usual one)."""
        raise NotImplementedError
