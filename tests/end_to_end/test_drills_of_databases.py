"""Databases under load, saved and drilled by a job's settings: planted faults are found, and none is invented."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pymysql
import pytest

from backup.drills.faults import DROPPED_TABLE, FEWER_ROWS, FLIPPED_BIT, STALE_SOURCE, SWAPPED_BLOB, TRUNCATED_DUMP
from config.loading import load
from keepwatch.orders import Ending, Order
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from tests.backup.postgres_scene import SUMS, office
from tests.end_to_end.writing import meanwhile
from tests.keepwatch.guarded import without_waiting
from tests.servers import other_postgres
from tests.servers.mariadb import OWNER as MARIADB_OWNER
from tests.servers.mariadb import PASSWORD as MARIADB_PASSWORD
from tests.servers.mariadb import mariadb
from tests.servers.private import private_folder
from tests.servers.redis import redis

SETTINGS = """
[daemon]
state_dir = "{root}/state"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/password"
[jobs.ledger]
source = {source}
repositories = ["local"]
incremental = "every 1h"
rto = "5m"
rpo = "1h"
[jobs.ledger.drill]
schedule = "daily 04:30"
level = "application"
stale_after = "{stale_after}"
assert = [{assertion}]
"""

Load = Callable[[], "contextlib.AbstractContextManager[None]"]
MOVE = "redis.call('decr', 'left'); redis.call('incr', 'right'); return redis.call('rpush', 'log', 'moved')"
SUM = "return redis.call('get', 'left') + redis.call('get', 'right')"


class Books:
    """A job called ledger: its database, something that writes to it, and what must always hold."""

    def __init__(self, root: Path, source: str, assertion: str, load: Load) -> None:
        self.root, self.load = root, load
        self.source, self.assertion = source, assertion
        self.state = StateDirectory(root / "state")
        (root / "password").write_text("correct horse\n")
        (root / "password").chmod(0o600)
        self.set()

    def set(self, stale_after: str = "7d") -> None:
        self.config = self.root / "keepwatch.toml"
        self.config.write_text(
            SETTINGS.format(root=self.root, source=self.source, assertion=self.assertion, stale_after=stale_after)
        )

    def run(self, kind: str, **order: object) -> Ending:
        return carry_out(
            Order(0, kind, "ledger", "local", **order), load(self.config, environ={}), self.state,  # type: ignore[arg-type]
            clock=lambda: datetime.now(UTC), progress=lambda _: None, stop=threading.Event(),
        )  # fmt: skip

    def save(self) -> None:
        ending = self.run("incremental")
        assert ending.outcome == "succeeded", f"{ending.message}: {ending.hint}"


@contextlib.contextmanager
def sqlite_books(root: Path) -> Iterator[Books]:
    path = root / "ledger.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode = wal")
        db.executescript(
            "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER);"
            "INSERT INTO account VALUES (1, 1000), (2, 0);"
            "CREATE TABLE posting (id INTEGER PRIMARY KEY, at TEXT DEFAULT current_timestamp, note TEXT)"
        )
        db.executemany("INSERT INTO posting (note) VALUES (?)", (("x" * 200,) for _ in range(2000)))

    @contextlib.contextmanager
    def load() -> Iterator[None]:
        def write(stop: threading.Event) -> None:
            with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as db:
                while not stop.is_set():
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("UPDATE account SET balance = balance - 1 WHERE id = 1")
                    db.execute("UPDATE account SET balance = balance + 1 WHERE id = 2")
                    db.execute("INSERT INTO posting (note) VALUES ('moved')")
                    db.execute("COMMIT")

        with meanwhile(write):
            yield

    assertion = '{ sql = "SELECT sum(balance) FROM account", equals = 1000 }'
    yield Books(root, f'{{ type = "sqlite", path = "{path}" }}', assertion, load)


@contextlib.contextmanager
def postgres_books(
    root: Path, method: str, major: int | None = None, settings: dict[str, str] | None = None
) -> Iterator[Books]:
    programs = other_postgres.programs(major) if major else None
    with office(settings, programs=programs) as place:
        dsn = place.server.dsn.replace("dbname=postgres", "dbname=shop")
        more = f', programs = "{programs}"' if programs else ""
        source = (
            f'{{ type = "postgres", dsn = "{dsn}", method = "{method}", newest = ["books.invoice.created_at"]{more} }}'
        )
        sums = " ".join(SUMS.split())
        yield Books(root, source, f'{{ sql = "{sums}", database = "shop" }}', place.load)


@contextlib.contextmanager
def redis_books(root: Path) -> Iterator[Books]:
    with private_folder("redis") as folder, redis(folder) as server:
        server.command("mset", "left", 1000, "right", 0)

        @contextlib.contextmanager
        def load() -> Iterator[None]:
            def write(stop: threading.Event) -> None:
                while not stop.is_set():
                    server.command("eval", MOVE, 0)

            with meanwhile(write):
                yield

        source = f'{{ type = "redis", url = "redis://127.0.0.1:{server.port}" }}'
        yield Books(root, source, f"{{ sql = '''EVAL \"{SUM}\" 0''', equals = 1000 }}", load)


@contextlib.contextmanager
def mariadb_books(root: Path, method: str) -> Iterator[Books]:
    with private_folder("mariadb") as folder, mariadb(folder) as server:
        server.sql(
            "CREATE DATABASE shop; CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT);"
            "INSERT INTO shop.account VALUES (1, 1000), (2, 0);"
            "CREATE TABLE shop.posting (id INT AUTO_INCREMENT PRIMARY KEY, note TEXT);"
            "INSERT INTO shop.posting (note) SELECT REPEAT('x', 200) FROM mysql.help_topic LIMIT 500"
        )

        @contextlib.contextmanager
        def load() -> Iterator[None]:
            def write(stop: threading.Event) -> None:
                session = pymysql.connect(unix_socket=str(server.socket), user=MARIADB_OWNER, password=MARIADB_PASSWORD)
                with closing(session), session.cursor() as cursor:
                    while not stop.is_set():
                        cursor.execute("UPDATE shop.account SET balance = balance - 1 WHERE id = 1")
                        cursor.execute("UPDATE shop.account SET balance = balance + 1 WHERE id = 2")
                        cursor.execute("INSERT INTO shop.posting (note) VALUES ('moved')")
                        session.commit()

            with meanwhile(write):
                yield

        (root / "mariadb.password").write_text(MARIADB_PASSWORD)
        (root / "mariadb.password").chmod(0o600)
        source = (
            f'{{ type = "mariadb", method = "{method}", socket = "{server.socket}", user = "{MARIADB_OWNER}",'
            f' password_file = "{root}/mariadb.password" }}'
        )
        yield Books(root, source, '{ sql = "SELECT sum(balance) FROM shop.account", equals = 1000 }', load)


BOOKS: dict[str, Callable[[Path], "contextlib.AbstractContextManager[Books]"]] = {
    "sqlite": sqlite_books,
    "postgres logical": lambda root: postgres_books(root, "logical"),
    "postgres physical": lambda root: postgres_books(root, "physical"),
    "redis": redis_books,
    "mariadb logical": lambda root: mariadb_books(root, "logical"),
    "mariadb physical": lambda root: mariadb_books(root, "physical"),
}
OF_OTHER_VERSIONS: dict[str, Callable[[Path], "contextlib.AbstractContextManager[Books]"]] = {
    f"postgres {major} {method}": partial(postgres_books, method=method, major=major)
    for major in other_postgres.SUITES
    for method in ("logical", "physical")
}
LONG = {"mariadb logical", "mariadb physical", *OF_OTHER_VERSIONS}
"""Whose own tests show most of it already, and those of servers that are not installed."""
ALL_BOOKS = BOOKS | OF_OTHER_VERSIONS
KINDS = [pytest.param(kind, marks=pytest.mark.campaign if kind in LONG else ()) for kind in ALL_BOOKS]
WITH_TABLES = [kind for kind in KINDS if kind.values != ("redis",)]


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_under_load_is_saved_and_comes_back_with_its_books_balanced(tmp_path: Path, kind: str) -> None:
    with ALL_BOOKS[kind](tmp_path) as books:
        with books.load():
            books.save()
            ending = books.run("drill")
        assert ending.outcome == "passed", f"{ending.message}: {ending.hint}"
        assert "holds: " in ending.message
        assert ending.figures["rto_seconds"] < 300
        assert list((books.root / "state/scratch").iterdir()) == []


@pytest.mark.parametrize("kind", WITH_TABLES)
def test_every_fault_planted_in_a_database_is_found_by_name(tmp_path: Path, kind: str) -> None:
    with ALL_BOOKS[kind](tmp_path) as books:
        books.save()
        for fault in (DROPPED_TABLE, FEWER_ROWS, TRUNCATED_DUMP, FLIPPED_BIT, SWAPPED_BLOB, STALE_SOURCE):
            ending = books.run("drill", plant=fault)
            assert (fault, ending.outcome) == (fault, "succeeded"), ending.message
            assert ending.message.startswith("the planted fault was found")
        assert books.run("drill").outcome == "passed"


@pytest.mark.campaign
def test_runs_tell_what_of_the_server_they_read_and_increments_are_drilled(tmp_path: Path) -> None:
    with postgres_books(tmp_path, "physical", 17, {"summarize_wal": "on"}) as books, books.load():
        told = [books.run(kind).message for kind in ("incremental", "incremental", "full", "incremental")]
        assert ["base backup: whole" in message for message in told] == [True, False, True, False]
        assert ["base backup: changes since snapshot" in message for message in told] == [False, True, False, True]
        ending = books.run("drill")
        assert ending.outcome == "passed", f"{ending.message}: {ending.hint}"


@pytest.mark.campaign
@pytest.mark.parametrize("kind", BOOKS)
def test_fifty_drills_of_a_busy_healthy_system_raise_no_false_alarm(tmp_path: Path, kind: str) -> None:
    with BOOKS[kind](tmp_path) as books, books.load():
        for _ in range(50):
            books.save()
            ending = books.run("drill", snapshot="random")
            assert ending.outcome == "passed", f"{ending.message}: {ending.hint}"
