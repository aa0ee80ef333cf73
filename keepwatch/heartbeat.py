"""The dead man's switch: proves to others that this daemon's own loops advance.

Three loops have to move before anyone is told that all is well: checks are being evaluated, the notifier's queue is
being worked on, and the scheduler looks at what is due. A bare timer would go on beating over a dead daemon.
"""

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime

from config.settings import HeartbeatSettings
from config.units import format_duration

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0


class Pulse:
    """Notes when each loop last advanced. ``beat`` is called by the loops, ``stalled`` by whoever wants to know."""

    def __init__(self, loops: tuple[str, ...], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._beats = dict.fromkeys(loops, monotonic())

    def beat(self, loop: str) -> None:
        """Note that ``loop`` has done a whole turn."""
        self._beats[loop] = self._monotonic()

    def stalled(self, limit_seconds: float) -> list[str]:
        """Return the loops that have not advanced for longer than that."""
        now = self._monotonic()
        silent = {loop: now - at for loop, at in self._beats.items()}
        return [f"{loop} for {format_duration(age)}" for loop, age in silent.items() if age > limit_seconds]


class Heartbeat:
    """Fetches the operator's URL now and then, on a thread of its own so that a slow server delays nobody."""

    def __init__(self, settings: HeartbeatSettings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._last = float("-inf")
        self._busy = threading.Lock()
        self.last_success_at: datetime | None = None

    def tick(self, pulse: Pulse, monotonic_now: float) -> None:
        """Send a beat when one is due and nothing has stalled. Never waits."""
        every = self._settings.every.total_seconds()
        if monotonic_now - self._last < every:
            return
        self._last = monotonic_now
        if stalled := pulse.stalled(max(every, 30.0)):
            log.error("heartbeat withheld", extra={"stalled": ", ".join(stalled)})
        elif self._busy.acquire(blocking=False):
            threading.Thread(target=self._send, name="heartbeat", daemon=True).start()

    def _send(self) -> None:
        address = self._settings.url.get_secret_value()
        request = urllib.request.Request(address, headers={"User-Agent": "keepwatch"})  # noqa: S310 - http(s) by settings
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310 - http(s) by settings
                self.last_success_at = self._clock()
        except (urllib.error.URLError, OSError, ValueError) as error:
            # the address may carry a secret in its path, so it is not logged
            log.warning("heartbeat failed", extra={"reason": getattr(error, "reason", None) or type(error).__name__})
        finally:
            self._busy.release()
