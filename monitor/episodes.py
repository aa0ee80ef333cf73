"""From the log of alerts to episodes: what fired, who took it and when, and when it was over. Reads; decides nothing.

The log keeps 90 days (monitor/store.py), so nothing older can be told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from monitor.alerting import Change
from monitor.result import Status
from monitor.schema import from_text
from monitor.store import AlertLogEntry, MonitorStore

_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """A time during which an alert fired with one severity; ``ended_at`` None while it does."""

    severity: Status
    began_at: datetime
    ended_at: datetime | None = None

    def seconds_within(self, since: datetime, until: datetime) -> float:
        """Return how much of it lies between two moments."""
        return max(0.0, (min(self.ended_at or until, until) - max(self.began_at, since)).total_seconds())


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert from firing to its end."""

    alert_id: str
    name: str
    check: str
    entity: str
    spans: tuple[Span, ...]
    reason: str
    """Why it fired."""
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""

    @property
    def fired_at(self) -> datetime:
        """When it began."""
        return self.spans[0].began_at

    @property
    def resolved_at(self) -> datetime | None:
        """When it was over; None while it is not."""
        return self.spans[-1].ended_at

    @property
    def severity(self) -> Status:
        """The worst it came to."""
        return max(span.severity for span in self.spans)


@dataclass(frozen=True, slots=True)
class Taken:
    """An acknowledgement, cleared or not."""

    alert_id: str
    at: datetime
    by: str


def read_episodes(store: MonitorStore, since: datetime, until: datetime) -> list[Episode]:
    """Return the episodes that touch the time between two moments, oldest first. Raises MonitorStoreError."""
    with store.database.read() as connection:
        sql = "SELECT alert_id, acknowledged_at, author FROM acknowledgements ORDER BY id"
        rows = connection.execute(sql).fetchall()
    taken = [Taken(row["alert_id"], from_text(row["acknowledged_at"]), row["author"]) for row in rows]
    found = episodes(reversed(store.log(limit=_MOST)), taken)
    return [one for one in found if one.fired_at < until and (one.resolved_at is None or one.resolved_at > since)]


def episodes(log: Iterable[AlertLogEntry], taken: Sequence[Taken] = ()) -> list[Episode]:
    """Fold a log, oldest entry first, into episodes in the order in which they fired. Pure."""
    done: list[Episode] = []
    standing: dict[str, Episode] = {}
    for entry in log:
        open_now = standing.get(entry.alert_id)
        if open_now is None:
            if entry.change is Change.FIRED:
                span = Span(entry.severity, entry.at)
                standing[entry.alert_id] = Episode(
                    entry.alert_id, entry.name, entry.check, entry.entity, (span,), entry.reason
                )
        elif entry.change in (Change.WORSENED, Change.EASED):
            before = replace(open_now.spans[-1], ended_at=entry.at)
            after = Span(entry.severity, entry.at)
            standing[entry.alert_id] = replace(open_now, spans=(*open_now.spans[:-1], before, after))
        elif entry.change is Change.RESOLVED:
            last = replace(open_now.spans[-1], ended_at=entry.at)
            done.append(replace(standing.pop(entry.alert_id), spans=(*open_now.spans[:-1], last)))
    by_alert: dict[str, list[Taken]] = {}
    for one in taken:
        by_alert.setdefault(one.alert_id, []).append(one)
    found = (_with_taken(one, by_alert.get(one.alert_id, ())) for one in (*done, *standing.values()))
    return sorted(found, key=lambda one: one.fired_at)


def _with_taken(episode: Episode, taken: Sequence[Taken]) -> Episode:
    for one in taken:
        if one.at >= episode.fired_at and (episode.resolved_at is None or one.at <= episode.resolved_at):
            return replace(episode, acknowledged_at=one.at, acknowledged_by=one.by)
    return episode
