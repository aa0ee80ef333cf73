"""MariaDB lost under load, and back from the repository alone by one command, to between two transactions."""

import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest

from backup.applications.mariadb import MariaDbApplication
from backup.applications.mariadb_connection import open_session, rows
from keepwatch.cli.app import run as command_line
from tests.servers.mariadb import OWNER, PASSWORD, MariaDb, mariadb
from tests.servers.private import private_folder

LOGGING = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0"}
SCHEMA = """
CREATE DATABASE shop; CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT);
INSERT INTO shop.account VALUES (1, 100000), (2, 0);
CREATE TABLE shop.entry (n INT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6));
"""


def configure(folder: Path, server: MariaDb, method: str) -> Callable[..., int]:
    """Write a configuration; gives the command line that goes by it."""
    for name, secret in (("repository.password", "correct horse"), ("mariadb.password", PASSWORD)):
        (folder / name).write_text(secret + "\n")
        (folder / name).chmod(0o600)
    (folder / "keepwatch.toml").write_text(
        f'[daemon]\nstate_dir = "{folder}/state"\nhost = "erp-1"\n'
        f'[repositories.local]\nurl = "{folder}/repository"\npassword_file = "{folder}/repository.password"\n'
        f'[jobs.ledger]\nrepositories = ["local"]\nfull = "daily 01:00"\n'
        f'source = {{ type = "mariadb", socket = "{server.socket}", user = "{OWNER}", method = "{method}",'
        f' password_file = "{folder}/mariadb.password", binlog = true, databases = ["shop"] }}\n'
    )
    return lambda *words: command_line([*map(str, words), "--config", str(folder / "keepwatch.toml")])


@contextmanager
def a_writer(server: MariaDb) -> Iterator[Callable[[], int]]:
    """Move money, three statements a transaction, until the server is gone; tells how often."""
    stop, moved = threading.Event(), 0

    def write() -> None:
        nonlocal moved
        session = open_session(unix_socket=str(server.socket), user=OWNER, password=PASSWORD, database="shop")
        try:
            while not stop.is_set():
                session.begin()
                rows(session, "UPDATE account SET balance = balance - 1 WHERE id = 1")
                rows(session, "INSERT INTO entry (at) VALUES (utc_timestamp(6))")
                rows(session, "UPDATE account SET balance = balance + 1 WHERE id = 2")
                session.commit()
                moved += 1
                time.sleep(0.005)
        except pymysql.Error:  # gone, as it will be
            pass
        finally:
            session.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: moved
    finally:
        stop.set()
        thread.join()


def entries(folder: Path) -> tuple[int, int]:
    """Start what came back; gives how many transactions there are, and how many after the first."""
    start = MariaDbApplication("ledger").start
    with private_folder("work") as work, start(folder, workspace=work / "drill", timeout_seconds=60) as running:
        assert running.integrity() == []
        assert running.query("SELECT sum(balance) FROM account") == 100_000
        count = int(str(running.query("SELECT count(*) FROM entry")))
        assert count == running.query("SELECT balance FROM account WHERE id = 2")
        return count, int(str(running.query("SELECT max(n) FROM entry")))


@pytest.mark.parametrize("method", ["physical", pytest.param("logical", marks=pytest.mark.campaign)])
def test_a_server_that_is_lost_under_load_comes_back_to_between_two_transactions(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with private_folder("mariadb") as folder, mariadb(folder, LOGGING) as server:
        server.sql(SCHEMA)
        keepwatch = configure(tmp_path, server, method)
        with a_writer(server) as moved:
            assert keepwatch("backup", "ledger") == 0
            while moved() < 100:
                time.sleep(0.01)
            position = server.sql("SELECT @@gtid_binlog_pos")
            assert keepwatch("binlog", "ledger", "--once") == 0
            acknowledged = moved()
            assert keepwatch("binlog", "ledger", "--once") == 0
            server.stop(signal.SIGKILL)
        shutil.rmtree(server.data)
    capsys.readouterr()
    assert keepwatch("restore", "latest", "--job", "ledger", "--target", tmp_path / "latest") == 0
    assert re.search("start it with: mariadbd --datadir=.*ledger/data", capsys.readouterr().out)
    count, last = entries(tmp_path / "latest/ledger")
    assert count >= acknowledged, "all that was acknowledged before the last look at the log"
    until = ("--until-position", position)
    assert keepwatch("restore", "latest", "--job", "ledger", "--target", tmp_path / "then", *until) == 0
    then, _ = entries(tmp_path / "then/ledger")
    assert 100 <= then < last
    assert then == int(position.rpartition("-")[2]) - _transactions_before(position), "exactly that one"


def _transactions_before(position: str) -> int:
    """The schema's statements, which the log counts, too: all others are the writer's."""
    return 4 if position.startswith("0-7-") else 0


@pytest.mark.campaign
def test_a_dump_is_loaded_into_a_new_server_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with private_folder("mariadb") as folder, mariadb(folder, LOGGING) as server:
        server.sql(SCHEMA + "CREATE USER reader@localhost IDENTIFIED BY 'reads';")
        keepwatch = configure(tmp_path, server, "logical")
        assert keepwatch("backup", "ledger") == 0
    with private_folder("new") as folder, mariadb(folder) as new:
        options = tmp_path / "new.cnf"
        options.write_text(f'[client]\nsocket={new.socket}\nuser={OWNER}\npassword="{PASSWORD}"\n')
        assert keepwatch("restore", "latest", "--job", "ledger", "--into", options) == 0
        assert "databases loaded: shop" in capsys.readouterr().out
        assert new.sql("SELECT sum(balance) FROM shop.account") == "100000"
        assert new.sql("SELECT count(*) FROM mysql.user WHERE user = 'reader'") == "1"
        assert keepwatch("restore", "latest", "--job", "ledger", "--into", options) == 1
        assert "refused to load database shop" in capsys.readouterr().err
