"""What the monitor remembers about alerts: the alerts themselves, their log, silences and acknowledgements.

The daemon records all that one round of results changed in one transaction, before anybody is told (``record``). The
command line opens the same file at any time, whether the daemon runs or not, and writes silences and
acknowledgements; the daemon sees them at its next tick. Refuses to decide anything.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from config.said import packed, unpacked
from monitor.alerting import ActionPolicy, Alert, Change, State, Transition
from monitor.database import Database, MonitorStoreCorrupt, MonitorStoreError, MonitorStoreFull
from monitor.matching import Matcher
from monitor.result import Status
from monitor.schema import (
    SAVE_ALERT,
    alert_from_row,
    alert_to_row,
    from_text,
    from_text_or_none,
    to_text,
    to_text_or_none,
)
from monitor.suppress import Acknowledgement, Silence
from monitor.telling import Attention

__all__ = [
    "ActionRequest", "AlertLogEntry", "Changes", "MonitorStore", "MonitorStoreCorrupt", "MonitorStoreError",
    "MonitorStoreFull", "NoSuchAlert",
]  # fmt: skip

_KEEP_LOG = timedelta(days=90)
_KEEP_PARCELS = timedelta(days=7)


class NoSuchAlert(LookupError):  # noqa: N818 - says what it is
    """No open alert has this identity, or several begin with it. ``hint`` says how to find the right one."""

    hint = "keepwatch alerts lists them with their identities"


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """A command that an alert asks for, once."""

    alert_id: str
    check: str
    entity: str
    action: ActionPolicy
    at: datetime


@dataclass(slots=True)
class Changes:
    """What is not recorded yet. Adding to it what came later keeps the last word on each alert and every transition."""

    alerts: dict[str, Alert | None] = field(default_factory=dict)
    """By id; None for one that is to be forgotten."""
    transitions: list[Transition] = field(default_factory=list)
    statuses: dict[tuple[str, str], Status | None] = field(default_factory=dict)
    """By check and entity; None when the entity is gone."""
    acknowledged_below: dict[str, Status] = field(default_factory=dict)
    """By alert: acknowledgements given at a lower severity than this are over."""
    actions: list[ActionRequest] = field(default_factory=list)
    attention: dict[str, Attention | None] = field(default_factory=dict)
    """By alert: for how long it has fired unsuppressed; None when it is over."""
    ran_at: dict[str, datetime | None] = field(default_factory=dict)
    """By check that others depend on: when it last had results; None when nobody depends on it any more."""

    def __bool__(self) -> bool:
        return bool(
            self.alerts or self.transitions or self.statuses or self.acknowledged_below or self.actions
            or self.attention or self.ran_at
        )  # fmt: skip

    @property
    def matter(self) -> bool:
        """Whether losing them in a power cut would lose more than a count."""
        return bool(self.transitions or self.actions)


@dataclass(frozen=True, slots=True)
class AlertLogEntry:
    """One transition as it was logged."""

    at: datetime
    alert_id: str
    name: str
    check: str
    entity: str
    change: Change
    state: State
    severity: Status
    reason: str


class MonitorStore:
    """The tables of alerts. Every method raises MonitorStoreError. Safe to use from several threads."""

    def __init__(self, path: Path, *, set_aside_corrupt: bool = False, to_read: bool = False) -> None:
        """Open or make the file. Only the daemon sets ``set_aside_corrupt``: a damaged file is renamed then
        (the name is in ``database.set_aside``) and an empty one takes its place. ``to_read`` makes none.
        """
        self.database = Database(path, set_aside_corrupt=set_aside_corrupt, to_read=to_read)

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def record(self, changes: Changes, now: datetime) -> None:
        """Write everything, or nothing."""
        # What ends acknowledgements matters to those who announce; the rest does not.
        about = "" if changes.acknowledged_below else "alerts"
        with self.database.write(durable=changes.matter, about=about) as connection:
            connection.executemany(
                SAVE_ALERT, [alert_to_row(alert) for alert in changes.alerts.values() if alert is not None]
            )
            connection.executemany(
                "DELETE FROM alerts WHERE id = ?", [(key,) for key, alert in changes.alerts.items() if alert is None]
            )
            connection.executemany(
                "INSERT INTO alert_log (at, alert_id, name, check_name, entity, change, state, severity, reason, said)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_log_row(transition) for transition in changes.transitions],
            )
            for (check, entity), status in changes.statuses.items():
                if status is None:
                    connection.execute("DELETE FROM check_state WHERE check_name = ? AND entity = ?", (check, entity))
                else:
                    connection.execute(
                        "INSERT OR REPLACE INTO check_state (check_name, entity, status) VALUES (?, ?, ?)",
                        (check, entity, int(status)),
                    )
            connection.executemany(
                "UPDATE acknowledgements SET cleared_at = ?, cleared_because = 'the alert got worse or ended'"
                " WHERE alert_id = ? AND severity < ? AND cleared_at IS NULL AND baseline IS NULL",
                [(to_text(now), key, int(severity)) for key, severity in changes.acknowledged_below.items()],
            )
            connection.executemany(
                "INSERT INTO actions"
                " (alert_id, check_name, entity, command, most, period_seconds, cooldown_seconds, requested_at,"
                " outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'requested')",
                [
                    (one.alert_id, one.check, one.entity, one.action.run, one.action.limit,
                     one.action.period.total_seconds(), one.action.cooldown.total_seconds(), to_text(one.at))
                    for one in changes.actions
                ],
            )  # fmt: skip
            connection.executemany(
                "INSERT OR REPLACE INTO attention (alert_id, before_seconds, since) VALUES (?, ?, ?)",
                [
                    (key, one.before.total_seconds(), to_text_or_none(one.since))
                    for key, one in changes.attention.items()
                    if one is not None
                ],
            )
            connection.executemany(
                "DELETE FROM attention WHERE alert_id = ?",
                [(key,) for key, one in changes.attention.items() if one is None],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO parents (check_name, ran_at) VALUES (?, ?)",
                [(check, to_text(at)) for check, at in changes.ran_at.items() if at is not None],
            )
            connection.executemany(
                "DELETE FROM parents WHERE check_name = ?",
                [(check,) for check, at in changes.ran_at.items() if at is None],
            )

    def alerts(self) -> list[Alert]:
        """Return every alert that is kept: open ones, and those resolved lately."""
        return [alert_from_row(row) for row in self._all("SELECT * FROM alerts ORDER BY since")]

    def statuses(self) -> dict[tuple[str, str], Status]:
        """Return the last judged status (never unknown or absent) by check and entity, for sticky thresholds."""
        rows = self._all("SELECT * FROM check_state")
        return {(row["check_name"], row["entity"]): Status(row["status"]) for row in rows}

    def attention(self) -> dict[str, Attention]:
        """Return by alert for how long it has fired unsuppressed."""
        return {
            row["alert_id"]: Attention(timedelta(seconds=row["before_seconds"]), from_text_or_none(row["since"]))
            for row in self._all("SELECT * FROM attention")
        }

    def ran_at(self) -> dict[str, datetime]:
        """Return when each check that others depend on last had results."""
        return {row["check_name"]: from_text(row["ran_at"]) for row in self._all("SELECT * FROM parents")}

    def log(self, alert_id: str | None = None, limit: int = 100) -> list[AlertLogEntry]:
        """Return transitions, newest first, of one alert or of all."""
        # Two statements, since only a plain condition finds the index.
        where = "" if alert_id is None else "WHERE alert_id = :alert_id"
        sql = f"SELECT * FROM alert_log {where} ORDER BY id DESC LIMIT :limit"  # noqa: S608 - constants of this module
        rows = self._all(sql, {"alert_id": alert_id, "limit": limit})
        return [
            AlertLogEntry(
                from_text(row["at"]), row["alert_id"], row["name"], row["check_name"], row["entity"],
                Change(row["change"]), State(row["state"]), Status(row["severity"]),
                unpacked(row["reason"], row["said"]),
            )
            for row in rows
        ]  # fmt: skip

    def find(self, prefix: str, *, open_only: bool = True) -> Alert:
        """Return the one open alert of that identity or title; failing that, of that check or beginning of an identity.

        Without ``open_only`` those resolved within the last day count as well. Raises NoSuchAlert.
        """
        standing = [alert for alert in self.alerts() if (alert.is_open or not open_only) and prefix]
        found = [alert for alert in standing if prefix in (alert.id, alert.title)] or [
            alert for alert in standing if alert.id.startswith(prefix) or alert.check == prefix
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoSuchAlert(f"no alert '{prefix}' is pending or firing" + ("" if open_only else ", or was lately"))
        raise NoSuchAlert(f"'{prefix}' may mean any of {', '.join(f'{alert.id} ({alert.title})' for alert in found)}")

    def add_silence(
        self, matchers: Sequence[Matcher], author: str, comment: str, starts_at: datetime, expires_at: datetime
    ) -> Silence:
        """Record a silence. Raises ValueError when it has no matchers or would end before it begins."""
        if not matchers:
            raise ValueError("a silence without matchers would hide all alerts; name a label, as in check=cpu")
        if expires_at <= starts_at:
            raise ValueError(f"a silence from {to_text(starts_at)} to {to_text(expires_at)} would never count")
        with self.database.write() as connection:
            row = connection.execute(
                "INSERT INTO silences (matchers, author, comment, starts_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                (json.dumps([str(m) for m in matchers]), author, comment, to_text(starts_at), to_text(expires_at)),
            )
        assert row.lastrowid is not None
        return Silence(row.lastrowid, tuple(matchers), author, comment, starts_at, expires_at)

    def expire_silence(self, silence_id: int, now: datetime) -> bool:
        """End a silence now. False when there is none of that number, or it is over."""
        with self.database.write() as connection:
            changed = connection.execute(
                "UPDATE silences SET expires_at = ? WHERE id = ? AND expires_at > ?",
                (to_text(now), silence_id, to_text(now)),
            )
        return changed.rowcount == 1

    def silences(self, now: datetime) -> list[Silence]:
        """Return those that are not over, the next to end first."""
        rows = self._all("SELECT * FROM silences WHERE expires_at > :now ORDER BY expires_at", {"now": to_text(now)})
        return [
            Silence(
                row["id"], tuple(Matcher.parse(text) for text in json.loads(row["matchers"])), row["author"],
                row["comment"], from_text(row["starts_at"]), from_text(row["expires_at"]),
            )
            for row in rows
        ]  # fmt: skip

    def acknowledge(
        self,
        prefix: str,
        author: str,
        comment: str,
        now: datetime,
        expires_at: datetime | None = None,
        *,
        as_baseline: bool = False,
    ) -> Acknowledgement:
        """Record that somebody has the alert (see ``find``), instead of whoever had it; ``as_baseline`` accepts the
        value that its reading has now. Raises NoSuchAlert, ValueError when it has no value.
        """
        # One transaction: what is found open is still open when this is written, and its end will clear it.
        with self.database.write() as connection:
            alert = self.find(prefix)
            made = Acknowledgement(alert.id, alert.severity, author, comment, now, expires_at)
            if as_baseline:
                if alert.value is None:
                    raise ValueError(f"{alert.title} is not about a number; acknowledge it without a baseline")
                made = replace(made, reading=alert.reading, baseline=alert.value)
            _clear(connection, alert.id, "acknowledged again", now)
            connection.execute(_ACKNOWLEDGE, _acknowledgement_row(made))
        return made

    def unacknowledge(self, prefix: str, now: datetime) -> bool:
        """Take an acknowledgement back, be it of an alert that is over. False when it had none. Raises NoSuchAlert."""
        alert = self.find(prefix, open_only=False)
        with self.database.write() as connection:
            return _clear(connection, alert.id, "taken back", now)

    def acknowledgements(self) -> dict[str, Acknowledgement]:
        """Return those that were not cleared, by alert; whether one still counts is for ``covers`` to say."""
        rows = self._all("SELECT * FROM acknowledgements WHERE cleared_at IS NULL ORDER BY id")
        return {
            row["alert_id"]: Acknowledgement(
                row["alert_id"], Status(row["severity"]), row["author"], row["comment"],
                from_text(row["acknowledged_at"]), from_text_or_none(row["expires_at"]), row["reading"],
                row["baseline"],
            )
            for row in rows
        }  # fmt: skip

    def adopt(self, silences: Sequence[Silence], acknowledgements: Mapping[str, Acknowledgement]) -> None:
        """Write what a daemon still knows into a database that was started afresh."""
        with self.database.write() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO silences (id, matchers, author, comment, starts_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (s.id, json.dumps([str(m) for m in s.matchers]), s.author, s.comment, to_text(s.starts_at),
                     to_text(s.expires_at))
                    for s in silences
                ],
            )  # fmt: skip
            connection.executemany(_ACKNOWLEDGE, [_acknowledgement_row(one) for one in acknowledgements.values()])

    def prune(self, now: datetime) -> None:
        """Forget what nobody looks at any more: logs after 90 days, delivered messages after 7."""
        log, parcels = to_text(now - _KEEP_LOG), to_text(now - _KEEP_PARCELS)
        with self.database.write(durable=False) as connection:
            connection.execute("DELETE FROM alert_log WHERE at < ?", (log,))
            connection.execute("DELETE FROM silences WHERE expires_at < ?", (log,))
            connection.execute("DELETE FROM acknowledgements WHERE cleared_at < ?", (log,))
            connection.execute("DELETE FROM actions WHERE requested_at < ? AND ended_at IS NOT NULL", (log,))
            connection.execute("DELETE FROM outbox WHERE ended_at < ?", (parcels,))

    def _all(self, sql: str, values: Mapping[str, object] | None = None) -> list[sqlite3.Row]:
        with self.database.read() as connection:
            return connection.execute(sql, values or {}).fetchall()


_ACKNOWLEDGE = (
    "INSERT INTO acknowledgements"
    " (alert_id, severity, author, comment, acknowledged_at, expires_at, reading, baseline)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def _acknowledgement_row(one: Acknowledgement) -> tuple[object, ...]:
    return (
        one.alert_id, int(one.severity), one.author, one.comment, to_text(one.acknowledged_at),
        to_text_or_none(one.expires_at), one.reading, one.baseline,
    )  # fmt: skip


def _log_row(transition: Transition) -> tuple[object, ...]:
    alert = transition.alert
    return (
        to_text(transition.at), alert.id, alert.name, alert.check, alert.entity, transition.change.value,
        alert.state.value, int(alert.severity), transition.reason, packed(transition.reason),
    )  # fmt: skip


def _clear(connection: sqlite3.Connection, alert_id: str, because: str, now: datetime) -> bool:
    changed = connection.execute(
        "UPDATE acknowledgements SET cleared_at = ?, cleared_because = ? WHERE alert_id = ? AND cleared_at IS NULL",
        (to_text(now), because, alert_id),
    )
    return changed.rowcount > 0
