"""SQLite: one moment of a database while others write to it, back on its own and checked by the library."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from backup.applications.base import LATEST, RecoveryTarget
from backup.applications.manifest import differences
from backup.applications.sqlite import SqliteApplication, SqliteRunning
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.repository import Repository
from backup.sources.sqlite import SqliteSource, StartedOverTooOften, Watch
from backup.storage.base import FileKind
from tests.backup.repositories import FakeClock
from tests.backup.sources.saving import bring_back, save

TOTAL = 1000


def make(path: Path, mode: str = "wal", rows: int = 2000) -> Path:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.executescript(
            "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER);"
            "CREATE TABLE invoice ("
            " number TEXT PRIMARY KEY, account INTEGER REFERENCES account, created_at TEXT, note TEXT);"
            "CREATE INDEX by_date ON invoice (created_at); PRAGMA user_version = 7;"
        )
        db.executemany("INSERT INTO account VALUES (?, ?)", [(1, TOTAL), (2, 0)])
        db.executemany(
            "INSERT INTO invoice VALUES (?, 1, ?, ?)",
            ((f"INV-{n:06}", f"2026-01-{n % 28 + 1:02}", f"{n * 7919 % 100003:>500}") for n in range(rows)),
        )
    return path


@contextmanager
def a_writer(path: Path) -> Iterator[Callable[[], int]]:
    """Move money between the two accounts as fast as it goes, and write an invoice each time; tells how often."""
    done, stop, failed = 0, threading.Event(), list[Exception]()

    def write() -> None:
        nonlocal done
        try:
            with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = OFF")
                while not stop.is_set():
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("UPDATE account SET balance = balance - 1 WHERE id = 1")
                    db.execute("UPDATE account SET balance = balance + 1 WHERE id = 2")
                    db.execute("INSERT INTO invoice VALUES (?, 2, '2026-02-01', '')", (f"NEW-{done}",))
                    db.execute("COMMIT")
                    done += 1
        except Exception as error:  # noqa: BLE001 - it is the test's to judge
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: done
    finally:
        stop.set()
        thread.join()
    assert failed == []


def source(path: Path, tmp_path: Path, clock: FakeClock, **more: object) -> SqliteSource:
    return SqliteSource("ledger", clock, path, tmp_path / "work", **more)  # type: ignore[arg-type]


@contextmanager
def running(folder: Path, tmp_path: Path) -> Iterator[SqliteRunning]:
    with SqliteApplication().start(folder, workspace=tmp_path / "scratch", timeout_seconds=30) as found:
        yield found


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_one_moment_comes_back_though_others_write(
    repository: Repository, clock: FakeClock, tmp_path: Path, mode: str
) -> None:
    path = make(tmp_path / "ledger.db", mode, rows=20_000)
    with a_writer(path) as written:
        while written() < 20:
            pass
        before = written()
        report = save(repository, source(path, tmp_path, clock, newest=("invoice.created_at",)), "ledger")
    assert not (tmp_path / "work").exists(), "the copy is gone"
    folder = bring_back(repository, report, tmp_path / "back", "ledger")
    assert {item.name for item in folder.iterdir()} == {"manifest.json", "ledger.db"}
    with running(folder, tmp_path) as found:
        assert found.integrity() == []
        assert found.query("SELECT sum(balance) FROM account") == TOTAL
        moved = found.query("SELECT balance FROM account WHERE id = 2")
        assert moved == found.query("SELECT count(*) FROM invoice WHERE number LIKE 'NEW-%'")
        assert isinstance(moved, int)
        assert moved >= before
        assert list(differences(found.saved, found.manifest())) == []
        assert found.saved.tables["invoice"].newest == {"created_at": "2026-02-01"}
        assert (found.saved.details["user_version"], found.saved.rows) == (7, 20_002 + moved)
        assert report.manifest["kind"] == "sqlite"
    assert {item.name for item in folder.iterdir()} == {"manifest.json", "ledger.db"}, "nothing is written beside it"


def test_a_copy_that_is_started_over_too_often_is_taken_in_one_go(tmp_path: Path, clock: FakeClock) -> None:
    path = make(tmp_path / "ledger.db", "delete", rows=20_000)
    attempts = 0

    class Counting(FakeClock):
        def __call__(self) -> datetime:
            nonlocal attempts
            attempts += 1
            return super().__call__()

    made = source(path, tmp_path, Counting())
    with made.capture() as capture:
        assert capture.manifest
    assert attempts == 1, "small steps, as nobody writes"
    with a_writer(path) as written:
        while written() < 5:
            pass
        with made.capture() as capture:
            assert capture.manifest
    assert attempts in (2, 3), "in small steps where the writer let them through, else in one go"


def test_small_steps_are_given_up_when_others_start_them_over_again_and_again() -> None:
    watch = Watch(busy_seconds=60)
    for remaining in (900, 800, 950, 100, 960, 50):
        watch(sqlite3.SQLITE_OK, remaining, 1000)
    with pytest.raises(StartedOverTooOften):
        watch(sqlite3.SQLITE_OK, 970, 1000)


def test_only_changed_pages_are_stored_again(repository: Repository, clock: FakeClock, tmp_path: Path) -> None:
    path = make(tmp_path / "ledger.db", rows=10_000)
    first = save(repository, source(path, tmp_path, clock), "ledger")
    assert first.bytes_added > 5_000_000
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE invoice SET note = 'paid' WHERE number = 'INV-005000'")
    clock.advance(hours=1)
    assert save(repository, source(path, tmp_path, clock), "ledger").bytes_added < 3 * 65_536


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tmp_path: Path, clock: FakeClock) -> None:
    path = make(tmp_path / "ledger.db")
    before = {item.name for item in tmp_path.iterdir()}
    with source(path, tmp_path, clock).capture() as capture:
        assert capture.manifest
    assert {item.name for item in tmp_path.iterdir()} - {"work"} - before <= {"ledger.db-wal", "ledger.db-shm"}


# ---- what goes wrong at backup


def refused(repository: Repository, made: SqliteSource, match: str) -> None:
    with pytest.raises(SourceError, match=match):
        save(repository, made, "ledger")
    assert not list(repository.storage.list(FileKind.SNAPSHOT))


def test_a_database_that_is_not_there_fails_the_run(repository: Repository, clock: FakeClock, tmp_path: Path) -> None:
    refused(repository, source(tmp_path / "no.db", tmp_path, clock), "no such file")


def test_what_is_no_database_fails_the_run(repository: Repository, clock: FakeClock, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database" * 1000)
    refused(repository, source(tmp_path / "text.db", tmp_path, clock), "file is not a database")


def test_a_database_that_stays_locked_fails_the_run_in_time(
    repository: Repository, clock: FakeClock, tmp_path: Path
) -> None:
    path = make(tmp_path / "ledger.db", "delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused(repository, source(path, tmp_path, clock, busy_seconds=0.3), "kept it locked for 0.3s|locked")


@pytest.mark.parametrize(
    ("column", "reason"), [("bill.created_at", "no table bill"), ("invoice.made", "no such column")]
)
def test_a_column_that_is_not_there_fails_the_run(
    repository: Repository, clock: FakeClock, tmp_path: Path, column: str, reason: str
) -> None:
    path = make(tmp_path / "ledger.db")
    refused(repository, source(path, tmp_path, clock, newest=(column,)), reason)


# ---- what goes wrong with what came back


@pytest.fixture
def restored(repository: Repository, clock: FakeClock, tmp_path: Path) -> Path:
    made = source(make(tmp_path / "ledger.db"), tmp_path, clock, newest=("invoice.created_at",))
    return bring_back(repository, save(repository, made, "ledger"), tmp_path / "back", "ledger")


@pytest.mark.parametrize(
    ("fault", "said"), [("dropped-table", "is not there"), ("fewer-rows", "1999 rows, and had 2000")]
)
def test_planted_damage_is_found_by_name(restored: Path, tmp_path: Path, fault: str, said: str) -> None:
    with running(restored, tmp_path) as found:
        assert list(differences(found.saved, found.manifest())) == []
        assert found.plant(fault) == "table invoice"
        (difference,) = differences(found.saved, found.manifest())
        assert difference.startswith("table invoice")
        assert said in difference


def test_a_row_that_its_index_does_not_know_is_found(restored: Path, tmp_path: Path) -> None:
    content = (restored / "ledger.db").read_bytes()
    (restored / "ledger.db").write_bytes(content.replace(b"INV-001000", b"INV-0010XX", 1))
    with running(restored, tmp_path) as found:
        assert any("missing from index sqlite_autoindex_invoice_1" in fault for fault in found.integrity())


def test_a_broken_page_is_found(restored: Path, tmp_path: Path) -> None:
    content = bytearray((restored / "ledger.db").read_bytes())
    at = content.index(b"INV-001000") // 4096 * 4096
    content[at : at + 4096] = bytes(4096)
    (restored / "ledger.db").write_bytes(content)
    with running(restored, tmp_path) as found:
        assert all(fault.startswith("ledger.db: ") for fault in found.integrity())
        assert found.integrity()


def test_a_truncated_database_is_found(restored: Path, tmp_path: Path) -> None:
    content = (restored / "ledger.db").read_bytes()
    (restored / "ledger.db").write_bytes(content[: len(content) // 2])
    with running(restored, tmp_path) as found:
        assert "ledger.db" in found.integrity()[0]


def test_a_row_without_its_parent_is_found(restored: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(restored / "ledger.db", isolation_level=None)) as db:
        db.execute("DELETE FROM account WHERE id = 1")
        db.execute("PRAGMA journal_mode = DELETE")
    with running(restored, tmp_path) as found:
        assert "refers to one of account that is not there" in found.integrity()[0]


def test_a_database_without_its_file_does_not_start(restored: Path, tmp_path: Path) -> None:
    (restored / "ledger.db").unlink()
    with pytest.raises(ApplicationError, match="no such file"), running(restored, tmp_path):
        pass


def test_a_statement_that_fails_says_why(restored: Path, tmp_path: Path) -> None:
    with running(restored, tmp_path) as found:
        with pytest.raises(ApplicationError, match="no such table: bill"):
            found.query("SELECT * FROM bill")
        assert found.query("SELECT 1 WHERE 0") is None


def test_sqlite_cannot_go_to_a_moment_and_says_so(repository: Repository, restored: Path) -> None:
    application = SqliteApplication()
    application.recover(repository, restored, LATEST)
    assert application.records(repository, restored) == ()
    with pytest.raises(RestoreError, match="keeps no log"):
        application.recover(repository, restored, RecoveryTarget(position="1"))
