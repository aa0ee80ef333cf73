"""Databases whose log is archived, under load: drilled to moments of it, planted faults found, and none invented."""

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from backup.drills.faults import DROPPED_TABLE, FEWER_ROWS, MISSING_WAL, PLANTS
from config.loading import load
from config.settings import Settings
from keepwatch.cli.app import run as command_line
from keepwatch.clock import now
from keepwatch.orders import Ending, Order
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from keepwatch.wal.keeper import WalKeeper
from keepwatch.wal.status import WalStatus
from tests.backup.postgres_scene import SUMS, Office, furnish
from tests.end_to_end.writing import meanwhile
from tests.keepwatch.guarded import without_waiting
from tests.servers.mariadb import OWNER, PASSWORD, mariadb
from tests.servers.postgres import postgres
from tests.servers.private import private_folder

CLIENT = Path(__file__).resolve().parents[2] / "keepwatch/wal/push.py"
PATIENCE_SECONDS = 60
SETTINGS = """
[daemon]
state_dir = "{root}/state"
host = "erp-1"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/repository.password"
[jobs.ledger]
source = {source}
repositories = ["local"]
incremental = "every 1h"
rpo = "1h"
rto = "10m"
[jobs.ledger.drill]
schedule = "daily 04:30"
level = "point-in-time"
until = "random"
stale_after = "7d"
assert = [{assertion}]
"""
LOADED_SERVER = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0", "expire_logs_days": "1"}
SCHEMA = """
CREATE DATABASE shop; CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT);
INSERT INTO shop.account VALUES (1, 1000), (2, 0);
CREATE TABLE shop.posting (id INT AUTO_INCREMENT PRIMARY KEY, note TEXT);
INSERT INTO shop.posting (note) SELECT REPEAT('x', 200) FROM mysql.help_topic LIMIT 500;
"""
BALANCED = """SELECT sum(balance) = 1000 AND (SELECT balance FROM shop.account WHERE id = 2)
 = (SELECT count(*) FROM shop.posting WHERE note = 'moved') FROM shop.account"""
Load = Callable[[], "contextlib.AbstractContextManager[None]"]


