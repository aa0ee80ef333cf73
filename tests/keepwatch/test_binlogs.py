"""The binlog's way into the repository from a server that is reached over the network only, as a replica gets it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backup.binlog.archive import fetch, files_of, newest_log
from backup.repository import Repository
from backup.storage.local import LocalStorage
from config.loading import load
from keepwatch.cli.app import run as command_line
from keepwatch.clock import now
from keepwatch.wal.binlogs import BinlogArchiver
from keepwatch.wal.status import WalStatus, status_path
from tests.backup.repositories import PASSWORD as REPOSITORY_PASSWORD
from tests.backup.repositories import reopen
from tests.servers.mariadb import OWNER, PASSWORD, MariaDb, mariadb
from tests.servers.private import private_folder

LOG = "office:ledger"
"""Of a member of a group, so that those are shown to have logs."""
HUGE = "INSERT INTO shop.t (note) SELECT repeat('x', 60000) FROM seq_1_to_20"


class Place:
    """A configuration, and what its archiver has stored."""

    def __init__(self, folder: Path, server: MariaDb) -> None:
        self.folder, self.server, self.state = folder, server, folder / "state"
        for name, secret in (("repository.password", REPOSITORY_PASSWORD), ("mariadb.password", PASSWORD)):
            (folder / name).write_text(secret + "\n")
            (folder / name).chmod(0o600)
        self.config = folder / "keepwatch.toml"
        self.config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nhost = "erp-1"\n'
            f'[repositories.local]\nurl = "{folder}/repository"\npassword_file = "{folder}/repository.password"\n'
            '[jobs.office]\nrepositories = ["local"]\nincremental = "every 1h"\nsource.type = "group"\n'
            "[jobs.office.source.members.ledger]\n"
            f'type = "mariadb"\nhost = "127.0.0.1"\nport = {server.port}\nuser = "{OWNER}"\n'
            f'password_file = "{folder}/mariadb.password"\n'
            'binlog = true\nbinlog_from = "server"\nbinlog_spool_limit = "1 MiB"\n'
        )

    @contextmanager
    def archiver(self) -> Iterator[BinlogArchiver]:
        with closing(BinlogArchiver(load(self.config, environ=os.environ), self.state, LOG, now)) as made:
            yield made

    @property
    def repository(self) -> Repository:
        opened: Repository = reopen(LocalStorage(self.folder / "repository"), now)  # type: ignore[arg-type]
        opened.load_index()
        return opened

    @property
    def status(self) -> WalStatus:
        found = WalStatus.read(status_path(self.state, LOG))
        assert found is not None
        return found

    def require_same(self) -> list[str]:
        """Compare every file that is stored with the server's own, which is closed; gives their names."""
        self.server.sql("FLUSH BINARY LOGS")
        with self.archiver() as archiver:
            archiver.archive()
        assert self.status.problem == ""
        repository = self.repository
        newest = newest_log(repository, LOG)
        assert newest is not None
        *whole, _last = sorted(fetch(repository, files_of(repository, LOG, newest), self.folder / "fetched"))
        assert all(path.read_bytes() == (self.server.data / path.name).read_bytes() for path in whole)
        return [path.name for path in whole]


def until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    settings = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0"}
    with private_folder("mariadb") as folder, mariadb(folder, settings) as running:
        running.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT AUTO_INCREMENT PRIMARY KEY, note TEXT)")
        yield running


@pytest.fixture
def place(tmp_path: Path, server: MariaDb) -> Place:
    server.sql("RESET MASTER")
    return Place(tmp_path, server)


def test_what_a_server_sends_is_stored_as_it_has_it_and_gone_on_with_after_a_restart(place: Place) -> None:
    place.server.sql("INSERT INTO shop.t (note) VALUES ('one')")
    asked_at = now()
    with place.archiver() as archiver:
        assert archiver.archive() > 0
        assert (archiver.problem, archiver.archive()) == ("", 0)
        place.server.sql(f"FLUSH BINARY LOGS; {HUGE}")
        assert archiver.archive() > 1_000_000
        assert place.status.covered_until is not None
        assert place.status.covered_until > asked_at
        received = {path.name for path in (place.state / "wal" / LOG / "received").iterdir()}
        assert received == {"binlog.000002"}, "what is stored whole is let go"
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert any(b"--stop-never" in line for line in lines)
        assert not any(PASSWORD.encode() in line and b"--stop-never" in line for line in lines)
    place.server.sql("INSERT INTO shop.t (note) VALUES ('while nobody looked')")
    assert place.require_same() == ["binlog.000001", "binlog.000002"]
    assert (place.status.gap, place.status.spooled_files) == ("", 0)


def test_files_that_the_server_let_go_too_early_are_a_gap(place: Place) -> None:
    with place.archiver() as archiver:
        archiver.archive()
    place.server.sql("FLUSH BINARY LOGS; INSERT INTO shop.t (note) VALUES ('lost'); FLUSH BINARY LOGS")
    purge = "PURGE BINARY LOGS TO 'binlog.000003'; SHOW BINARY LOGS"
    until(lambda: "000002" not in place.server.sql(purge), "the server still needs it, or still sends it")
    for _ in range(2):  # a restart changes nothing of it
        with place.archiver() as archiver:
            archiver.archive()
        assert place.status.gap == "binlog.000002"
        noticed_at = place.status.gap_at
    with place.archiver() as archiver:
        archiver.archive()
    assert place.status.gap_at == noticed_at is not None


def test_a_log_that_is_reset_while_it_is_followed_begins_anew_beside_the_old_one(place: Place) -> None:
    place.server.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS; INSERT INTO shop.t (note) VALUES ('before')")
    with place.archiver() as archiver:
        archiver.archive()
        place.server.sql("RESET MASTER; INSERT INTO shop.t (note) VALUES ('after')")
        until(lambda: archiver.archive() > 0, "nothing of the new log came")
    assert place.require_same() == ["binlog.000001"]
    repository = place.repository
    logs = [shot for shot in repository.snapshots() if f"binlog-of:{LOG}" in shot.tags]
    assert [len(files_of(repository, LOG, shot)) for shot in logs] == [3, 2]


@pytest.mark.campaign
def test_while_the_repository_is_away_no_more_is_received_than_may_wait(place: Place) -> None:
    with place.archiver() as archiver:
        archiver.archive()
        away = place.folder / "away"
        (place.folder / "repository").rename(away)
        (place.folder / "repository").write_text("in the way")
        place.server.sql(f"{HUGE}; FLUSH BINARY LOGS; {HUGE}")
        for _ in range(3):
            archiver.archive()
        assert place.status.spooled_bytes > 1 << 20
        assert place.status.spooled_files >= 1
        assert "mind its disk" in archiver.problem
        (place.folder / "repository").unlink()
        shutil.move(away, place.folder / "repository")
        until(lambda: archiver.archive() >= 0 and not archiver.problem, "it does not go on")
    assert place.require_same() == ["binlog.000001", "binlog.000002"]


def test_a_server_that_refuses_is_the_status_problem_and_the_commands(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "mariadb.password").write_text("wrong\n")
    assert command_line(["binlog", LOG, "--once", "--config", str(place.config)]) == 1
    assert "Access denied" in capsys.readouterr().err
    assert "Access denied" in place.status.problem
    assert command_line(["binlog", "ledger", "--once", "--config", str(place.config)]) == 2
    assert LOG in capsys.readouterr().err
