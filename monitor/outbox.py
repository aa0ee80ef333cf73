"""What is still owed to each channel, and what each was last told: rows that outlive the daemon.

A channel is owed at most one message at a time. While it waits (the channel is down, say), newer news takes its place,
so that a channel that comes back hears the truth of that moment once, and the outbox cannot grow. A row is sent by
whoever claims it with a conditional update; a claim runs out, so that a sender that died holds nothing up. Sending is
at least once, always with the row's idempotency key. Refuses to send anything, or to decide what is worth sending.
"""

import json
import secrets
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.database import Database
from monitor.message import Message
from monitor.result import Status
from monitor.schema import from_text, from_text_or_none, to_text, to_text_or_none
from monitor.telling import Item, ItemKind, Told

_LONGEST_WAIT = timedelta(hours=1)
"""Longer than any claim and any wait for the next attempt (see monitor/notify.py)."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A row of the outbox that is neither delivered nor given up."""

    id: int
    channel: str
    key: str
    """Idempotency key: the same for every attempt of the same words."""
    message: Message
    created_at: datetime
    attempts: int
    next_attempt_at: datetime
    claimed_until: datetime | None

    def is_claimed(self, now: datetime) -> bool:
        """Tell whether somebody is sending it."""
        return self.claimed_until is not None and now < self.claimed_until


@dataclass(frozen=True, slots=True)
class ChannelState:
    """One channel's past: when a message was last made for it, messages sent, attempts that failed, messages given
    up.
    """

    last_message_at: datetime | None = None
    sent: int = 0
    failed: int = 0
    given_up: int = 0
    failing_since: datetime | None = None
    """The first failure after the last message that got through."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything the outbox knows, as of one moment. By channel; ``told`` then by alert."""

    told: Mapping[str, Mapping[str, Told]]
    channels: Mapping[str, ChannelState]
    parcels: Mapping[str, Parcel]


