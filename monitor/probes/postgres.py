"""PostgreSQL: does it speak, and with a login, how is it? From its views of statistics and activity.

Meant to run in a child once it logs in. What a version does not have, or the role may not see, is left out.
"""

import time
from collections.abc import Mapping
from typing import Any

from config.said import Said
from monitor.probes.growth import Growth
from monitor.probes.sql import Database, NoConnection, database
from monitor.result import Finding, Measurement, Reading, Status

# Transaction ids: at an age of 2^31 less a safety margin the server refuses to write (Routine Vacuuming, 25.1.5).
_NOW = """
SELECT
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most,
    (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()
        AND backend_type = 'client backend' AND now() - query_start > make_interval(secs => {slow})) AS slow_queries,
    (SELECT coalesce(extract(epoch FROM max(now() - xact_start)), 0) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND backend_type = 'client backend') AS oldest_transaction,
    (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock') AS locks_waiting,
    (SELECT max(age(datfrozenxid))::float8 / 2e9 FROM pg_database) AS transaction_ids_used,
    (SELECT sum(deadlocks) FROM pg_stat_database) AS deadlocks,
    (SELECT sum(blks_hit) FROM pg_stat_database) AS hits,
    (SELECT sum(blks_read) FROM pg_stat_database) AS misses,
    pg_is_in_recovery() AS is_replica,
    CASE WHEN pg_is_in_recovery() THEN
        CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver)
            THEN 0 ELSE extract(epoch FROM now()
                - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time())) END
    END AS replication_lag
"""
_PRIMARY = """
SELECT
    (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) FROM pg_stat_replication) AS replication_lag_bytes,
    (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots) AS slot_bytes,
    (SELECT last_failed_wal FROM pg_stat_archiver
        WHERE last_failed_time > coalesce(last_archived_time, '-infinity')) AS not_archived
"""
_UNITS: Mapping[str, str] = {
    "connections": "count", "replication_lag": "seconds", "replication_lag_bytes": "bytes", "slow_queries": "count",
    "oldest_transaction": "seconds", "locks_waiting": "count", "slot_bytes": "bytes", "transaction_ids_used": "ratio",
}  # fmt: skip


class PostgresProbe:
    """The half that logs in by ``dsn``. A query counts as slow after ``slow_seconds``."""

    def __init__(self, dsn: str, slow_seconds: float, timeout_seconds: float) -> None:
        self._dsn = dsn
        self._slow_seconds = slow_seconds
        self._timeout_seconds = timeout_seconds
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return the readings of the settings' class; CRITICAL when nobody answers or WAL is not archived.

        Raises ProbeError when the login is refused.
        """
        began = time.monotonic()
        try:
            with database(self._dsn, self._timeout_seconds) as opened:
                took = time.monotonic() - began
                figures = opened.read(_NOW.format(slow=self._slow_seconds)).one()
                figures |= {} if figures["is_replica"] else self._of_primary(opened)
        except NoConnection as error:
            return Measurement([], Finding(Status.CRITICAL, str(error)))
        readings = [Reading("response_time", took, "seconds"), *self._readings(figures)]
        stuck = figures.get("not_archived")
        said = Said("WAL archiving fails since %(stuck)s: see the server's log", stuck=stuck)
        return Measurement(readings, Finding(Status.CRITICAL, said) if stuck else None)

    @staticmethod
    def _of_primary(opened: Database) -> dict[str, Any]:
        return opened.read(_PRIMARY).one()

    def _readings(self, figures: Mapping[str, Any]) -> list[Reading]:
        readings = [Reading("connections_used", float(figures["connections"]) / float(figures["most"]), "ratio")]
        for name, unit in _UNITS.items():
            if figures.get(name) is not None:
                readings.append(Reading(name, max(0.0, float(figures[name])), unit))
        self._growth.see({name: float(figures[name] or 0) for name in ("deadlocks", "hits", "misses")})
        if (deadlocks := self._growth.of("deadlocks")) is not None:
            readings.append(Reading("deadlocks", deadlocks, "count"))
        if (hits := self._growth.share("hits", "misses")) is not None:
            readings.append(Reading("cache_hits", hits, "ratio"))
        return readings
