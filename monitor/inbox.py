"""What others tell this daemon: pings of the operator's jobs, and readings that are pushed.

Everything is stored before it is acknowledged. Checks look in here at their own time: nothing is judged on arrival.
Senders are known by a token; which tokens there are comes from the settings.
"""

import contextlib
import hmac
import json
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from config.checks import CheckBase
from monitor.memory import Memories
from monitor.result import Reading, Status

LONGEST_LOG = 10_000
MOST_READINGS = 500
UNITS = frozenset(("ratio", "bytes", "bytes_per_second", "seconds", "celsius", "rpm", "per_second", "count", "number"))
_STATUSES = {status.label: status for status in (Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)}


class UnknownSender(LookupError):  # noqa: N818 - the wording of the answer, not of a failure
    """No check expects this name or token."""


class Unreadable(ValueError):  # noqa: N818
    """What was sent is not what the check takes; the message says why."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a job has reported. Moments are None where it never did."""

    first_expected_at: datetime
    started_at: datetime | None = None
    succeeded_at: datetime | None = None
    ended_at: datetime | None = None
    """When it last reported an end, good or bad."""
    exit_code: int = 0
    run_seconds: float | None = None
    """How long the last run took that was reported from start to end."""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed last."""

    at: datetime
    readings: tuple[Reading, ...]
    status: Status
    message: str


class Inbox:
    """Takes in and keeps. Safe to use from several threads."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._lock = threading.Lock()
        self._heartbeats: dict[str, str] = {}
        self._pushes: dict[str, str] = {}

    def expect(self, checks: Iterable[CheckBase], now: datetime) -> None:
        """Take these checks' senders for known, from now on, and no others."""
        told = [check for check in checks if check.type in ("heartbeat", "push")]
        self._heartbeats, self._pushes = self._senders(told, now) if told else ({}, {})

    def _senders(self, checks: Iterable[CheckBase], now: datetime) -> tuple[dict[str, str], dict[str, str]]:
        """Return the checks' names by what their senders are known by: of heartbeats, and of pushes."""
        from config.checks.data import HeartbeatCheck  # whoever has no such check holds none of their models
        from config.checks.extensions import PushCheck

        heartbeats: dict[str, str] = {}
        pushes: dict[str, str] = {}
        for check in checks:
            if isinstance(check, HeartbeatCheck):
                heartbeats[check.token.get_secret_value() if check.token else check.name] = check.name
                if not self._memories.load(_heartbeat(check.name)):
                    with contextlib.suppress(OSError):  # a full disk shall not keep the daemon from starting
                        self._keep(check.name, Heartbeat(now))
            elif isinstance(check, PushCheck):
                pushes[check.name] = check.token.get_secret_value()
        return heartbeats, pushes

    def ping(self, token: str, kind: str, log: str, now: datetime) -> str:
        """Note what a job says: ``start``, ``success``, ``fail``, ``log``, or its exit code in digits. Returns the
        check's name. Raises UnknownSender, and Unreadable for another word.
        """
        name = next((name for known, name in self._heartbeats.items() if _same(known, token)), None)
        if name is None:
            raise UnknownSender("no heartbeat check has this token")
        with self._lock:
            self._keep(name, _after(self.heartbeat(name, now), kind, log[-LONGEST_LOG:], now))
        return name

    def heartbeat(self, name: str, now: datetime) -> Heartbeat:
        """Return what the job of a check has reported."""
        kept = self._memories.load(_heartbeat(name))
        if not kept:
            return Heartbeat(now)
        moments = {key: datetime.fromisoformat(at) for key, at in kept.items() if _is_moment(key) and at}
        return Heartbeat(**(kept | moments))

    def clock_stepped(self, by: timedelta) -> None:
        """The wall clock was set by so much: a report of a minute ago is still one of a minute ago, and nobody is late
        for it.
        """
        for name in self._heartbeats.values():
            self._shift(_heartbeat(name), by)
        for name in self._pushes:
            self._shift(_push(name), by)

    def _shift(self, memory: str, by: timedelta) -> None:
        with self._lock, contextlib.suppress(OSError):  # it counts in this process all the same
            kept = self._memories.load(memory)
            moments = {key: datetime.fromisoformat(at) + by for key, at in kept.items() if _is_moment(key) and at}
            self._memories.save(memory, kept | {key: at.isoformat() for key, at in moments.items()})

    def push(self, name: str, token: str, body: bytes, now: datetime) -> int:
        """Keep the readings in ``body`` for a check and return how many they are. Raises UnknownSender, Unreadable."""
        known = self._pushes.get(name)
        if not _same(known or "", token) or known is None:
            raise UnknownSender("no push check has this name and token")
        pushed = parse_push(body, now)
        kept = asdict(pushed) | {"at": now.isoformat(), "status": pushed.status.label}
        kept["readings"] = [asdict(reading) for reading in pushed.readings]
        self._memories.save(_push(name), kept)
        return len(pushed.readings)

    def pushed(self, name: str) -> Pushed | None:
        """Return what was pushed last for a check."""
        kept = self._memories.load(_push(name))
        if not kept:
            return None
        readings = tuple(Reading(**reading) for reading in kept["readings"])
        return Pushed(datetime.fromisoformat(kept["at"]), readings, _STATUSES[kept["status"]], kept["message"])

    def _keep(self, name: str, heartbeat: Heartbeat) -> None:
        kept = {
            key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(heartbeat).items()
        }
        self._memories.save(_heartbeat(name), kept, durable=True)


