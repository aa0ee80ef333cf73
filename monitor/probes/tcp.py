"""Does something accept TCP connections there, and how fast?"""

import time

from monitor.probes.address import Unreachable, connect
from monitor.result import Finding, Measurement, Reading, Status


class TcpProbe:
    """Connects and hangs up without a word."""

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds

    def measure(self) -> Measurement:
        """Return ``connect_time`` in seconds, the look-up of the name left out; CRITICAL when nobody accepts."""
        try:
            connection, seconds = connect(self._host, self._port, time.monotonic() + self._timeout_seconds)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        connection.close()
        return Measurement([Reading("connect_time", seconds, "seconds")])
