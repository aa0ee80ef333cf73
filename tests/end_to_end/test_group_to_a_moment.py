"""A group with several kinds of members brought to one moment: by logs where there are, told where there are none."""

import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.applications.mariadb import MariaDbApplication
from backup.applications.open import open_applications
from config.loading import load
from config.settings import Settings
from keepwatch.cli.app import run as command_line
from keepwatch.clock import now
from keepwatch.orders import Ending, Order
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from keepwatch.wal.receiver import Receiver
from tests.servers.mariadb import OWNER, PASSWORD, MariaDb, mariadb
from tests.servers.postgres import Postgres, postgres
from tests.servers.private import private_folder

LOGGING = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0"}
SETTINGS = """
[daemon]
state_dir = "{root}/state"
host = "erp-1"
timezone = "UTC"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/repository.password"
[jobs.office]
repositories = ["local"]
incremental = "every 1h"
source.type = "group"
drill = {{ schedule = "daily 04:30", level = "point-in-time", until = "random" }}
[jobs.office.source.members]
documents = {{ type = "files", paths = ["{root}/documents"] }}
index = {{ type = "sqlite", path = "{root}/index.db" }}
[jobs.office.source.members.ledger]
type = "mariadb"
socket = "{socket}"
user = "{user}"
password_file = "{root}/mariadb.password"
binlog = true
databases = ["shop"]
"""


class Group:
    """A configuration of the group in ``root``."""

    def __init__(self, root: Path, server: MariaDb, more: str = "") -> None:
        self.root, self.server = root, server
        for name, secret in (("repository.password", "correct horse"), ("mariadb.password", PASSWORD)):
            (root / name).write_text(secret + "\n")
            (root / name).chmod(0o600)
        (root / "documents").mkdir()
        (root / "documents/1.pdf").write_text("invoice 1")
        with closing(sqlite3.connect(root / "index.db")) as db, db:
            db.execute("CREATE TABLE page AS SELECT 1 AS n")
        self.config = root / "keepwatch.toml"
        self.config.write_text(SETTINGS.format(root=root, socket=server.socket, user=OWNER) + more)

    @property
    def settings(self) -> Settings:
        return load(self.config, environ=os.environ)

    def keepwatch(self, *words: object) -> int:
        return command_line([*map(str, words), "--config", str(self.config)])

    def drill(self, **order: object) -> Ending:
        return carry_out(
            Order(0, "drill", "office", "local", **order), self.settings, StateDirectory(self.root / "state"),  # type: ignore[arg-type]
            clock=now, progress=lambda _: None, stop=threading.Event(),
        )  # fmt: skip


def next_second() -> datetime:
    """Wait until the next second has begun: those of a binlog are whole."""
    began = int(time.time())
    while time.time() < began + 1.05:
        time.sleep(0.02)
    return datetime.fromtimestamp(began + 1, UTC)


def notes(folder: Path) -> object:
    start = MariaDbApplication("office:ledger").start
    with private_folder("work") as work, start(folder, workspace=work / "drill", timeout_seconds=60) as running:
        return running.query("SELECT group_concat(note ORDER BY n) FROM shop.t")


def test_a_database_goes_to_the_moment_and_what_has_no_log_is_told_to_be_older(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with private_folder("mariadb") as folder, mariadb(folder, LOGGING) as server:
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT AUTO_INCREMENT PRIMARY KEY, note TEXT)")
        group = Group(tmp_path, server)
        assert group.keepwatch("backup", "office", "--quiet") == 0
        next_second()
        server.sql("INSERT INTO shop.t (note) VALUES ('before')")
        moment, position = next_second(), server.sql("SELECT @@gtid_binlog_pos")
        server.sql("INSERT INTO shop.t (note) VALUES ('after')")
        next_second()
        server.sql("FLUSH BINARY LOGS; INSERT INTO shop.t (note) VALUES ('last')")
        assert group.keepwatch("binlog", "office:ledger", "--once") == 0
    restore = ["restore", "latest", "--job", "office", "--target"]
    assert group.keepwatch(*restore, tmp_path / "then", "--until", moment.isoformat()) == 0
    said = capsys.readouterr().out
    assert f"ledger as of {moment:%Y-%m-%d %H:%M:%S} UTC by its log" in said
    assert re.search(r"documents as of \S+ \S+ UTC, .*; [\d.]+ s apart", said)
    assert notes(tmp_path / "then/ledger") == "before"
    assert (tmp_path / f"then{tmp_path}/documents/1.pdf").read_text() == "invoice 1"

    assert group.keepwatch(*restore, tmp_path / "latest") == 0
    assert "ledger as of" in capsys.readouterr().out
    assert notes(tmp_path / "latest/ledger") == "before,after,last"

    assert group.keepwatch(*restore, tmp_path / "x", "--until", "2001-01-01T00:00:00") == 1
    assert "from before 2001-01-01" in capsys.readouterr().err
    assert group.keepwatch(*restore, tmp_path / "there", "--until-position", position) == 0
    assert f"ledger at {position} by its log" in capsys.readouterr().out
    assert notes(tmp_path / "there/ledger") == "before"

    for seed in (1, 2):
        passed = group.drill(seed=seed)
        assert passed.outcome == "passed", passed.message
    assert group.keepwatch("drill", "log", "--json") == 0
    assert "but index as of the snapshot" in capsys.readouterr().out
    passed = group.drill(level="application")
    assert (passed.outcome, "0 rows, none missing" in passed.message) == ("passed", True), passed.message
    drilled = group.drill(level="application", plant="dropped-table")
    assert (drilled.outcome, "table page is dropped" in drilled.message) == ("succeeded", True), drilled.message