def parse_push(body: bytes, now: datetime) -> Pushed:
    """Read a posted JSON object: names and numbers, or the long form with units and a status. Raises Unreadable."""
    try:
        posted = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    if not isinstance(posted, dict):
        raise Unreadable("not a JSON object")
    if not isinstance(posted.get("readings"), list):
        return Pushed(now, _readings([{"name": name, "value": value} for name, value in posted.items()]), Status.OK, "")
    status = posted.get("status", "ok")
    if not isinstance(status, str) or status not in _STATUSES:
        raise Unreadable(f"status must be one of {', '.join(_STATUSES)}")
    message = posted.get("message", "")
    if not isinstance(message, str):
        raise Unreadable("message must be text")
    return Pushed(now, _readings(posted["readings"]), _STATUSES[status], message[:500])


def _readings(rows: list[Any]) -> tuple[Reading, ...]:
    if len(rows) > MOST_READINGS:
        raise Unreadable(f"more than {MOST_READINGS} readings")
    return tuple(_reading(row) for row in rows)


def _reading(row: Any) -> Reading:
    name = row.get("name") if isinstance(row, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise Unreadable("each reading must be an object with a name of at most 100 printable characters")
    value = row.get("value")
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise Unreadable(f"the value of {name} must be a number")
    unit, entity = row.get("unit", "number"), row.get("entity", "")
    if not isinstance(unit, str) or unit not in UNITS:
        raise Unreadable(f"the unit of {name} must be one of {', '.join(sorted(UNITS))}")
    if not isinstance(entity, str) or len(entity) > 200:
        raise Unreadable(f"the entity of {name} must be text of at most 200 characters")
    return Reading(name, float(value), unit, entity)


def _after(before: Heartbeat, kind: str, log: str, now: datetime) -> Heartbeat:
    if kind == "start":
        return replace(before, started_at=now, log=log)
    if kind == "log":
        return replace(before, log=log)
    codes: Mapping[str, int] = {"success": 0, "fail": 1}
    code = codes.get(kind, int(kind) if kind.isascii() and kind.isdigit() and len(kind) <= 3 else -1)
    if not 0 <= code <= 255:
        raise Unreadable("write start, success, fail, log or an exit code from 0 to 255")
    began = before.started_at
    runs = began is not None and (before.ended_at is None or began >= before.ended_at)
    took = (now - began).total_seconds() if runs and began is not None else None
    succeeded_at = before.succeeded_at if code else now
    return replace(
        before, succeeded_at=succeeded_at, ended_at=now, exit_code=code, run_seconds=took, log=log or before.log
    )


def _is_moment(key: str) -> bool:
    return key == "at" or key.endswith("_at")


def _same(known: str, given: str) -> bool:
    return hmac.compare_digest(known.encode(), given.encode())


def _heartbeat(name: str) -> str:
    return f"heartbeat {name}"


def _push(name: str) -> str:
    return f"push {name}"
