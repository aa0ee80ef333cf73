"""Commands that a critical alert starts: recorded, capped, started, watched and reaped without anybody waiting.

A request is written together with the transition that asks for it. It runs at most once: a daemon that dies in between
finds it "interrupted" and does not try again. Every request ends in a row that says what became of it, the capped and
the dropped ones included. Silences and acknowledgements hold back messages, not these. Refuses to judge success: the
alert itself shows whether the command helped.
"""

import logging
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import IO

from monitor.alerting import State
from monitor.result import Status
from monitor.schema import from_text, from_text_or_none, to_text
from monitor.store import MonitorStore

log = logging.getLogger(__name__)

_KEPT_OUTPUT_BYTES = 4096
_READ_BYTES = 65_536
_READS = 16
"""How often one look reads at most, so that a command that never stops talking holds nobody up."""


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One request and what became of it.

    ``outcome``: requested, running, ended (see ``exit_code``; negative for a signal), timed out, failed to start,
    capped, cooling down, dropped (the alert was over), interrupted (the daemon ended first).
    """

    id: int
    alert_id: str
    check: str
    entity: str
    command: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str
    exit_code: int | None
    output: str
    """The last 4 KiB of both its streams."""


@dataclass(slots=True)
class _Running:
    row: int
    check: str
    process: subprocess.Popen[bytes]
    pipe: IO[bytes]
    deadline: float
    output: bytearray = field(default_factory=bytearray)
    outcome: str = "ended"

    def read(self) -> None:
        """Take what the command has written, so that it never blocks on a full pipe, and keep the end of it."""
        for _ in range(_READS):
            if not (chunk := self.pipe.read(_READ_BYTES)):
                return
            self.output += chunk
            del self.output[:-_KEPT_OUTPUT_BYTES]


class Actions:
    """Starts requested commands and reaps those that ended; every call returns at once. One thread at a time."""

    def __init__(self, store: MonitorStore, now: datetime, *, timeout_seconds: float = 600.0) -> None:
        """A command that runs longer than the timeout is killed with all its children. Raises MonitorStoreError."""
        self._store, self._database = store, store.database
        self._timeout_seconds = timeout_seconds
        self._running: list[_Running] = []
        with self._database.write() as connection:
            connection.execute(
                "UPDATE actions SET outcome = 'interrupted', ended_at = ? WHERE outcome = 'running'", (to_text(now),)
            )

    def run_due(self, now: datetime) -> int:
        """Reap what ended, end what takes too long, start what was requested and is allowed; return how many started.

        Raises MonitorStoreError; whatever is not recorded by then is picked up by the next call.
        """
        self._reap(now)
        with self._database.read() as connection:
            requested = connection.execute("SELECT * FROM actions WHERE outcome = 'requested' ORDER BY id").fetchall()
        return sum(self._start(row, now) for row in requested)

    def log(self, limit: int = 100) -> list[ActionEntry]:
        """Return requests, newest first. Raises MonitorStoreError."""
        return action_log(self._store, limit)

    def close(self, now: datetime) -> None:
        """End what still runs, and record that."""
        for running in self._running:
            _kill(running.process)
            running.outcome = "interrupted"
            self._end(running, now)
        self._running.clear()

    def _start(self, row: sqlite3.Row, now: datetime) -> bool:
        """Decide and record, then act."""
        with self._database.write() as connection:
            refusal = _refusal(connection, row, now)
            connection.execute(
                "UPDATE actions SET outcome = ?, started_at = ?, ended_at = ? WHERE id = ?",
                (refusal, None, to_text(now), row["id"]) if refusal else ("running", to_text(now), None, row["id"]),
            )
            alert = connection.execute("SELECT * FROM alerts WHERE id = ?", (row["alert_id"],)).fetchone()
        if refusal:
            log.info("action not run", extra={"check": row["check_name"], "reason": refusal})
            return False
        environment = os.environ | {
            "KEEPWATCH_ALERT": row["alert_id"], "KEEPWATCH_CHECK": row["check_name"],
            "KEEPWATCH_ENTITY": row["entity"], "KEEPWATCH_SEVERITY": Status(alert["severity"]).label,
            "KEEPWATCH_MESSAGE": alert["message"].replace("\0", " "),
        }  # fmt: skip
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", row["command"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True, env=environment, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            with self._database.write() as connection:
                connection.execute(
                    "UPDATE actions SET outcome = 'failed to start', ended_at = ?, output = ? WHERE id = ?",
                    (to_text(now), str(error), row["id"]),
                )
            log.error("action failed to start", extra={"check": row["check_name"], "reason": str(error)})
            return False
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        deadline = time.monotonic() + self._timeout_seconds
        self._running.append(_Running(row["id"], row["check_name"], process, process.stdout, deadline))
        log.info("action started", extra={"check": row["check_name"], "pid": process.pid})
        return True

    def _reap(self, now: datetime) -> None:
        for running in list(self._running):
            running.read()
            if running.process.poll() is None:
                if time.monotonic() < running.deadline:
                    continue
                _kill(running.process)
                running.outcome = "timed out"
            running.read()
            self._end(running, now)
            self._running.remove(running)

    def _end(self, running: _Running, now: datetime) -> None:
        code = running.process.wait()
        with self._database.write() as connection:
            connection.execute(
                "UPDATE actions SET outcome = ?, ended_at = ?, exit_code = ?, output = ? WHERE id = ?",
                (running.outcome, to_text(now), code, running.output.decode(errors="replace"), running.row),
            )
        running.pipe.close()
        log.info("action over", extra={"check": running.check, "outcome": running.outcome, "exit_code": code})


def action_log(store: MonitorStore, limit: int = 100) -> list[ActionEntry]:
    """Return requests, newest first. Raises MonitorStoreError."""
    with store.database.read() as connection:
        rows = connection.execute("SELECT * FROM actions ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
    return [
        ActionEntry(
            row["id"], row["alert_id"], row["check_name"], row["entity"], row["command"],
            from_text(row["requested_at"]), from_text_or_none(row["started_at"]),
            from_text_or_none(row["ended_at"]), row["outcome"], row["exit_code"], row["output"],
        )
        for row in rows
    ]  # fmt: skip


def _refusal(connection: sqlite3.Connection, row: sqlite3.Row, now: datetime) -> str | None:
    """Return why the request is not carried out, if it is not."""
    still = connection.execute(
        "SELECT count(*) FROM alerts WHERE id = ? AND state = ? AND severity = ?",
        (row["alert_id"], State.FIRING.value, int(Status.CRITICAL)),
    ).fetchone()[0]
    if not still:
        return "dropped"
    # The rows are an audit and stay as written. One from the future was written before the clock was set back: when
    # that command really ran nobody knows, and waiting for the old time to come by again would help nobody.
    begun = connection.execute(
        "SELECT count(*) FROM actions WHERE check_name = ? AND command = ? AND started_at > ? AND started_at <= ?",
        (row["check_name"], row["command"], to_text(now - timedelta(seconds=row["period_seconds"])), to_text(now)),
    ).fetchone()[0]
    if begun >= row["most"]:
        return "capped"
    last = connection.execute(
        "SELECT count(*) FROM actions WHERE check_name = ? AND command = ? AND exit_code IS NOT NULL AND ended_at > ?"
        " AND ended_at <= ?",
        (row["check_name"], row["command"], to_text(now - timedelta(seconds=row["cooldown_seconds"])), to_text(now)),
    ).fetchone()[0]
    return "cooling down" if last else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