class Books:
    """A job called ledger that keeps a log: its database, something that writes to it, what must always hold."""

    def __init__(self, root: Path, source: str, assertion: str, write: Load, end_file: Callable[[], object]) -> None:
        self.root, self.load, self.end_file = root, write, end_file
        """``end_file`` has the server begin another file of its log."""
        self.state = StateDirectory(root / "state")
        self.config = root / "keepwatch.toml"
        for name, secret in (("repository.password", "correct horse"), ("mariadb.password", PASSWORD)):
            (root / name).write_text(secret + "\n")
            (root / name).chmod(0o600)
        self.config.write_text(SETTINGS.format(root=root, source=source, assertion=assertion))

    @property
    def settings(self) -> Settings:
        return load(self.config, environ=os.environ)

    def keepwatch(self, *words: str) -> int:
        return command_line([*words, "--config", str(self.config)])

    def run(self, kind: str, **order: object) -> Ending:
        return carry_out(
            Order(0, kind, "ledger", "local", **order), self.settings, self.state,  # type: ignore[arg-type]
            clock=now, progress=lambda _: None, stop=threading.Event(),
        )  # fmt: skip

    def save(self) -> None:
        ending = self.run("incremental")
        assert (ending.outcome, ending.hint) == ("succeeded", ""), ending.message

    @contextlib.contextmanager
    def archiving(self) -> Iterator[Callable[[], WalStatus | None]]:
        """Have the log archived by a child, as under the daemon; gives what tells how it stands."""
        keeper, done = WalKeeper(self.settings, self.state.path), threading.Event()

        def tend() -> None:
            while not done.wait(0.2):
                keeper.tick()

        worker = threading.Thread(target=tend)
        worker.start()
        try:
            yield lambda: keeper.standings().get("ledger")
        finally:
            done.set()
            worker.join()
            keeper.stop()

    def await_log(self, standing: Callable[[], WalStatus | None], files: int = 1) -> None:
        """Wait until so many files of the log have ended, and all of them is stored up to now."""
        for _ in range(files):
            self.end_file()
        wanted, deadline = now(), time.monotonic() + PATIENCE_SECONDS
        while (found := standing()) is None or found.covered_until is None or found.covered_until < wanted:
            assert time.monotonic() < deadline, f"the log is not archived: {found}"
            time.sleep(0.1)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder in which a socket's path is short, and through which a server's user may pass."""
    with tempfile.TemporaryDirectory(prefix="kw-", dir="/tmp") as folder:
        os.chmod(folder, 0o711)
        yield Path(folder)


@contextlib.contextmanager
def postgres_books(wal: str) -> Iterator[Books]:
    with short_folder() as root, private_folder("office") as folder, private_folder("copies") as scratch:
        settings = {"wal_level": "replica"}
        if wal == "push":
            client = root / "push.py"  # where the server's user may read it, for any interpreter
            client.write_bytes(CLIENT.read_bytes())
            client.chmod(0o644)
            python = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
            start = "import runpy, sys; sys.exit(runpy.run_path(sys.argv[1])['main'](sys.argv[2:]))".replace("'", "''")
            command = f'{python} -c "{start}" {client} --socket {root}/wal.sock %p'
            settings |= {"archive_mode": "on", "archive_timeout": "5", "archive_command": command}
        with postgres(folder, settings) as server:
            server.sql("create database shop")
            office = furnish(Office(server, scratch))
            dsn = server.dsn.replace("dbname=postgres", "dbname=shop")
            source = (
                f'{{ type = "postgres", dsn = "{dsn}", method = "physical", wal = "{wal}", wal_users = ["nobody"],'
                f' wal_socket = "{root}/wal.sock" }}'
            )
            sums = " ".join(SUMS.split())
            yield Books(
                root, source, f'{{ sql = "{sums}", database = "shop" }}', lambda: office.load("-R", "200"),
                lambda: server.sql("select pg_switch_wal()"),
            )  # fmt: skip


@contextlib.contextmanager
def mariadb_books(method: str, come_from: str) -> Iterator[Books]:
    with short_folder() as root, private_folder("mariadb") as folder, mariadb(folder, LOADED_SERVER) as server:
        server.sql(SCHEMA)

        @contextlib.contextmanager
        def load() -> Iterator[None]:
            def write(stop: threading.Event) -> None:
                session = pymysql.connect(unix_socket=str(server.socket), user=OWNER, password=PASSWORD)
                with contextlib.closing(session), session.cursor() as cursor:
                    while not stop.wait(0.005):
                        cursor.execute("UPDATE shop.account SET balance = balance - 1 WHERE id = 1")
                        cursor.execute("INSERT INTO shop.posting (note) VALUES ('moved')")
                        cursor.execute("UPDATE shop.account SET balance = balance + 1 WHERE id = 2")
                        session.commit()

            with meanwhile(write):
                yield

        place = f'socket = "{server.socket}"' if come_from == "files" else f'host = "127.0.0.1", port = {server.port}'
        source = (
            f'{{ type = "mariadb", method = "{method}", {place}, user = "{OWNER}", databases = ["shop"],'
            f' password_file = "{root}/mariadb.password", binlog = true, binlog_from = "{come_from}",'
            ' binlog_every = "1s" }'
        )
        balanced = " ".join(BALANCED.split())
        yield Books(root, source, f'{{ sql = "{balanced}" }}', load, lambda: server.sql("FLUSH BINARY LOGS"))


BOOKS: dict[str, Callable[[], "contextlib.AbstractContextManager[Books]"]] = {
    "postgres pushed": lambda: postgres_books("push"),
    "postgres received": lambda: postgres_books("receive"),
    "mariadb physical": lambda: mariadb_books("physical", "files"),
    "mariadb logical": lambda: mariadb_books("logical", "server"),
}


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", BOOKS)
def test_every_fault_planted_in_a_job_with_a_log_is_found_and_named_in_the_journal(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with BOOKS[kind]() as books, books.archiving() as standing:
        with books.load():
            for _ in range(2):  # with the second one PostgreSQL's log is folded
                books.save()
                books.await_log(standing, files=4)
        faults = [(fault, "latest") for fault in PLANTS] + [(MISSING_WAL, "oldest")]
        capsys.readouterr()
        for fault, snapshot in faults:
            level = "application" if fault in (DROPPED_TABLE, FEWER_ROWS) else "point-in-time"
            words = ("--plant", fault, "--level", level, "--snapshot", snapshot, "--seed", "7")
            status = books.keepwatch("drill", "ledger", *words)
            said = capsys.readouterr()
            assert (fault, snapshot, status) == (fault, snapshot, 0), said.out + said.err
        assert books.keepwatch("drill", "log", "--json") == 0
        lines = [line["record"] for line in json.loads(capsys.readouterr().out)]
        for (fault, _), record in zip(faults, lines, strict=True):
            found = f"the planted fault was found ({record['planted']})"
            assert (fault, found in record["message"]) == (fault, True), record
            if fault == MISSING_WAL:
                name = record["planted"].removeprefix("log record ").removesuffix(" is missing")
                assert f"{name} is missing" in record["message"].replace(found, "")
        passed = books.run("drill")
        assert passed.outcome == "passed", passed.message


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", BOOKS)
def test_fifty_drills_of_a_busy_healthy_job_with_a_log_raise_no_false_alarm(kind: str) -> None:
    with BOOKS[kind]() as books, books.archiving() as standing, books.load():
        for number in range(50):
            books.save()
            books.await_log(standing)
            ending = books.run("drill", snapshot="latest" if number % 2 else "random", seed=number)
            assert ending.outcome == "passed", f"drill {number}: {ending.message}: {ending.hint}"
            found = standing()
            assert found is not None
            assert (found.gap, found.problem, found.switched_at) == ("", "", None)
