"""Talking to systemd: READY, RELOADING, STOPPING and the watchdog, by sd_notify(3)'s datagram protocol.

Does nothing where there is no $NOTIFY_SOCKET. Ten lines of socket are no reason for a dependency.
"""

import logging
import os
import socket
import time

log = logging.getLogger(__name__)


class Systemd:
    """The service manager that started this process, or nobody."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        environ = dict(os.environ) if environ is None else environ
        self._address = environ.get("NOTIFY_SOCKET", "")
        limit = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds: float | None = int(limit) / 1e6 if limit.isdigit() and mine and self._address else None
        """The longest silence it allows, or None when it does not watch."""

    def ready(self, status: str) -> None:
        """Tell that start-up or a reload is done."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Tell that a reload begins; systemd wants the monotonic moment with it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the daemon is on its way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog; the caller has made sure that its loops advanced."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.sendto(message.encode(), address)
        except OSError as error:
            log.warning("systemd not told", extra={"message_sent": message.split("\n")[0], "reason": error})
