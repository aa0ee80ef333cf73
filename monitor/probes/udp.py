"""Does a UDP service answer what it is sent? Silence is the only sign of one that is gone, and ends by the timeout."""

import re
import socket
import time

from config.said import Said
from monitor.probes.address import Unreachable, look_up
from monitor.probes.conversation import shown
from monitor.result import Finding, Measurement, Reading, Status

_TRIES = 2
"""A datagram may be lost without anybody's fault: the time is halved for a second one."""


class UdpProbe:
    """Sends ``send`` and waits for an answer that matches ``expect``."""

    def __init__(self, host: str, port: int, send: bytes, expect: str | None, timeout_seconds: float) -> None:
        self._host = host
        self._port = port
        self._send = send
        self._expect = re.compile(expect.encode()) if expect else None
        self._timeout_seconds = timeout_seconds

    def measure(self) -> Measurement:
        """Return ``response_time`` in seconds; CRITICAL when there is no answer, or another one."""
        try:
            answer, seconds = ask(self._host, self._port, self._send, self._timeout_seconds)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        readings = [Reading("response_time", seconds, "seconds")]
        if self._expect and not self._expect.search(answer):
            fault = Said(
                "%(host)s:%(port)s answered %(answer)s, expected %(expected)s",
                host=self._host, port=self._port, answer=shown(answer), expected=repr(self._expect.pattern.decode()),
            )
            return Measurement(readings, Finding(Status.CRITICAL, fault))
        return Measurement(readings)


def ask(host: str, port: int, data: bytes, timeout_seconds: float) -> tuple[bytes, float]:
    """Send one datagram and return the first that comes back from there, with the seconds it took.

    Raises Unreachable.
    """
    deadline = time.monotonic() + timeout_seconds
    (family, _, _, _, address), *_ = look_up(host, port, deadline)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        try:
            connection.connect(address)
            for left in range(_TRIES, 0, -1):
                began = time.perf_counter()
                connection.send(data)
                connection.settimeout(max(0.001, (deadline - time.monotonic()) / left))
                try:
                    return connection.recv(65_536), time.perf_counter() - began
                except TimeoutError:
                    continue
        except OSError as error:
            raise Unreachable(f"cannot ask {where}: {(error.strerror or str(error)).lower()}") from error
    raise Unreachable(f"{where} does not answer within {timeout_seconds:g} s")
