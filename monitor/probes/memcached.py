"""memcached: its version, and its statistics (doc/protocol.txt, "General-purpose statistics")."""

import time

from monitor.probes import handshakes
from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation
from monitor.probes.growth import Growth
from monitor.result import Finding, Measurement, Reading, Status


class MemcachedProbe:
    """Asks one server in the text protocol."""

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return ``response_time``, memory, connections, hits and evictions; CRITICAL without an answer."""
        began = time.monotonic()
        try:
            with Conversation(self._host, self._port, began + self._timeout_seconds) as talk:
                handshakes.memcached(talk)
                took = Reading("response_time", time.monotonic() - began, "seconds")
                told = _statistics(talk)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        readings = [took]
        for name, part, whole in (
            ("memory_used", "bytes", "limit_maxbytes"), ("connections_used", "curr_connections", "max_connections"),
        ):  # fmt: skip
            if told.get(whole):
                readings.append(Reading(name, told[part] / told[whole], "ratio"))
        self._growth.see(told)
        if (hits := self._growth.share("get_hits", "get_misses")) is not None:
            readings.append(Reading("cache_hits", hits, "ratio"))
        if (evictions := self._growth.of("evictions")) is not None:
            readings.append(Reading("evictions", evictions, "count"))
        return Measurement(readings)


def _statistics(talk: Conversation) -> dict[str, float]:
    talk.send(b"stats\r\n")
    told: dict[str, float] = {}
    while (line := talk.read_line()).startswith(b"STAT "):
        _, name, value = (line.decode("ascii", "replace") + " ").split(" ")[:3]
        if value.isdigit():
            told[name] = float(value)
    return told
