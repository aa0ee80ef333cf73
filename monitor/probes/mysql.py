"""MariaDB and MySQL: do they speak, and with a login, how are they? From status variables and information_schema.

Meant to run in a child once it logs in. What a version does not have, or the user may not see, is left out.
"""

import time
from collections.abc import Mapping
from typing import Any

from config.said import Said
from monitor.probes.growth import Growth
from monitor.probes.sql import Database, NoConnection, database
from monitor.result import Finding, Measurement, ProbeError, Reading, Status

_STATUS = "SHOW GLOBAL STATUS"
_MOST = "SELECT @@max_connections AS most"
_TRANSACTIONS = """
SELECT coalesce(max(timestampdiff(SECOND, trx_started, now())), 0) AS oldest_transaction,
       coalesce(sum(trx_state = 'LOCK WAIT'), 0) AS locks_waiting
FROM information_schema.innodb_trx
"""
_REPLICATION = ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
_COUNTERS = ("innodb_deadlocks", "slow_queries", "innodb_buffer_pool_read_requests", "innodb_buffer_pool_reads")


class MysqlProbe:
    """The half that logs in by ``dsn``."""

    def __init__(self, dsn: str, timeout_seconds: float) -> None:
        self._dsn = dsn
        self._timeout_seconds = timeout_seconds
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return the readings of the settings' class; CRITICAL when nobody answers or replication has stopped.

        Raises ProbeError when the login is refused.
        """
        began = time.monotonic()
        try:
            with database(self._dsn, self._timeout_seconds) as opened:
                took = time.monotonic() - began
                status = {str(name).lower(): value for name, value in map(_pair, opened.read(_STATUS).rows)}
                figures = opened.read(_MOST).one() | opened.read(_TRANSACTIONS).one()
                replication = _replication(opened)
        except NoConnection as error:
            return Measurement([], Finding(Status.CRITICAL, str(error)))
        connections = float(status["threads_connected"])
        readings = [
            Reading("response_time", took, "seconds"),
            Reading("connections_used", connections / float(figures["most"]), "ratio"),
            Reading("connections", connections, "count"),
            Reading("oldest_transaction", float(figures["oldest_transaction"]), "seconds"),
            Reading("locks_waiting", float(figures["locks_waiting"]), "count"),
            *self._since_last(status),
        ]
        lag, fault = _lag(replication)
        if lag is not None:
            readings.append(Reading("replication_lag", lag, "seconds"))
        return Measurement(readings, Finding(Status.CRITICAL, fault) if fault else None)

    def _since_last(self, status: Mapping[str, Any]) -> list[Reading]:
        counters = {name: float(status[name]) for name in _COUNTERS if name in status}
        misses = counters.get("innodb_buffer_pool_reads", 0.0)
        counters["hits"] = counters.pop("innodb_buffer_pool_read_requests", 0.0) - misses
        self._growth.see(counters)
        readings = []
        for name, counter in (("deadlocks", "innodb_deadlocks"), ("slow_queries", "slow_queries")):
            if (grown := self._growth.of(counter)) is not None:
                readings.append(Reading(name, grown, "count"))
        if (hits := self._growth.share("hits", "innodb_buffer_pool_reads")) is not None:
            readings.append(Reading("cache_hits", hits, "ratio"))
        return readings


def _pair(row: Any) -> tuple[Any, Any]:
    return row[0], row[1]


def _replication(opened: Database) -> dict[str, Any]:
    """Return the state of replication; empty on a server that replicates nothing, or for a user who may not see it."""
    for query in _REPLICATION:
        try:
            return opened.read(query).one()
        except ProbeError:
            continue
    return {}


def _lag(replication: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """Return seconds behind, and what is wrong. Names of columns differ between versions: replica, slave."""
    if not replication:
        return None, None
    for word in ("replica", "slave"):
        running = [replication.get(f"{word}_{thread}_running") for thread in ("io", "sql")]
        if all(state is None for state in running):
            continue
        if any(state != "Yes" for state in running):
            why = replication.get("last_sql_error") or replication.get("last_io_error") or Said("it was stopped")
            return None, Said("replication has stopped: %(why)s", why=why)
    behind = replication.get("seconds_behind_source", replication.get("seconds_behind_master"))
    return (None if behind is None else float(behind)), None