def test_a_moment_that_no_members_log_leads_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with private_folder("mariadb") as folder, mariadb(folder, LOGGING) as server:
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT AUTO_INCREMENT PRIMARY KEY, note TEXT)")
        group = Group(tmp_path, server)
        assert group.keepwatch("backup", "office", "--quiet") == 0
    until = ("--until", now().isoformat())
    assert group.keepwatch("restore", "latest", "--job", "office", "--target", tmp_path / "back", *until) == 1
    assert "no member has a log that leads on" in capsys.readouterr().err
    named = ("--until-name", "before the mistake")
    assert group.keepwatch("restore", "latest", "--job", "office", "--target", tmp_path / "named", *named) == 1
    assert "no member has a log" in capsys.readouterr().err
    drilled = group.drill()
    assert (drilled.outcome, "no log records follow" in drilled.message) == ("inconclusive", True)


@pytest.mark.campaign
def test_one_of_several_dumps_is_chosen_and_loaded_into_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with private_folder("mariadb") as one, mariadb(one, LOGGING) as server, private_folder("new") as other:
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT AUTO_INCREMENT PRIMARY KEY, note TEXT)")
        server.sql("CREATE DATABASE crm; CREATE TABLE crm.t AS SELECT 7 AS n")
        more = (
            f'[jobs.office.source.members.clients]\ntype = "mariadb"\nmethod = "logical"\nsocket = "{server.socket}"\n'
            f'user = "{OWNER}"\npassword_file = "{tmp_path}/mariadb.password"\ndatabases = ["crm"]\n'
        )
        group = Group(tmp_path, server, more)
        group.config.write_text(group.config.read_text().replace("binlog = true", 'method = "logical"'))
        assert group.keepwatch("backup", "office", "--quiet") == 0
        with mariadb(other) as new:
            options = tmp_path / "new.cnf"
            options.write_text(f'[client]\nsocket={new.socket}\nuser={OWNER}\npassword="{PASSWORD}"\n')
            into = ("restore", "latest", "--job", "office", "--into", options)
            assert group.keepwatch(*into) == 2
            assert "several dumps (clients, ledger)" in capsys.readouterr().err
            assert group.keepwatch(*into, "--include", "/clients") == 0, capsys.readouterr().err
            assert "databases loaded: crm" in capsys.readouterr().out
            assert new.sql("SELECT n FROM crm.t") == "7"


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_two_servers_go_to_one_moment_by_their_logs(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kw-") as place,
        private_folder("mariadb") as one,
        private_folder("postgres") as two,
        mariadb(one, LOGGING) as sql,
        postgres(two, {"wal_level": "replica"}) as server,
    ):
        sql.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT AUTO_INCREMENT PRIMARY KEY, note TEXT)")
        server.sql("create table entry (note text)")
        books = f'type = "postgres"\ndsn = "{server.dsn}"\nwal = "receive"\n'
        group = Group(Path(place), sql, f"[jobs.office.source.members.books]\n{books}")
        with receiving(group, "office:books"):
            until(lambda: server.sql("select count(*) from pg_stat_replication") == "1", "nobody follows")
            assert group.keepwatch("backup", "office", "--quiet") == 0
            next_second()
            write(sql, server, "before")
            moment = next_second()
            write(sql, server, "after")
            next_second()
            write(sql, server, "last")
            server.sql("select pg_switch_wal()")
            assert group.keepwatch("binlog", "office:ledger", "--once") == 0
            assert group.keepwatch("backup", "office", "--quiet") == 0  # folds the log, and is too young
        back = Path(place) / "back"
        restore = ("restore", "latest", "--job", "office", "--target", back, "--until", moment.isoformat())
        assert group.keepwatch(*restore) == 0, capsys.readouterr().err
        said = capsys.readouterr().out
        for member in ("books", "ledger"):
            assert f"{member} as of {moment:%Y-%m-%d %H:%M:%S} UTC by its log" in said
        assert notes(back / "ledger") == "before"
        members = open_applications(group.settings.jobs["office"].source, name="office")
        start = members["/books"].start
        with private_folder("run") as run, start(back / "books", workspace=run, timeout_seconds=60) as running:
            assert running.query("select string_agg(note, ',') from entry", "postgres") == "before"
        for seed in range(5):
            drilled = group.drill(seed=seed, snapshot="oldest")
            assert drilled.outcome == "passed", drilled.message
        drilled = group.drill(snapshot="oldest", plant="missing-wal-segment")
        assert drilled.outcome == "succeeded", drilled.message
        assert "the planted fault was found (log record 0000000" in drilled.message


def write(sql: MariaDb, server: Postgres, note: str) -> None:
    sql.sql(f"INSERT INTO shop.t (note) VALUES ('{note}')")
    server.sql(f"insert into entry values ('{note}')")


@contextmanager
def receiving(group: Group, log: str) -> Iterator[None]:
    """Have the receiver of a log at work on a thread."""
    receiver, done = Receiver(group.settings, group.root / "state", log, now), threading.Event()
    worker = threading.Thread(target=receiver.serve, args=(done.is_set,))
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()


def until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