class Outbox:
    """The tables ``outbox``, ``told`` and ``channels``. Every method raises MonitorStoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ledger(self) -> Ledger:
        """Read everything at once."""
        with self._database.read() as connection:
            told_rows = connection.execute("SELECT * FROM told").fetchall()
            channel_rows = connection.execute("SELECT * FROM channels").fetchall()
            parcel_rows = connection.execute("SELECT * FROM outbox WHERE ended_at IS NULL").fetchall()
        told: dict[str, dict[str, Told]] = {}
        for row in told_rows:
            told.setdefault(row["channel"], {})[row["alert_id"]] = Told(
                row["alert_id"], row["channel"], Status(row["severity"]), bool(row["sure"]),
                from_text(row["told_at"]), row["title"], row["mark"],
            )  # fmt: skip
        return Ledger(
            told,
            {
                row["channel"]: ChannelState(
                    from_text_or_none(row["last_message_at"]), row["sent"], row["failed"], row["given_up"],
                    from_text_or_none(row["failing_since"]),
                )
                for row in channel_rows
            },
            {row["channel"]: _parcel(row) for row in parcel_rows},
        )

    def post(self, messages: Mapping[str, Message], ledger: Ledger, now: datetime) -> int:
        """Owe each channel its message (by name), instead of the one that ``ledger`` shows if there is one. One without
        items withdraws that. A parcel that was claimed since is left alone: the next look tells what is owed then.
        Return how many messages are new.
        """
        made = 0
        with self._database.write() as connection:
            for channel, message in messages.items():
                parcel = ledger.parcels.get(channel)
                moment = to_text(now)
                values = {
                    "id": parcel.id if parcel else None, "channel": channel, "key": secrets.token_hex(8),
                    "payload": _to_json(message), "now": moment,
                }  # fmt: skip
                if parcel is None:
                    connection.execute(
                        "INSERT INTO outbox (channel, idempotency_key, payload, created_at, next_attempt_at)"
                        " VALUES (:channel, :key, :payload, :now, :now)",
                        values,
                    )
                    connection.execute(
                        "INSERT INTO channels (channel, last_message_at) VALUES (:channel, :now)"
                        " ON CONFLICT (channel) DO UPDATE SET last_message_at = :now",
                        values,
                    )
                    made += 1
                elif message.items:
                    changed = connection.execute(
                        "UPDATE outbox SET payload = :payload, idempotency_key = :key, claimed_until = NULL"
                        " WHERE id = :id AND ended_at IS NULL AND coalesce(claimed_until, '') <= :now",
                        values,
                    )
                    made += changed.rowcount
                else:
                    connection.execute(
                        "DELETE FROM outbox"
                        " WHERE id = :id AND ended_at IS NULL AND coalesce(claimed_until, '') <= :now",
                        values,
                    )
        return made

    def due(self, now: datetime) -> list[Parcel]:
        """Return the parcels whose next attempt is due and that nobody is sending."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT * FROM outbox"
                " WHERE ended_at IS NULL AND next_attempt_at <= :now AND coalesce(claimed_until, '') <= :now",
                {"now": to_text(now)},
            ).fetchall()
        return [_parcel(row) for row in rows]

    def claim(self, parcel: Parcel, now: datetime, until: datetime) -> bool:
        """Take the parcel for one attempt. False when it is not due, changed, or somebody else has it.

        From here on the channel may have the news, so what it was told is no longer sure.
        """
        with self._database.write() as connection:
            claimed = connection.execute(
                "UPDATE outbox SET claimed_until = :until, attempts = attempts + 1"
                " WHERE id = :id AND idempotency_key = :key AND next_attempt_at <= :now AND ended_at IS NULL"
                " AND coalesce(claimed_until, '') <= :now",
                {"id": parcel.id, "key": parcel.key, "now": to_text(now), "until": to_text(until)},
            )
            if claimed.rowcount == 0:
                return False
            for item in parcel.message.items:
                if item.kind is ItemKind.RESOLVED:
                    connection.execute(
                        "UPDATE told SET sure = 0 WHERE alert_id = ? AND channel = ?", (item.alert_id, parcel.channel)
                    )
                else:
                    connection.execute(
                        "INSERT INTO told (alert_id, channel, severity, sure, told_at, title, mark)"
                        " VALUES (?, ?, ?, 0, ?, ?, ?) ON CONFLICT (alert_id, channel)"
                        " DO UPDATE SET sure = min(sure, excluded.mark <> 'flapping')",
                        (item.alert_id, parcel.channel, int(item.severity), to_text(now), item.title, item.mark),
                    )
            return True

    def delivered(self, parcel: Parcel, now: datetime) -> None:
        """Record that the channel has it."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE outbox SET ended_at = ?, outcome = 'delivered', claimed_until = NULL WHERE id = ?",
                (to_text(now), parcel.id),
            )
            _count(connection, parcel.channel, now, sent=1)
            _tell(connection, parcel, now)

    def put_back(self, parcel: Parcel, error: str, now: datetime, next_attempt_at: datetime) -> None:
        """Record an attempt that failed and may go better later."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE outbox SET claimed_until = NULL, next_attempt_at = ?, last_error = ? WHERE id = ?",
                (to_text(next_attempt_at), error, parcel.id),
            )
            _count(connection, parcel.channel, now, failed=1)

    def give_up(self, parcel: Parcel, error: str, now: datetime) -> None:
        """Record that it can never be delivered. The row stays as a dead letter; its news counts as told, so that it is
        tried again when it is to be repeated, not every second.
        """
        with self._database.write() as connection:
            connection.execute(
                "UPDATE outbox SET ended_at = ?, outcome = 'dead', claimed_until = NULL, last_error = ? WHERE id = ?",
                (to_text(now), error, parcel.id),
            )
            _count(connection, parcel.channel, now, failed=1, given_up=1)
            _tell(connection, parcel, now)

    def adopt(self, ledger: Ledger) -> None:
        """Write what is known into a database that was started afresh; parcels are made anew from it."""
        with self._database.write() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO told (alert_id, channel, severity, sure, told_at, title, mark)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (told.alert_id, channel, int(told.severity), int(told.sure), to_text(told.told_at), told.title,
                     told.mark)
                    for channel, by_alert in ledger.told.items()
                    for told in by_alert.values()
                ],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO channels (channel, last_message_at, sent, failed, given_up, failing_since)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (channel, to_text_or_none(state.last_message_at), state.sent, state.failed, state.given_up,
                     to_text_or_none(state.failing_since))
                    for channel, state in ledger.channels.items()
                ],
            )

    def made_since(self, channel: str, since: datetime, now: datetime) -> int:
        """Return how many messages were made for a channel between two moments, for its rate; those kept a week count.
        Ones from the future were made before the clock was set, and say nothing about the rate.
        """
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM outbox WHERE channel = ? AND created_at > ? AND created_at <= ?",
                (channel, to_text(since), to_text(now)),
            ).fetchone()
        return int(row[0])

    def shift(self, by: timedelta) -> None:
        """The clock was set by ``by``: what was told long ago stays as long ago, and what waits goes on to wait."""
        with self._database.write() as connection:
            connection.create_function("later", 1, lambda text: text and to_text(from_text(text) + by))
            connection.execute("UPDATE told SET told_at = later(told_at)")
            connection.execute(
                "UPDATE channels SET last_message_at = later(last_message_at), failing_since = later(failing_since)"
            )
            connection.execute(
                "UPDATE outbox SET created_at = later(created_at), next_attempt_at = later(next_attempt_at),"
                " claimed_until = later(claimed_until)"
            )

    def clip(self, now: datetime) -> None:
        """Take what lies in the future for having happened now."""
        values = {"now": to_text(now), "far": to_text(now + _LONGEST_WAIT)}
        with self._database.write() as connection:
            connection.execute("UPDATE told SET told_at = :now WHERE told_at > :now", values)
            connection.execute(
                "UPDATE channels SET last_message_at = min(last_message_at, :now),"
                " failing_since = min(failing_since, :now)",
                values,
            )
            connection.execute("UPDATE outbox SET created_at = :now WHERE created_at > :now", values)
            connection.execute(
                "UPDATE outbox SET next_attempt_at = :now, claimed_until = NULL"
                " WHERE ended_at IS NULL AND (next_attempt_at > :far OR claimed_until > :far)",
                values,
            )

    def problems(self) -> dict[str, str]:
        """Return by channel what its waiting message failed of last."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT channel, last_error FROM outbox WHERE ended_at IS NULL AND last_error IS NOT NULL"
            ).fetchall()
        return {row["channel"]: row["last_error"] for row in rows}

    def keep_channels(self, names: Collection[str]) -> None:
        """Forget what channels that are no longer configured were told and are owed; their counters stay."""
        with self._database.write() as connection:
            known = connection.execute(
                "SELECT channel FROM told UNION SELECT channel FROM outbox WHERE ended_at IS NULL"
            ).fetchall()
            for (channel,) in known:
                if channel not in names:
                    connection.execute("DELETE FROM told WHERE channel = ?", (channel,))
                    connection.execute("DELETE FROM outbox WHERE channel = ? AND ended_at IS NULL", (channel,))


def _tell(connection: sqlite3.Connection, parcel: Parcel, now: datetime) -> None:
    for item in parcel.message.items:
        if item.kind is ItemKind.RESOLVED:
            connection.execute("DELETE FROM told WHERE alert_id = ? AND channel = ?", (item.alert_id, parcel.channel))
        else:
            connection.execute(
                "INSERT OR REPLACE INTO told (alert_id, channel, severity, sure, told_at, title, mark)"
                " VALUES (?, ?, ?, 1, ?, ?, ?)",
                (item.alert_id, parcel.channel, int(item.severity), to_text(now), item.title, item.mark),
            )


def _count(
    connection: sqlite3.Connection, channel: str, now: datetime, *, sent: int = 0, failed: int = 0, given_up: int = 0
) -> None:
    """Add to a channel's counters; a message that got through ends its failing, the first that did not begins it."""
    connection.execute(
        "INSERT INTO channels (channel, sent, failed, given_up, failing_since) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (channel) DO UPDATE SET sent = sent + excluded.sent, failed = failed + excluded.failed,"
        " given_up = given_up + excluded.given_up, failing_since ="
        " CASE WHEN excluded.sent THEN NULL ELSE coalesce(failing_since, excluded.failing_since) END",
        (channel, sent, failed, given_up, None if sent else to_text(now)),
    )


def _to_json(message: Message) -> str:
    items = [[i.alert_id, i.kind.value, int(i.severity), i.title, to_text(i.due_at), i.mark] for i in message.items]
    return json.dumps(
        {"title": message.title, "body": message.body, "severity": int(message.severity), "items": items},
        ensure_ascii=False,
    )


def _from_json(text: str) -> Message:
    value = json.loads(text)
    items = (
        Item(alert_id, ItemKind(kind), Status(severity), title, from_text(due), *mark)
        for alert_id, kind, severity, title, due, *mark in value["items"]
    )
    return Message(value["title"], value["body"], Status(value["severity"]), tuple(items))


def _parcel(row: sqlite3.Row) -> Parcel:
    return Parcel(
        row["id"], row["channel"], row["idempotency_key"], _from_json(row["payload"]), from_text(row["created_at"]),
        row["attempts"], from_text(row["next_attempt_at"]), from_text_or_none(row["claimed_until"]),
    )  # fmt: skip
