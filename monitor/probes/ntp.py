"""A time server against this machine's clock: one request of SNTP (RFC 5905, 7.3 and 8)."""

import os
import struct
from collections.abc import Callable
from datetime import UTC, datetime

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.udp import ask
from monitor.result import Finding, Measurement, Reading, Status

_CLIENT = 0x23
"""No leap warning, version 4, mode client."""
_SERVER_MODE, _UNSYNCHRONISED, _HIGHEST_STRATUM = 4, 3, 15
_EPOCH = datetime(1900, 1, 1, tzinfo=UTC)
_ERA_SECONDS = 1 << 32


class NtpProbe:
    """Asks ``host`` for the time. ``clock`` is the one that is compared."""

    def __init__(self, host: str, port: int, timeout_seconds: float, clock: Callable[[], datetime]) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def measure(self) -> Measurement:
        """Return ``offset``, ``stratum``, ``round_trip`` and ``root_dispersion``; CRITICAL when it has no time to give.

        The moment that is sent is a random number: the server only sends it back, and need not know our clock.
        """
        token = os.urandom(8)
        try:
            answer, seconds = ask(self._host, self._port, bytes([_CLIENT]) + bytes(39) + token, self._timeout_seconds)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        now = (self._clock() - _EPOCH).total_seconds()
        where = f"{self._host}:{self._port}"
        if len(answer) < 48 or answer[0] & 0x07 != _SERVER_MODE or answer[24:32] != token:
            message = Said("%(where)s answers with something else than NTP", where=where)
            return Measurement([], Finding(Status.CRITICAL, message))
        leap, stratum = answer[0] >> 6, answer[1]
        dispersion = struct.unpack("!I", answer[8:12])[0] / 65_536
        received, sent = (_seconds(answer[place : place + 8]) for place in (32, 40))
        at_the_server = max(0.0, sent - received)
        round_trip = max(0.0, seconds - at_the_server)
        offset = _within_era(sent + round_trip / 2 - now)
        readings = [
            Reading("offset", abs(offset), "seconds"),
            Reading("stratum", stratum, "count"),
            Reading("round_trip", round_trip, "seconds"),
            Reading("root_dispersion", dispersion, "seconds"),
        ]
        if stratum == 0:
            refusal = answer[12:16].decode("ascii", "replace").rstrip("\0")
            message = Said("%(where)s sends us away: %(refusal)s", where=where, refusal=refusal)
            return Measurement([], Finding(Status.CRITICAL, message))
        if leap == _UNSYNCHRONISED or stratum > _HIGHEST_STRATUM:
            message = Said("%(where)s says that its own clock is not set", where=where)
            return Measurement(readings, Finding(Status.CRITICAL, message))
        return Measurement(readings)


def _seconds(stamp: bytes) -> float:
    whole, fraction = struct.unpack("!II", stamp)
    return float(whole) + float(fraction) / _ERA_SECONDS


def _within_era(offset: float) -> float:
    """Return the offset of clocks that are within 68 years: stamps begin anew in 2036."""
    return (offset + _ERA_SECONDS / 2) % _ERA_SECONDS - _ERA_SECONDS / 2
