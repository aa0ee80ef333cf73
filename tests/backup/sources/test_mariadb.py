"""MariaDB: dumps and physical copies of a busy server, brought back to life by a private one."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.applications.base import LATEST
from backup.applications.manifest import TableFacts, differences
from backup.applications.mariadb import MariaDbApplication, MariaDbRunning
from backup.applications.mariadb_connection import Server, open_session, rows
from backup.errors import ApplicationError, SourceError
from backup.repository import Repository
from backup.sources.mariadb import MariaDbSource
from backup.storage.base import FileKind
from config.databases import MariaDbSource as MariaDbSettings
from tests.backup.repositories import FakeClock
from tests.backup.sources.saving import bring_back, save
from tests.servers.mariadb import OWNER, PASSWORD, MariaDb, mariadb
from tests.servers.private import private_folder

SCHEMA = """
CREATE DATABASE shop; USE shop;
CREATE TABLE account (id INT PRIMARY KEY, balance INT) ENGINE=InnoDB;
CREATE TABLE invoice (
  number INT AUTO_INCREMENT PRIMARY KEY, account INT, note TEXT, scan BLOB, created_at DATETIME(6),
  FOREIGN KEY (account) REFERENCES account (id)) ENGINE=InnoDB;
CREATE TABLE `odd ``name (1)` (x INT) ENGINE=InnoDB;
CREATE VIEW open_invoice AS SELECT * FROM invoice;
CREATE PROCEDURE close_all() BEGIN
INSERT INTO account VALUES (99, 0);
END;
INSERT INTO account VALUES (1, 1000), (2, 0);
INSERT INTO invoice (account, note, scan, created_at)
  SELECT 1, CONCAT('it''s (', seq, ')\\n(2, \\'x\\\\'), REPEAT(CHAR(seq % 256), 400), '2026-01-01' + INTERVAL seq SECOND
  FROM seq_1_to_3000;
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.invoice;
CREATE DATABASE archive; CREATE TABLE archive.old (x INT); INSERT INTO archive.old VALUES (1), (2);
CREATE USER reader@localhost IDENTIFIED BY 'reads'; GRANT SELECT ON shop.* TO reader@localhost;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    settings = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0", "binlog_format": "ROW"}
    with private_folder("mariadb") as folder, mariadb(folder, settings) as running:
        script = folder / "schema.sql"
        script.write_text("DELIMITER $$\n" + SCHEMA.replace(";\n", "$$\n").replace("$$\nEND", ";\nEND"))
        running.sql(f"source {script}")
        yield running


@contextmanager
def a_writer(server: MariaDb) -> Iterator[Callable[[], int]]:
    """Move money between two accounts, each time with an invoice; tells how often."""
    done, stop, failed = 0, threading.Event(), list[Exception]()

    def write() -> None:
        nonlocal done
        session = open_session(unix_socket=str(server.socket), user=OWNER, password=PASSWORD, database="shop")
        try:
            while not stop.is_set():
                session.begin()
                rows(session, "UPDATE account SET balance = balance - 1 WHERE id = 1")
                rows(session, "UPDATE account SET balance = balance + 1 WHERE id = 2")
                rows(session, "INSERT INTO invoice (account, note, created_at) VALUES (2, 'moved', '2026-02-01')")
                session.commit()
                done += 1
        except Exception as error:  # noqa: BLE001 - it is the test's to judge
            failed.append(error)
        finally:
            session.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: done
    finally:
        stop.set()
        thread.join()
    assert failed == []


def settings(server: MariaDb, tmp_path: Path, method: str, **more: object) -> MariaDbSettings:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    return MariaDbSettings(
        type="mariadb", socket=str(server.socket), user=OWNER, password_file=secret, method=method, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def source(server: MariaDb, tmp_path: Path, clock: FakeClock, method: str, **more: object) -> MariaDbSource:
    return MariaDbSource("ledger", clock, settings(server, tmp_path, method, **more), tmp_path / "work")


@contextmanager
def running(folder: Path) -> Iterator[MariaDbRunning]:
    start = MariaDbApplication("ledger").start
    with private_folder("work") as work, start(folder, workspace=work / "drill", timeout_seconds=60) as found:
        yield found


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_one_moment_of_a_busy_server_comes_back(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, method: str
) -> None:
    before = int(server.sql("SELECT balance FROM account WHERE id = 2", "shop"))
    made = source(server, tmp_path, clock, method, newest=["shop.invoice.created_at"])
    with a_writer(server) as written:
        while written() < 20:
            time.sleep(0.01)
        least = before + written()
        report = save(repository, made, "ledger")
    assert not (tmp_path / "work").exists(), "the option file with the password is gone"
    folder = bring_back(repository, report, tmp_path / "back", "ledger")
    MariaDbApplication("ledger").recover(repository, folder, LATEST)
    with running(folder) as found:
        assert found.integrity() == []
        assert list(differences(found.saved, found.manifest())) == []
        assert found.query("SELECT sum(balance) FROM account", "shop") == 1000
        moved = found.query("SELECT balance FROM account WHERE id = 2", "shop")
        assert moved == found.query("SELECT count(*) FROM invoice WHERE note = 'moved'", "shop")
        assert isinstance(moved, int)
        assert moved >= least
        assert found.query("SELECT note FROM invoice WHERE number = 7", "shop") == "it's (7)\n(2, 'x\\"
        assert found.query("SELECT max(created_at) FROM invoice", "shop").isoformat() == "2026-02-01T00:00:00+00:00"
        for what in ("information_schema.views WHERE table_schema", "mysql.proc WHERE db", "mysql.event WHERE db"):
            assert found.query(f"SELECT count(*) FROM {what} = 'shop'") == 1, what
        assert found.query("SELECT count(*) FROM mysql.user WHERE user = 'reader'") == 1
        facts = found.saved.tables
        assert facts["archive.old"].rows_max is not None
        assert facts["shop.odd `name (1)"].rows_min == 0
        rows_saved = facts["shop.invoice"]
        assert rows_saved.rows_min <= 3000 + moved
        assert rows_saved.rows_max is None or 3000 + moved <= rows_saved.rows_max
        assert method == "physical" or facts["shop.invoice"] == TableFacts(
            3000 + moved, 3000 + moved, {"created_at": "2026-02-01T00:00:00.000000+00:00"}
        )
        assert found.saved.position.startswith("binlog.0")
        assert found.saved.details["gtid"].startswith("0-7-")
        with pytest.raises(ApplicationError, match="doesn't exist"):
            found.query("SELECT * FROM bill", "shop")
        assert found.plant("fewer-rows") == "table shop.invoice"
        (difference,) = differences(found.saved, found.manifest())
        assert difference.startswith("table shop.invoice has ")
        assert found.plant("dropped-table") == "table shop.invoice"
        assert list(differences(found.saved, found.manifest())) == ["table shop.invoice is not there"]


def test_what_did_not_change_is_stored_once(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb
) -> None:
    for method, most in (("logical", 300_000), ("physical", 1_500_000)):
        clock.advance(hours=1)
        first = save(repository, source(server, tmp_path, clock, method), "ledger")
        clock.advance(hours=1)
        server.sql("UPDATE account SET balance = balance WHERE id = 1", "shop")
        second = save(repository, source(server, tmp_path, clock, method), "ledger")
        assert second.bytes_added < most < first.bytes_added, method


def test_a_quiet_server_is_counted_exactly(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb
) -> None:
    for method in ("logical", "physical"):
        clock.advance(hours=1)
        made = source(server, tmp_path, clock, method, databases=["archive"])
        report = save(repository, made, "ledger")
        tables = report.manifest["tables"]
        assert tables == {"archive.old": {"rows": [2, 2], "newest": {}}}, method


def test_by_an_option_file_of_the_operators_own(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb
) -> None:
    options = tmp_path / "my.cnf"
    options.write_text(f'[client]\nsocket={server.socket}\nuser={OWNER}\npassword="{PASSWORD}"\n')
    made = MariaDbSource("ledger", clock, MariaDbSettings(type="mariadb", defaults_file=options), tmp_path / "work")
    assert save(repository, made, "ledger").files_new == 3


def test_a_password_stands_only_in_a_file_that_others_cannot_read(server: MariaDb, tmp_path: Path) -> None:
    made = Server.from_settings(settings(server, tmp_path, "logical"))
    assert PASSWORD not in repr(made)
    path = made.option_file(tmp_path)
    assert PASSWORD in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


# ---- what goes wrong at backup


def refused(repository: Repository, made: MariaDbSource, match: str, **more: object) -> None:
    with pytest.raises(SourceError, match=match) as caught:
        save(repository, made, "ledger", **more)
    assert PASSWORD not in str(caught.value)
    assert not list(repository.storage.list(FileKind.SNAPSHOT))
    assert not made.workspace.exists()


@pytest.mark.parametrize(("more", "match"), [
    ({"databases": ["shoe"]}, "could not find database shoe"),
    ({"newest": ["shop.invoice.paid_at"]}, r"newest shop\.invoice\.paid_at: Unknown column"),
    ({"user": "nobody-such"}, "Access denied"),
    ({"socket": "/nonexistent/socket"}, "could not connect to MariaDB"),
])  # fmt: skip
def test_what_cannot_be_saved_is_said(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, more: dict[str, object], match: str
) -> None:
    given = settings(server, tmp_path, "logical").model_dump() | more
    refused(repository, MariaDbSource("ledger", clock, MariaDbSettings(**given), tmp_path / "work"), match)


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_a_server_that_dies_in_the_middle_leaves_no_snapshot(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, method: str
) -> None:
    server.sql("CREATE DATABASE big; CREATE TABLE big.t AS SELECT seq, REPEAT(UUID(), 2000) x FROM seq_1_to_400")
    asked = iter([server.stop])

    def stop() -> bool:
        if kill := next(asked, None):
            kill(signal.SIGKILL)
        return False

    try:
        refused(repository, source(server, tmp_path, clock, method), "could not (dump|copy|count)", stop=stop)
    finally:
        server.stop()
        server.start()
        server.sql("DROP DATABASE big")


# ---- what comes back damaged


@pytest.fixture
def dumped(repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb) -> Path:
    report = save(repository, source(server, tmp_path, clock, "logical"), "ledger")
    return bring_back(repository, report, tmp_path / "back", "ledger")


@pytest.fixture
def copied(repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb) -> Path:
    report = save(repository, source(server, tmp_path, clock, "physical"), "ledger")
    return bring_back(repository, report, tmp_path / "back", "ledger")


def test_a_truncated_dump_is_found(dumped: Path) -> None:
    os.truncate(dumped / "dump.sql", (dumped / "dump.sql").stat().st_size - 1000)
    with pytest.raises(ApplicationError, match=r"dump\.sql: it was cut off"), running(dumped):
        pass


@pytest.mark.campaign
def test_a_dump_that_the_server_refuses_is_found(dumped: Path) -> None:
    content = (dumped / "dump.sql").read_bytes()
    (dumped / "dump.sql").write_bytes(content.replace(b"INSERT INTO", b"INSERT INTI", 1))
    with pytest.raises(ApplicationError, match=r"could not load dump\.sql: mariadb .*ERROR 1064"), running(dumped):
        pass


@pytest.mark.campaign
def test_rows_missing_in_a_dump_are_found(dumped: Path) -> None:
    content = (dumped / "dump.sql").read_bytes()
    (dumped / "dump.sql").write_bytes(content.replace(b"INSERT INTO `account` VALUES\n(1,", b"INSERT INTO `account` VALUES\n(3,", 1).replace(b"\n(2),\n", b"\n").replace(b"(1),\n(2);", b"(1);"))  # noqa: E501
    with running(dumped) as found:
        assert "table archive.old has 1 rows, and had 2 when it was saved" in list(
            differences(found.saved, found.manifest())
        )


def test_a_broken_page_is_found_by_its_table(copied: Path) -> None:
    path = copied / "data/shop/invoice.ibd"
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 16384):
        content[page * 16384 + 9000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ApplicationError, match="invoice"), running(copied) as found:
        raise ApplicationError(" ".join(found.integrity()))


@pytest.mark.parametrize("gone", ["ibdata1", pytest.param("ib_logfile0", marks=pytest.mark.campaign)])
def test_a_missing_file_keeps_a_physical_copy_from_starting(copied: Path, gone: str) -> None:
    (copied / "data" / gone).unlink()
    with pytest.raises(ApplicationError, match="could not"), running(copied):
        pass
