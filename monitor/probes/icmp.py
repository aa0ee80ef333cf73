"""Echo requests (ping): through the kernel's ping socket, which needs no rights, else a raw one, else the ping program.

Formats: RFC 792 and RFC 4443. A ping socket numbers and sums for us; an answer is known by the token that it carries.
"""

import os
import re
import select
import socket
import statistics
import struct
import time
from collections.abc import Iterator

from config.said import Said
from monitor.probes.address import Unreachable, look_up
from monitor.probes.program import Program
from monitor.result import Finding, Measurement, Reading, Status

_APART_SECONDS = 0.2
_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
"""Type of an echo request and of its reply."""
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_PING_LINE = re.compile(rb"time=([\d.]+) ?ms")


class IcmpProbe:
    """Asks ``host`` for ``count`` echoes. ``kinds`` are the sockets that are tried before the program."""

    def __init__(
        self,
        host: str,
        count: int,
        timeout_seconds: float,
        kinds: tuple[socket.SocketKind, ...] = (socket.SOCK_DGRAM, socket.SOCK_RAW),
    ) -> None:
        self._host = host
        self._count = count
        self._timeout_seconds = timeout_seconds
        self._kinds = kinds

    def measure(self) -> Measurement:
        """Return ``loss`` (ratio), ``round_trip`` and ``jitter`` (seconds); CRITICAL when no echo comes back."""
        deadline = time.monotonic() + self._timeout_seconds
        try:
            (family, _, _, _, address), *_ = look_up(self._host, 0, deadline)
            trips = self._trips(socket.AddressFamily(family), address, deadline)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            message = Said("cannot reach %(host)s: %(said)s", host=self._host, said=said)
            return Measurement([], Finding(Status.CRITICAL, message))
        loss = Reading("loss", 1 - len(trips) / self._count, "ratio")
        if not trips:
            message = Said("%(host)s sends no echo of %(count)s", host=self._host, count=self._count)
            return Measurement([loss], Finding(Status.CRITICAL, message))
        round_trip = Reading("round_trip", statistics.median(trips), "seconds")
        return Measurement([loss, round_trip, Reading("jitter", max(trips) - min(trips), "seconds")])

    def _trips(self, family: socket.AddressFamily, address: tuple[str, int], deadline: float) -> list[float]:
        for kind in self._kinds:
            try:
                connection = socket.socket(family, kind, _PROTOCOL[family])
            except PermissionError:
                continue
            with connection:
                return list(self._echoes(connection, family, address, deadline))
        return self._by_program(str(address[0]), deadline)

    def _echoes(
        self, connection: socket.socket, family: socket.AddressFamily, address: tuple[str, int], deadline: float
    ) -> Iterator[float]:
        """Send all, and yield the round trip of each that comes back. An echo that is late still counts."""
        token = os.urandom(8)
        sent: dict[int, float] = {}
        next_at = time.monotonic()
        number = 0
        while (now := time.monotonic()) < deadline:
            if number < self._count and now >= next_at:
                sent[number] = time.perf_counter()
                connection.sendto(_request(family, number, token), address)
                number, next_at = number + 1, now + _APART_SECONDS
            if number == self._count and not sent:
                return
            wake = min(deadline, next_at) if number < self._count else deadline
            if select.select([connection], [], [], max(0.0, wake - time.monotonic()))[0]:
                came = _reply_number(connection.recv(2048), family, token)
                if came in sent:
                    yield time.perf_counter() - sent.pop(came)

    def _by_program(self, address: str, deadline: float) -> list[float]:
        seconds = max(1.0, deadline - time.monotonic())
        limit = str(max(1, int(seconds)))
        command = ["ping", "-n", "-c", str(self._count), "-i", str(_APART_SECONDS), "-w", limit, address]
        ended = Program(command, seconds + 0.5).run()
        return [float(milliseconds) / 1000 for milliseconds in _PING_LINE.findall(ended.output)]


def _request(family: socket.AddressFamily, number: int, token: bytes) -> bytes:
    kind = _ECHO[family][0]
    identity = os.getpid() & 0xFFFF
    unsummed = struct.pack("!BBHHH", kind, 0, 0, identity, number) + token
    return struct.pack("!BBHHH", kind, 0, _checksum(unsummed), identity, number) + token


def _reply_number(packet: bytes, family: socket.AddressFamily, token: bytes) -> int | None:
    """Return the number of our echo in a packet, None when it is somebody else's. Raw IPv4 comes with its header."""
    if family == socket.AF_INET and packet[:1] and packet[0] >> 4 == 4 and len(packet) > 28:
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < 16 or packet[0] != _ECHO[family][1] or packet[8:16] != token:
        return None
    return int.from_bytes(packet[6:8], "big")


def _checksum(data: bytes) -> int:
    """RFC 1071: the ones' complement of the ones' complement sum of 16-bit words."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
