"""Databases, caches and brokers: Debian's real servers, and scripted other ends for what only ill ones say."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pymysql
import pytest

from monitor.probes import handshakes
from monitor.probes.brokers import MqttProbe, NatsProbe, RabbitmqProbe
from monitor.probes.growth import Growth
from monitor.probes.handshakes import Handshake
from monitor.probes.in_child import InChild
from monitor.probes.memcached import MemcachedProbe
from monitor.probes.mysql import MysqlProbe
from monitor.probes.postgres import PostgresProbe
from monitor.probes.redis import RedisProbe
from monitor.result import Measurement, Probe, ProbeError, Status
from tests.servers import mariadb as mariadb_server
from tests.servers.mariadb import MariaDb, mariadb
from tests.servers.postgres import Postgres, postgres, replica
from tests.servers.private import free_port, private_folder
from tests.servers.rabbitmq import rabbitmq
from tests.servers.redis import redis
from tests.servers.scripted import saying, scripted, silent
from tests.servers.small import memcached, mosquitto, nats

Values = Callable[[Measurement], dict[str, float]]

HANDSHAKES: dict[str, Callable[[int], Probe]] = {
    "postgres": lambda port: Handshake(handshakes.postgres, "127.0.0.1", port, 0.5),
    "mysql": lambda port: Handshake(handshakes.mysql, "127.0.0.1", port, 0.5),
    "redis": lambda port: RedisProbe("127.0.0.1", port, None, None, 0.5),
    "memcached": lambda port: MemcachedProbe("127.0.0.1", port, 0.5),
    "rabbitmq": lambda port: RabbitmqProbe("127.0.0.1", port, None, 0.5),
    "nats": lambda port: NatsProbe("127.0.0.1", port, None, None, 0.5),
    "mqtt": lambda port: MqttProbe("127.0.0.1", port, None, None, 0.5),
}


def fault(probe: Probe) -> str:
    """The message of a measurement that must be critical."""
    finding = probe.measure().finding
    assert finding is not None
    assert finding.status is Status.CRITICAL
    return finding.message


def is_well(measured: Measurement) -> bool:
    return measured.finding is None and bool(measured.readings)


@pytest.mark.parametrize("kind", HANDSHAKES)
def test_a_silent_server_is_critical_by_the_timeout(kind: str) -> None:
    with silent() as port:
        began = time.monotonic()
        assert fault(HANDSHAKES[kind](port)).endswith("does not answer in time")
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("kind", HANDSHAKES)
def test_a_server_that_speaks_something_else_is_critical(kind: str) -> None:
    with scripted(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"HTTP/1.1 400\r\n")) as port:
        assert fault(HANDSHAKES[kind](port))
    with scripted(lambda connection: connection.close()) as port:
        assert fault(HANDSHAKES[kind](port))


@pytest.mark.parametrize("kind", HANDSHAKES)
def test_a_flood_of_nonsense_is_critical_and_bounded(kind: str) -> None:
    with scripted(lambda connection: connection.sendall(b"\xff" * (1 << 20))) as port:
        assert fault(HANDSHAKES[kind](port))


def postgres_error(code: str, message: str) -> bytes:
    fields = b"SFATAL\0C" + code.encode() + b"\0M" + message.encode() + b"\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.mark.parametrize(
    ("kind", "answers", "said"),
    [
        ("postgres", (b"", postgres_error("57P03", "it is starting up")), "is not ready: it is starting up"),
        ("postgres", (b"", postgres_error("53300", "too many clients")), "has no connection left"),
        ("mysql", (b"\x17\0\0\0\xff\x10\x04Too many connections",), "refuses: Too many connections"),
        ("redis", (b"", b"-LOADING Redis is loading the dataset\r\n"), "does not serve: it says '-LOADING"),
        ("rabbitmq", (b"", b"AMQP\0\1\0\0"), "speaks another version of AMQP"),
        ("nats", (b'INFO {"max_payload":1}\r\n', b"-ERR 'Maximum Connections Exceeded'\r\n"), "refuses: "),
        ("mqtt", (b"", b"\x20\x02\x00\x03"), "refuses everybody at the moment"),
    ],
)
def test_a_server_that_cannot_serve_says_why(kind: str, answers: tuple[bytes, ...], said: str) -> None:
    with scripted(saying(*answers)) as port:
        assert said in fault(HANDSHAKES[kind](port))


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("postgres", (b"", postgres_error("28000", "no pg_hba.conf entry"))),
        ("nats", (b'INFO {"auth_required":true}\r\n',)),
        ("redis", (b"", b"-NOAUTH Authentication required.\r\n")),
        ("mqtt", (b"", b"\x20\x02\x00\x05")),
        # Connection.Start as RabbitMQ 3.10 sends it, its tables cut short
        ("rabbitmq", (b"", bytes.fromhex("01000000000010000a000a0009000000000000000000ce"[:46].ljust(48, "0")))),
    ],
)
def test_a_server_that_asks_who_is_there_is_well(kind: str, answers: tuple[bytes, ...]) -> None:
    with scripted(saying(*answers)) as port:
        assert is_well(HANDSHAKES[kind](port).measure())


LEDGER = {"deadlock_timeout": "50ms", "archive_mode": "on", "archive_command": "true"}


@pytest.fixture(scope="module")
def ledger() -> Iterator[Postgres]:
    with private_folder("pg") as folder, postgres(folder, LEDGER) as server:
        server.sql("create table invoice (number int primary key, amount int)")
        server.sql("insert into invoice select n, n from generate_series(1, 100) n")
        yield server


def test_a_real_postgresql_speaks_without_a_login(ledger: Postgres) -> None:
    assert is_well(Handshake(handshakes.postgres, "127.0.0.1", ledger.port, 5).measure())


def test_postgresql_tells_what_matters(ledger: Postgres, values: Values) -> None:
    probe = PostgresProbe(ledger.dsn, 0.05, 10)
    first = values(probe.measure())
    assert 0 < first["connections_used"] < 0.5
    assert 0 <= first["transaction_ids_used"] < 0.1
    assert "replication_lag" not in first
    with psycopg.connect(ledger.dsn) as one, psycopg.connect(ledger.dsn) as other:
        one.execute("update invoice set amount = 0 where number = 1")
        waiting = threading.Thread(target=other.execute, args=("update invoice set amount = 1 where number = 1",))
        waiting.start()
        deadline = time.monotonic() + 10
        while (second := values(probe.measure()))["locks_waiting"] != 1 or second["slow_queries"] != 1:
            assert time.monotonic() < deadline, second
            time.sleep(0.2)  # InnoDB looks anew only when nobody has asked for 0.1 s
        one.rollback()
        waiting.join()
        assert second["oldest_transaction"] > 0
        assert second["connections"] > first["connections"]
    assert 0 < second["cache_hits"] <= 1


def test_a_deadlock_is_counted_once(ledger: Postgres, values: Values) -> None:
    probe = PostgresProbe(ledger.dsn, 60, 10)
    probe.measure()

    def update(connection: Any, number: int) -> None:
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            connection.execute("update invoice set amount = 0 where number = %s", (number,))

    with psycopg.connect(ledger.dsn) as one, psycopg.connect(ledger.dsn) as other:
        update(one, 2)
        update(other, 3)
        crossing = threading.Thread(target=update, args=(one, 3))
        crossing.start()
        update(other, 2)
        crossing.join()
        one.rollback()
        other.rollback()
    deadline = time.monotonic() + 10
    while not (seen := values(probe.measure())["deadlocks"]):
        assert time.monotonic() < deadline
    assert seen == 1


def test_a_replica_tells_how_far_behind_it_is(ledger: Postgres, values: Values) -> None:
    with private_folder("pg-replica") as folder, replica(ledger, folder) as behind:
        assert values(PostgresProbe(behind.dsn, 60, 10).measure())["replication_lag"] == 0
        behind.sql("select pg_wal_replay_pause()")
        deadline = time.monotonic() + 10
        while behind.sql("select pg_get_wal_replay_pause_state()") != "paused":
            assert time.monotonic() < deadline
        ledger.sql("insert into invoice select n, n from generate_series(1000, 2000) n")
        while not values(PostgresProbe(behind.dsn, 60, 10).measure())["replication_lag"]:
            assert time.monotonic() < deadline
        assert values(PostgresProbe(ledger.dsn, 60, 10).measure())["replication_lag_bytes"] > 0


def test_a_refused_login_is_unknown_and_a_dead_server_critical(ledger: Postgres) -> None:
    wrong = ledger.dsn.replace("sesame", "says me")
    with pytest.raises(ProbeError, match="password authentication failed") as error:
        PostgresProbe(wrong, 60, 5).measure()
    assert "says me" not in str(error.value)
    assert "connection refused" in fault(PostgresProbe(f"host=127.0.0.1 port={free_port()}", 60, 5)).lower()
    with silent() as port:
        began = time.monotonic()
        with pytest.raises(ProbeError, match="no end after 1 s, killed"):
            InChild(PostgresProbe(f"host=127.0.0.1 port={port}", 60, 5), "asking PostgreSQL", 1).measure()
        assert time.monotonic() - began < 4


def test_archiving_that_fails_is_critical(ledger: Postgres) -> None:
    probe = PostgresProbe(ledger.dsn, 60, 5)
    assert is_well(probe.measure())
    ledger.configure({"archive_command": "false"})
    ledger.sql("select pg_reload_conf()")
    ledger.sql("create table a (b int)")
    ledger.sql("select pg_switch_wal()")
    deadline = time.monotonic() + 20
    while (measured := probe.measure()).finding is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert measured.finding.message.startswith("WAL archiving fails since 0000")
    ledger.configure({"archive_command": "true"})
    ledger.sql("select pg_reload_conf()")
    while probe.measure().finding:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def shop() -> Iterator[MariaDb]:
    settings = {"slow_query_log": "ON", "long_query_time": "0.05", "slow_query_log_file": "slow.log"}
    with private_folder("my") as folder, mariadb(folder, settings) as server:
        server.sql("create database shop; create table shop.invoice (number int primary key) engine=innodb")
        server.sql("insert into shop.invoice values (1), (2)")
        yield server


def test_a_real_mariadb_speaks_without_a_login(shop: MariaDb) -> None:
    assert is_well(Handshake(handshakes.mysql, "127.0.0.1", shop.port, 5).measure())


def logged_in(shop: MariaDb) -> Any:
    return pymysql.connect(
        host="127.0.0.1", port=shop.port, user=mariadb_server.OWNER, password=mariadb_server.PASSWORD, database="shop"
    )


def test_mariadb_tells_what_matters(shop: MariaDb, values: Values) -> None:
    probe = MysqlProbe(shop.dsn, 10)
    first = values(probe.measure())
    assert 0 < first["connections_used"] < 1
    with contextlib.closing(logged_in(shop)) as one, contextlib.closing(logged_in(shop)) as other:
        one.cursor().execute("update invoice set number = 10 where number = 1")
        waiting = threading.Thread(target=other.cursor().execute, args=("delete from invoice where number = 1",))
        waiting.start()
        deadline = time.monotonic() + 10
        while (second := values(probe.measure()))["locks_waiting"] != 1 or second["oldest_transaction"] < 1:
            assert time.monotonic() < deadline, second
        one.rollback()
        waiting.join()
        other.rollback()
    shop.sql("select sleep(0.1)")
    third = values(probe.measure())
    assert third["slow_queries"] >= 1
    assert third["deadlocks"] == 0


def test_a_replication_that_has_stopped_is_critical(shop: MariaDb) -> None:
    shop.sql("change master to master_host='127.0.0.1', master_port=1, master_user='nobody'")
    try:
        assert fault(MysqlProbe(shop.dsn, 10)) == "replication has stopped: it was stopped"
    finally:
        shop.sql("reset slave all")


def test_mariadb_with_a_wrong_password_is_unknown_and_a_dead_one_critical(shop: MariaDb) -> None:
    with pytest.raises(ProbeError, match="Access denied") as error:
        MysqlProbe(shop.dsn.replace("sesame", "hunter2"), 5).measure()
    assert "hunter2" not in str(error.value)
    assert "Can't connect" in fault(MysqlProbe(f"mysql://a@127.0.0.1:{free_port()}/", 5))


def test_redis_tells_what_matters(values: Values) -> None:
    settings = {"maxmemory": "4mb", "maxmemory-policy": "allkeys-lru"}
    with private_folder("redis") as folder, redis(folder, settings, password="sesame") as server:
        assert list(values(RedisProbe("127.0.0.1", server.port, None, None, 5).measure())) == ["response_time"]
        with pytest.raises(ProbeError, match="WRONGPASS"):
            RedisProbe("127.0.0.1", server.port, None, "wrong", 5).measure()
        probe = RedisProbe("127.0.0.1", server.port, None, "sesame", 5)
        first = values(probe.measure())
        assert 0 < first["memory_used"] < 1
        assert first["clients_used"] < 0.1
        assert "cache_hits" not in first
        server.command("set", "a", "1")
        server.command("get", "a")
        server.command("get", "b")
        server.command("eval", "for i=1,4000 do redis.call('set', 'k'..i, string.rep('x', 1000)) end", "0")
        second = values(probe.measure())
        assert second["cache_hits"] == 0.5
        assert second["evictions"] > 0
        assert second["unsaved_changes"] > 0
        server.command("config", "set", "dir", "/proc/self")
        with contextlib.suppress(RuntimeError):
            server.command("save")
        server.command("replicaof", "127.0.0.1", str(free_port()))
        assert "has lost its primary" in fault(probe) or "could not save" in fault(probe)


def test_a_save_that_failed_is_critical() -> None:
    info = b"rdb_last_bgsave_status:err\r\nused_memory:5\r\n"
    with scripted(saying(b"", b"+PONG\r\n", b"$%d\r\n%b\r\n" % (len(info), info))) as port:
        assert "could not save its data" in fault(RedisProbe("127.0.0.1", port, None, None, 5))


def test_memcached_tells_what_matters(values: Values) -> None:
    with private_folder("memcached") as folder, memcached(folder) as port:
        probe = MemcachedProbe("127.0.0.1", port, 5)
        first = values(probe.measure())
        assert 0 < first["connections_used"] < 0.1
        assert first["memory_used"] == 0
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"set a 0 0 1\r\n1\r\nget a\r\nget b\r\nget c\r\nget d\r\nquit\r\n")
            while client.recv(1000):
                pass
        second = values(probe.measure())
        assert second["cache_hits"] == 0.25
        assert second["evictions"] == 0


def test_nats_tells_what_matters(values: Values) -> None:
    with private_folder("nats") as folder, nats(folder, token="s3cret") as (port, monitoring):
        assert is_well(NatsProbe("127.0.0.1", port, None, None, 5).measure())
        assert "refuses: \"-ERR 'Authorization Violation'\"" in fault(NatsProbe("127.0.0.1", port, "no", None, 5))
        probe = NatsProbe("127.0.0.1", port, "s3cret", f"http://127.0.0.1:{monitoring}/", 5)
        probe.measure()
        told = values(probe.measure())
        assert told["slow_consumers"] == 0
        assert told["memory_bytes"] > 0
        assert 0 <= told["connections_used"] < 0.1


def test_mosquitto_tells_what_matters(values: Values) -> None:
    with private_folder("mqtt") as folder, mosquitto(folder) as port:
        probe = MqttProbe("127.0.0.1", port, None, None, 5)
        deadline = time.monotonic() + 10
        while "clients" not in (told := values(probe.measure())):
            assert time.monotonic() < deadline
        assert told["messages_stored"] > 0
        assert values(probe.measure())["dropped"] == 0


def test_mosquitto_with_users(values: Values) -> None:
    with private_folder("mqtt") as folder, mosquitto(folder, password="s3cret") as port:
        assert is_well(MqttProbe("127.0.0.1", port, None, None, 5).measure())
        assert is_well(MqttProbe("127.0.0.1", port, "keeper", "s3cret", 5).measure())
        assert "refuses the user" in fault(MqttProbe("127.0.0.1", port, "keeper", "wrong", 5))


ANSWERS: dict[str, Any] = {
    "/api/overview": {"queue_totals": {"messages": 7, "messages_unacknowledged": 2},
                      "object_totals": {"consumers": 1, "connections": 3}},
    "/api/nodes": [{"name": "rabbit@erp", "running": True, "mem_alarm": False, "disk_free_alarm": False,
                    "partitions": []}],
    "/api/queues": [
        {"name": "invoices", "vhost": "/", "messages": 7, "messages_unacknowledged": 2, "consumers": 1},
        {"name": "mail", "vhost": "shop", "messages": 0, "messages_unacknowledged": 0, "consumers": 0},
    ],
}  # fmt: skip
"""As RabbitMQ 3.10 gave them, shortened to what is read."""
START = bytes.fromhex("0100000000000c000a000a00090000000000000000") + b"\xce"


@contextlib.contextmanager
def management(answers: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path.partition("?")[0]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://guest:guest@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_rabbitmq_tells_of_its_queues(values: Values) -> None:
    with scripted(saying(b"", START)) as port, management(ANSWERS) as url:
        measured = RabbitmqProbe("127.0.0.1", port, url, 5).measure()
    assert is_well(measured)
    told = values(measured)
    assert (told["messages"], told["consumers"], told["connections"]) == (7, 1, 3)
    assert (told["invoices/messages"], told["invoices/unacknowledged"], told["shop/mail/consumers"]) == (7, 2, 0)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"running": False}, "rabbit@erp is down"),
        ({"mem_alarm": True}, "rabbit@erp is short of memory and takes no messages"),
        ({"disk_free_alarm": True}, "rabbit@erp is short of disk space and takes no messages"),
        ({"partitions": ["rabbit@b"]}, "rabbit@erp is cut off from rabbit@b"),
    ],
)
def test_a_rabbit_in_need_is_critical(node: dict[str, Any], said: str) -> None:
    answers = ANSWERS | {"/api/nodes": [ANSWERS["/api/nodes"][0] | node]}
    with scripted(saying(b"", START)) as port, management(answers) as url:
        assert fault(RabbitmqProbe("127.0.0.1", port, url, 5)) == said


@pytest.mark.campaign
def test_a_real_rabbitmq_is_well(values: Values) -> None:
    with private_folder("rabbit") as folder, rabbitmq(folder) as (port, management_port):
        assert is_well(RabbitmqProbe("127.0.0.1", port, None, 5).measure())
        url = f"http://guest:guest@127.0.0.1:{management_port}"
        declare = ["curl", "-sf", "-u", "guest:guest", "-X", "PUT", "-d", "{}", "-H", "content-type: application/json",
                   f"http://127.0.0.1:{management_port}/api/queues/%2F/invoices"]  # fmt: skip
        subprocess.run(declare, check=True, capture_output=True, timeout=30)
        told = values(RabbitmqProbe("127.0.0.1", port, url, 10).measure())
        assert told["invoices/consumers"] == 0
        assert told["connections"] == 0


def test_counters_begin_anew_after_a_restart_of_the_server() -> None:
    growth = Growth()
    growth.see({"hits": 100, "misses": 10})
    assert growth.of("hits") is None
    growth.see({"hits": 130, "misses": 20})
    assert (growth.of("hits"), growth.share("hits", "misses")) == (30, 0.75)
    growth.see({"hits": 5, "misses": 0})
    assert (growth.of("hits"), growth.share("hits", "misses")) == (5, 1)
    growth.see({"hits": 5, "misses": 0})
    assert growth.share("hits", "misses") is None
