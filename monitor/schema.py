"""The tables of monitor.db, and how an alert becomes a row and back.

Messages are English, and beside each (``said``) is what other languages need to say it. Moments are text, ISO 8601 in
UTC with six decimals, so that they sort as they read and a person with ``sqlite3`` can read them; only samples, which
come by the million, count milliseconds. Refuses to open a connection.
"""

import json
import sqlite3
from datetime import UTC, datetime

from config.said import packed, unpacked
from monitor.alerting import Alert, State, Streak
from monitor.result import Status

MIGRATIONS = (
    """
    CREATE TABLE alerts (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, check_name TEXT NOT NULL, entity TEXT NOT NULL, state TEXT NOT NULL,
        severity INTEGER NOT NULL, since TEXT NOT NULL, message TEXT NOT NULL, judged_at TEXT NOT NULL,
        changed_at TEXT NOT NULL, labels TEXT NOT NULL, warning_since TEXT, warning_samples INTEGER,
        critical_since TEXT, critical_samples INTEGER, clear_since TEXT, stale_since TEXT, fired_at TEXT,
        resolved_at TEXT, ended_because TEXT NOT NULL, evidence TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE alert_log (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, alert_id TEXT NOT NULL, name TEXT NOT NULL, check_name TEXT NOT NULL,
        entity TEXT NOT NULL, change TEXT NOT NULL, state TEXT NOT NULL, severity INTEGER NOT NULL, reason TEXT NOT NULL
    );
    CREATE INDEX alert_log_by_alert ON alert_log (alert_id, at);
    CREATE INDEX alert_log_by_time ON alert_log (at);
    CREATE TABLE check_state (
        check_name TEXT NOT NULL, entity TEXT NOT NULL, status INTEGER NOT NULL, PRIMARY KEY (check_name, entity)
    ) WITHOUT ROWID;
    CREATE TABLE silences (
        id INTEGER PRIMARY KEY AUTOINCREMENT, matchers TEXT NOT NULL, author TEXT NOT NULL, comment TEXT NOT NULL,
        starts_at TEXT NOT NULL, expires_at TEXT NOT NULL
    );
    CREATE TABLE acknowledgements (
        id INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, severity INTEGER NOT NULL, author TEXT NOT NULL,
        comment TEXT NOT NULL, acknowledged_at TEXT NOT NULL, expires_at TEXT, cleared_at TEXT, cleared_because TEXT
    );
    CREATE INDEX acknowledgements_open ON acknowledgements (alert_id) WHERE cleared_at IS NULL;
    CREATE TABLE told (
        alert_id TEXT NOT NULL, channel TEXT NOT NULL, severity INTEGER NOT NULL, sure INTEGER NOT NULL,
        told_at TEXT NOT NULL, title TEXT NOT NULL, PRIMARY KEY (alert_id, channel)
    ) WITHOUT ROWID;
    CREATE TABLE channels (
        channel TEXT PRIMARY KEY, last_message_at TEXT, sent INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, idempotency_key TEXT NOT NULL UNIQUE,
        payload TEXT NOT NULL, created_at TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
        next_attempt_at TEXT NOT NULL, claimed_until TEXT, ended_at TEXT, outcome TEXT,
        last_error TEXT
    );
    CREATE UNIQUE INDEX outbox_one_owed_a_channel ON outbox (channel) WHERE ended_at IS NULL;
    CREATE TABLE actions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, check_name TEXT NOT NULL, entity TEXT NOT NULL,
        command TEXT NOT NULL, most INTEGER NOT NULL, period_seconds REAL NOT NULL, requested_at TEXT NOT NULL,
        started_at TEXT, ended_at TEXT, outcome TEXT NOT NULL, exit_code INTEGER, output TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX actions_open ON actions (outcome) WHERE ended_at IS NULL;
    CREATE INDEX actions_by_command ON actions (check_name, command, started_at);
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, check_name TEXT NOT NULL, entity TEXT NOT NULL, reading TEXT NOT NULL,
        unit TEXT NOT NULL, UNIQUE (check_name, entity, reading)
    );
    CREATE TABLE samples (
        series INTEGER NOT NULL, at_ms INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (series, at_ms)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE alerts ADD COLUMN warning_misses INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE alerts ADD COLUMN critical_misses INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE alerts ADD COLUMN clear_samples INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE alerts ADD COLUMN recent TEXT NOT NULL DEFAULT '';
    ALTER TABLE alerts ADD COLUMN reading TEXT NOT NULL DEFAULT '';
    ALTER TABLE alerts ADD COLUMN value REAL;
    ALTER TABLE alerts ADD COLUMN flips INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE alerts ADD COLUMN flapping INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE acknowledgements ADD COLUMN reading TEXT NOT NULL DEFAULT '';
    ALTER TABLE acknowledgements ADD COLUMN baseline REAL;
    ALTER TABLE told ADD COLUMN mark TEXT NOT NULL DEFAULT '';
    ALTER TABLE channels ADD COLUMN given_up INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE channels ADD COLUMN failing_since TEXT;
    ALTER TABLE actions ADD COLUMN cooldown_seconds REAL NOT NULL DEFAULT 0;
    CREATE TABLE attention (
        alert_id TEXT PRIMARY KEY, before_seconds REAL NOT NULL, since TEXT
    ) WITHOUT ROWID;
    CREATE TABLE rollups (
        series INTEGER NOT NULL, span_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL, count INTEGER NOT NULL,
        low REAL NOT NULL, mean REAL NOT NULL, high REAL NOT NULL, p95 REAL NOT NULL,
        PRIMARY KEY (series, span_ms, at_ms)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE parents (check_name TEXT PRIMARY KEY, ran_at TEXT NOT NULL) WITHOUT ROWID",
    """
    ALTER TABLE alerts ADD COLUMN said TEXT;
    ALTER TABLE alert_log ADD COLUMN said TEXT
    """,
)
"""What brings a file from one version to the next; ``PRAGMA user_version`` is the number of those it has had."""

SAVE_ALERT = """
    INSERT OR REPLACE INTO alerts (
        id, name, check_name, entity, state, severity, since, message, judged_at, changed_at, labels,
        warning_since, warning_samples, critical_since, critical_samples, clear_since, stale_since, fired_at,
        resolved_at, ended_because, evidence, warning_misses, critical_misses, clear_samples, recent, reading, value,
        flips, flapping, said
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def to_text(moment: datetime) -> str:
    """Write a moment as it stands in the database."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def from_text(text: str) -> datetime:
    """Read a moment from the database."""
    return datetime.fromisoformat(text)


def to_text_or_none(moment: datetime | None) -> str | None:
    """Write a moment that may be missing."""
    return None if moment is None else to_text(moment)


def from_text_or_none(text: str | None) -> datetime | None:
    """Read a moment that may be missing."""
    return None if text is None else from_text(text)


def alert_to_row(alert: Alert) -> tuple[object, ...]:
    """Return the values for ``SAVE_ALERT``."""
    warning, critical = alert.warning, alert.critical
    return (
        alert.id, alert.name, alert.check, alert.entity, alert.state.value, int(alert.severity), to_text(alert.since),
        alert.message, to_text(alert.judged_at), to_text(alert.changed_at), json.dumps(dict(alert.labels)),
        to_text(warning.since) if warning else None, warning.samples if warning else None,
        to_text(critical.since) if critical else None, critical.samples if critical else None,
        to_text_or_none(alert.clear_since), to_text_or_none(alert.stale_since), to_text_or_none(alert.fired_at),
        to_text_or_none(alert.resolved_at), alert.ended_because, json.dumps(alert.evidence),
        warning.misses if warning else 0, critical.misses if critical else 0, alert.clear_samples, alert.recent,
        alert.reading, alert.value, alert.flips, alert.flapping, packed(alert.message),
    )  # fmt: skip


def alert_from_row(row: sqlite3.Row) -> Alert:
    """Return the alert of a row of ``alerts``."""
    return Alert(
        id=row["id"], name=row["name"], check=row["check_name"], entity=row["entity"], state=State(row["state"]),
        severity=Status(row["severity"]), since=from_text(row["since"]),
        message=unpacked(row["message"], row["said"]),
        judged_at=from_text(row["judged_at"]), changed_at=from_text(row["changed_at"]),
        labels=json.loads(row["labels"]), warning=_streak(row, "warning"), critical=_streak(row, "critical"),
        clear_since=from_text_or_none(row["clear_since"]), stale_since=from_text_or_none(row["stale_since"]),
        fired_at=from_text_or_none(row["fired_at"]), resolved_at=from_text_or_none(row["resolved_at"]),
        ended_because=row["ended_because"], evidence=tuple(json.loads(row["evidence"])),
        clear_samples=row["clear_samples"], recent=row["recent"], reading=row["reading"], value=row["value"],
        flips=row["flips"], flapping=bool(row["flapping"]),
    )  # fmt: skip


def _streak(row: sqlite3.Row, level: str) -> Streak | None:
    since = row[f"{level}_since"]
    return None if since is None else Streak(
        from_text(since), row[f"{level}_samples"], row[f"{level}_misses"]
    )
