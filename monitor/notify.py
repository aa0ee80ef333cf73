"""Getting messages out: the seam to a channel, and the delivery of what the outbox owes.

Retrying, order and bookkeeping belong to ``Delivery``, so a notifier only tries once and says how it went. Each channel
is served by a thread of its own while it is being sent to; one that never answers holds nobody else up. No address is
ever logged: most of them are secrets.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from monitor.database import MonitorStoreError
from monitor.outbox import Outbox, Parcel
from monitor.result import Status
from monitor.store import MonitorStore

log = logging.getLogger(__name__)

LONGEST_SEND_SECONDS = 60.0
"""A notifier is back within this time."""
_CLAIM = timedelta(seconds=2 * LONGEST_SEND_SECONDS)
_FIRST_WAIT = timedelta(seconds=10)
_LONGEST_WAIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one channel. ``severity`` is OK when it brings good news only."""

    title: str
    body: str
    severity: Status
    key: str
    """Idempotency key: an attempt with a key that was seen before brings the same message again."""


class NotifyError(Exception):
    """The message could not be handed over. ``permanent``: nor will it be, however often it is tried."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Notifier(Protocol):
    """A channel's other end."""

    def send(self, notification: Notification) -> None:
        """Hand the message over, once, within LONGEST_SEND_SECONDS; never retry.

        Returns when the other side has taken it; raises NotifyError when it has not, or when nobody can know. Called
        from any thread, never twice at a time.
        """
        ...


class AppriseNotifier:
    """Any service that Apprise knows, spoken to by a child process.

    The child keeps Apprise's memory out of the daemon, and one that hangs can be ended.
    """

    def __init__(self, url: str, *, timeout_seconds: float = LONGEST_SEND_SECONDS / 2) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, notification: Notification) -> None:
        """See Notifier."""
        order = {
            "url": self._url,
            "title": notification.title,
            "body": f"{notification.body}\n\n#{notification.key}",
            "severity": notification.severity.label,
        }
        with subprocess.Popen(
            [sys.executable, "-m", "monitor.apprise_sender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
            start_new_session=True,
        ) as child:
            try:
                out, err = child.communicate(json.dumps(order).encode(), timeout=self._timeout_seconds)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                raise NotifyError(f"no answer within {self._timeout_seconds:g} s", permanent=False) from None
        try:
            answer = json.loads(out)
        except ValueError:
            last = (err.decode(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
            message = f"the sender ended with code {child.returncode}: {scrub(last, self._url)}"
            raise NotifyError(message, permanent=False) from None
        if not answer["ok"]:
            raise NotifyError(scrub(answer["error"], self._url), permanent=answer["permanent"])


class Delivery:
    """Sends what the outbox owes. ``run_due`` is called by the daemon's loop and never waits for a channel."""

    def __init__(self, store: MonitorStore, notifiers: Mapping[str, Notifier]) -> None:
        """``notifiers`` by channel."""
        self._outbox = Outbox(store.database)
        self._lock = threading.Lock()
        self._sending: dict[str, threading.Thread] = {}
        self._unrecorded: list[Callable[[], None]] = []
        self.notifiers = notifiers

    def run_due(self, now: datetime) -> int:
        """Begin to send every message that is due, and return how many those are. Raises MonitorStoreError."""
        self._record_late()
        begun = 0
        for parcel in self._outbox.due(now):
            notifier = self.notifiers.get(parcel.channel)
            with self._lock:
                busy = parcel.channel in self._sending
            if notifier is None or busy or not self._outbox.claim(parcel, now, now + _CLAIM):
                continue
            thread = threading.Thread(
                target=self._send, args=(parcel, notifier, now), name=f"notify {parcel.channel}", daemon=True
            )
            with self._lock:
                self._sending[parcel.channel] = thread
            thread.start()
            begun += 1
        return begun

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is being sent. False when something still is after the time."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            threads = list(self._sending.values())
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _send(self, parcel: Parcel, notifier: Notifier, now: datetime) -> None:
        """One attempt, in its own thread. A bug in here leaves the claim to run out, and the thread's traceback."""
        began = time.monotonic()
        message = parcel.message
        try:
            try:
                notifier.send(Notification(message.title, message.body, message.severity, parcel.key))
            except NotifyError as error:
                record = self._failure(parcel, error, now + timedelta(seconds=time.monotonic() - began))
            else:
                log.info("notification sent", extra={"channel": parcel.channel, "title": message.title})
                ended_at = now + timedelta(seconds=time.monotonic() - began)
                record = lambda: self._outbox.delivered(parcel, ended_at)  # noqa: E731 - may have to wait for room
            self._record(record)
        finally:
            with self._lock:
                del self._sending[parcel.channel]

    def _failure(self, parcel: Parcel, error: NotifyError, now: datetime) -> Callable[[], None]:
        fields = {"channel": parcel.channel, "title": parcel.message.title, "problem": str(error)}
        if error.permanent:
            log.error("notification given up", extra=fields)
            return lambda: self._outbox.give_up(parcel, str(error), now)
        # The exponent is bounded: after a week without the channel the power would be astronomic.
        wait = min(_FIRST_WAIT * 2 ** min(parcel.attempts, 10), _LONGEST_WAIT)
        log.warning("notification failed", extra=fields | {"attempt": parcel.attempts + 1, "next_in": str(wait)})
        return lambda: self._outbox.put_back(parcel, str(error), now, now + wait)

    def _record(self, record: Callable[[], None]) -> None:
        """Write down how an attempt went; if that fails, later: a message that was sent is not sent again for it."""
        try:
            record()
        except MonitorStoreError as error:
            log.error("monitor store failed", extra={"problem": str(error), "hint": error.hint})
            with self._lock:
                self._unrecorded.append(record)

    def _record_late(self) -> None:
        while self._unrecorded:
            self._unrecorded[0]()
            with self._lock:
                del self._unrecorded[0]


def scrub(text: str, url: str) -> str:
    """Take every part of an address out of a text: hosts as well, since for many services the token stands there."""
    scheme, _, rest = url.partition("://")
    parts = {part for piece in (rest, unquote(rest)) for part in re.split(r"[/:@?&=,;#\s]+", piece) if len(part) > 2}
    for part in sorted({url, rest, *parts} - {"", scheme}, key=len, reverse=True):
        text = text.replace(part, "***")
    return text
