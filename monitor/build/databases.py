"""Recipes of checks of databases, caches and brokers. Drivers are loaded in a child, and only once somebody logs in."""

from pydantic import SecretStr

from config.checks import databases
from monitor.build.data import OWN_SHARE
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.build.services import address
from monitor.probes import handshakes
from monitor.probes.brokers import MqttProbe, NatsProbe, RabbitmqProbe
from monitor.probes.handshakes import Handshake
from monitor.probes.in_child import InChild
from monitor.probes.memcached import MemcachedProbe
from monitor.probes.mysql import MysqlProbe
from monitor.probes.postgres import PostgresProbe
from monitor.probes.redis import RedisProbe
from monitor.result import Probe


def _postgres(check: databases.PostgresCheck, _shared: Shared) -> Probe:
    seconds = check.timeout.total_seconds()
    if check.dsn is None:
        return Handshake(handshakes.postgres, check.host, check.port, seconds)
    probe = PostgresProbe(check.dsn.get_secret_value(), check.slow.total_seconds(), seconds * OWN_SHARE)
    return InChild(probe, "asking PostgreSQL", seconds)


def _mysql(check: databases.MysqlCheck, _shared: Shared) -> Probe:
    seconds = check.timeout.total_seconds()
    if check.dsn is None:
        return Handshake(handshakes.mysql, check.host, check.port, seconds)
    return InChild(MysqlProbe(check.dsn.get_secret_value(), seconds * OWN_SHARE), "asking MariaDB or MySQL", seconds)


def _redis(check: databases.RedisCheck, _shared: Shared) -> Probe:
    return RedisProbe(check.host, check.port, check.username, _text(check.password), check.timeout.total_seconds())


def _memcached(check: databases.MemcachedCheck, _shared: Shared) -> Probe:
    return MemcachedProbe(check.host, check.port, check.timeout.total_seconds())


def _rabbitmq(check: databases.RabbitmqCheck, _shared: Shared) -> Probe:
    return RabbitmqProbe(check.host, check.port, check.management_url, check.timeout.total_seconds())


def _nats(check: databases.NatsCheck, _shared: Shared) -> Probe:
    return NatsProbe(check.host, check.port, _text(check.token), check.monitoring_url, check.timeout.total_seconds())


def _mqtt(check: databases.MqttCheck, _shared: Shared) -> Probe:
    return MqttProbe(check.host, check.port, check.username, _text(check.password), check.timeout.total_seconds())


def _text(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _but_response_time(kind: type[databases.ServerCheck]) -> frozenset[str]:
    """Return what a server may honestly lack: a replication, a limit, counters at the first run."""
    return frozenset(kind.readings) - {"response_time"}


RECIPES: Recipes = {
    databases.PostgresCheck: Recipe(_postgres, address, optional=_but_response_time(databases.PostgresCheck)),
    databases.MysqlCheck: Recipe(_mysql, address, optional=_but_response_time(databases.MysqlCheck)),
    databases.RedisCheck: Recipe(_redis, address, optional=_but_response_time(databases.RedisCheck)),
    databases.MemcachedCheck: Recipe(_memcached, address, optional=_but_response_time(databases.MemcachedCheck)),
    databases.RabbitmqCheck: Recipe(_rabbitmq, address, optional=frozenset(databases.RabbitmqCheck.readings)),
    databases.NatsCheck: Recipe(_nats, address, optional=_but_response_time(databases.NatsCheck)),
    databases.MqttCheck: Recipe(_mqtt, address, optional=_but_response_time(databases.MqttCheck)),
}
