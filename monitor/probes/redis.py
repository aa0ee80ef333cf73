"""Redis and Valkey: a PING, and where they let us in, what INFO tells. RESP is a few lines, so no library is loaded.

Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/; INFO: https://redis.io/commands/info/
"""

import time
from collections.abc import Mapping

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation, shown
from monitor.probes.growth import Growth
from monitor.result import Finding, Measurement, ProbeError, Reading, Status

_WANTS_LOGIN = (b"-NOAUTH", b"-DENIED", b"-NOPERM")
_REFUSES_LOGIN = (b"-WRONGPASS", b"-ERR invalid password", b"-ERR AUTH")


class RedisProbe:
    """Asks one server. ``password`` is only needed where it wants one, ``username`` where it has users."""

    def __init__(
        self, host: str, port: int, username: str | None, password: str | None, timeout_seconds: float
    ) -> None:
        self._host = host
        self._port = port
        self._username = username
        self._password = password
        self._timeout_seconds = timeout_seconds
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return ``response_time`` and what INFO tells; CRITICAL when it does not serve, or could not save.

        Raises ProbeError when it refuses the password.
        """
        began = time.monotonic()
        try:
            with Conversation(self._host, self._port, began + self._timeout_seconds) as talk:
                lets_in = self._greet(talk)
                took = Reading("response_time", time.monotonic() - began, "seconds")
                told = _info(talk) if lets_in else {}
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        if not told:
            return Measurement([took])
        fault = _fault(told)
        readings = [took, *self._readings(told)]
        if fault is None:
            return Measurement(readings)
        message = Said("%(where)s %(fault)s", where=talk.where, fault=fault)
        return Measurement(readings, Finding(Status.CRITICAL, message))

    def _greet(self, talk: Conversation) -> bool:
        """Log in and PING; return whether we are let in."""
        if self._password is not None:
            answer = _ask(talk, *filter(None, ("AUTH", self._username, self._password)))
            if answer.startswith(_REFUSES_LOGIN) and b"without any password" not in answer:
                raise ProbeError(f"logging in to {talk.where}: {answer[1:].decode('utf-8', 'replace')}")
        answer = _ask(talk, "PING")
        if answer.startswith(_WANTS_LOGIN):
            return False
        if answer != b"+PONG":
            raise Unreachable(f"{talk.where} does not serve: it says {shown(answer)}")
        return True

    def _readings(self, told: Mapping[str, str]) -> list[Reading]:
        number = {name: float(value) for name, value in told.items() if value.replace(".", "", 1).isdigit()}
        readings = []
        if limit := number.get("maxmemory"):
            readings.append(Reading("memory_used", number["used_memory"] / limit, "ratio"))
        if limit := number.get("maxclients"):
            readings.append(Reading("clients_used", number["connected_clients"] / limit, "ratio"))
        for name, field, unit in (
            ("memory_bytes", "used_memory", "bytes"), ("clients", "connected_clients", "count"),
            ("replication_lag", "master_last_io_seconds_ago", "seconds"),
            ("unsaved_changes", "rdb_changes_since_last_save", "count"),
        ):  # fmt: skip
            if field in number:
                readings.append(Reading(name, number[field], unit))
        if "rdb_last_save_time" in number and "server_time_usec" in number:
            age = max(0.0, number["server_time_usec"] / 1e6 - number["rdb_last_save_time"])
            readings.append(Reading("save_age", age, "seconds"))
        self._growth.see(number)
        if (hits := self._growth.share("keyspace_hits", "keyspace_misses")) is not None:
            readings.append(Reading("cache_hits", hits, "ratio"))
        for name, field in (("evictions", "evicted_keys"), ("rejected", "rejected_connections")):
            if (grown := self._growth.of(field)) is not None:
                readings.append(Reading(name, grown, "count"))
        return readings


def _fault(told: Mapping[str, str]) -> str | None:
    if told.get("rdb_last_bgsave_status") == "err":
        return Said("could not save its data last time")
    if "err" in (told.get("aof_last_write_status"), told.get("aof_last_bgrewrite_status")):
        return Said("could not write its append-only file last time")
    if told.get("master_link_status") == "down":
        return Said("has lost its primary")
    return None


def _info(talk: Conversation) -> dict[str, str]:
    """Return the fields of INFO; empty when we may not ask."""
    answer = _ask(talk, "INFO")
    if not answer.startswith(b"$"):
        return {}
    text = talk.read(int(answer[1:]) + 2).decode("utf-8", "replace")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _ask(talk: Conversation, *words: str) -> bytes:
    """Send a command as an array of bulk strings; return the first line of the answer."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    talk.send(b"".join(parts))
    return talk.read_line()
