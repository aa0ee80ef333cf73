"""Settings of checks of databases, caches and brokers: with nothing but an address, that they speak their protocol;
with credentials, what matters of them.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import WEB_ADDRESS, CheckBase, Port, Readings
from config.expansion import Expanded, SecretText
from config.units import Duration

_EVERY_MINUTE: Mapping[str, object] = {"every": "1m"}


class ServerCheck(CheckBase):
    """What checks of servers have in common."""

    defaults: ClassVar[Mapping[str, object]] = _EVERY_MINUTE
    host: str = Field("127.0.0.1", min_length=1)
    """Name or address."""


class PostgresCheck(ServerCheck):
    """PostgreSQL. Main reading `response_time` (seconds). With `dsn` also `connections_used` (ratio of those that may
    be), `connections`, `replication_lag` (seconds, on a replica), `replication_lag_bytes` (of the worst replica),
    `deadlocks` (since the last run), `cache_hits` (ratio, since the last run), `slow_queries`, `oldest_transaction`
    (seconds), `locks_waiting`, `slot_bytes` (kept for the slowest replication slot), `transaction_ids_used` (ratio).

    Critical when it does not answer, is starting up or full, or WAL archiving fails.
    """

    type: Literal["postgres"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "connections_used": "ratio",
        "connections": "count",
        "replication_lag": "seconds",
        "replication_lag_bytes": "bytes",
        "deadlocks": "count",
        "cache_hits": "ratio",
        "slow_queries": "count",
        "oldest_transaction": "seconds",
        "locks_waiting": "count",
        "slot_bytes": "bytes",
        "transaction_ids_used": "ratio",
    }
    port: Port = 5432
    """Port."""
    dsn: SecretText | None = Field(None, examples=["service=ledger"])
    """How to log in, as libpq writes it: `service=NAME`, `host=... user=...` or a URL; ~/.pgpass holds. A role with
    `pg_monitor` sees all. Only the handshake is tried when left out."""
    slow: Duration = Field("1m", validate_default=True)
    """How long a query may run before it counts as slow."""


class MysqlCheck(ServerCheck):
    """MariaDB or MySQL. Main reading `response_time` (seconds). With `dsn` also `connections_used` (ratio of those that
    may be), `connections`, `replication_lag` (seconds, on a replica), `deadlocks` (since the last run), `cache_hits`
    (ratio, since the last run), `slow_queries` (since the last run), `oldest_transaction` (seconds), `locks_waiting`.

    Critical when it does not answer or is full, or replication has stopped.
    """

    type: Literal["mysql"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "connections_used": "ratio",
        "connections": "count",
        "replication_lag": "seconds",
        "deadlocks": "count",
        "cache_hits": "ratio",
        "slow_queries": "count",
        "oldest_transaction": "seconds",
        "locks_waiting": "count",
    }
    port: Port = 3306
    """Port."""
    dsn: SecretText | None = Field(None, examples=["mysql://watcher:${MYSQL_PASSWORD}@127.0.0.1/"])
    """How to log in: mysql://user:password@host:port/database, with `?unix_socket=/path` for a socket. PROCESS and
    REPLICA MONITOR are enough. Only the handshake is tried when left out."""


class RedisCheck(ServerCheck):
    """Redis or Valkey. Main reading `response_time` (seconds). Where it lets us in also `memory_used` (ratio of its
    limit), `memory_bytes`, `clients_used` (ratio of those that may be), `clients`, `replication_lag` (seconds since its
    primary was heard), `cache_hits` (ratio, since the last run), `evictions` and `rejected` (since the last run),
    `save_age` (seconds since the last save), `unsaved_changes`.

    Critical when it does not answer, is loading, its last save or log write failed, or its primary is lost.
    """

    type: Literal["redis"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "memory_used": "ratio",
        "memory_bytes": "bytes",
        "clients_used": "ratio",
        "clients": "count",
        "replication_lag": "seconds",
        "cache_hits": "ratio",
        "evictions": "count",
        "rejected": "count",
        "save_age": "seconds",
        "unsaved_changes": "count",
    }
    port: Port = 6379
    """Port."""
    username: str | None = Field(None, examples=["watcher"])
    """User, where it has users."""
    password: SecretText | None = Field(None, examples=["${REDIS_PASSWORD}"])
    """Password; only the handshake is tried when it wants one and this is left out."""


class MemcachedCheck(ServerCheck):
    """memcached. Main reading `response_time` (seconds); also `memory_used` (ratio of its limit), `connections_used`
    (ratio of those that may be), `cache_hits` (ratio, since the last run), `evictions` (since the last run).

    Critical when it does not answer.
    """

    type: Literal["memcached"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "memory_used": "ratio",
        "connections_used": "ratio",
        "cache_hits": "ratio",
        "evictions": "count",
    }
    port: Port = 11211
    """Port."""


class RabbitmqCheck(ServerCheck):
    """RabbitMQ. Main reading `response_time` (seconds). With `management_url` also `messages`, `unacknowledged`,
    `consumers`, `connections`, and an entity for each queue with its own `messages`, `unacknowledged` and `consumers`.

    Critical when it does not speak AMQP, a node raises its memory or disk alarm, or the cluster is partitioned.
    """

    type: Literal["rabbitmq"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "messages": "count",
        "unacknowledged": "count",
        "consumers": "count",
        "connections": "count",
    }
    port: Port = 5672
    """Port of AMQP."""
    management_url: Expanded | None = Field(
        None, repr=False, pattern=WEB_ADDRESS, examples=["http://watcher:${RABBITMQ_PASSWORD}@127.0.0.1:15672"]
    )
    """Address of its management plugin, with a user of the tag `monitoring`; only the handshake is tried when left
    out."""


class NatsCheck(ServerCheck):
    """NATS. Main reading `response_time` (seconds). With `monitoring_url` also `connections_used` (ratio of those that
    may be), `slow_consumers` (since the last run), `memory_bytes`.

    Critical when it does not speak NATS, or refuses the token.
    """

    type: Literal["nats"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "connections_used": "ratio",
        "slow_consumers": "count",
        "memory_bytes": "bytes",
    }
    port: Port = 4222
    """Port."""
    token: SecretText | None = Field(None, examples=["${NATS_TOKEN}"])
    """Token to log in with; that it wants one is no fault when left out."""
    monitoring_url: Expanded | None = Field(None, repr=False, pattern=WEB_ADDRESS, examples=["http://127.0.0.1:8222"])
    """Address of its monitoring port."""


class MqttCheck(ServerCheck):
    """A broker of MQTT. Main reading `response_time` (seconds). Where it tells them (mosquitto's `$SYS`) also
    `clients`, `messages_stored`, `dropped` (since the last run).

    Critical when it does not speak MQTT 3.1.1, or refuses the user.
    """

    type: Literal["mqtt"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "clients": "count",
        "messages_stored": "count",
        "dropped": "count",
    }
    port: Port = 1883
    """Port."""
    username: str | None = Field(None, examples=["watcher"])
    """User; that it wants one is no fault when left out."""
    password: SecretText | None = Field(None, examples=["${MQTT_PASSWORD}"])
    """Password."""
