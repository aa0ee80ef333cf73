"""While a repository is away its log must not fill this machine's disk: it is told, and stops, while there is room."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from config.loading import load
from config.settings import Settings
from keepwatch import bridge
from keepwatch.cli.app import run as command_line
from keepwatch.clock import now
from keepwatch.view import JobView
from keepwatch.wal.binlogs import BinlogArchiver
from keepwatch.wal.receiver import Receiver
from keepwatch.wal.status import WalStatus, status_path
from monitor.result import Result, Status
from tests.servers.mariadb import OWNER, PASSWORD, mariadb
from tests.servers.postgres import postgres
from tests.servers.private import private_folder

MIB = 1 << 20
WAL_FLOOR_SHARE, BINLOG_FLOOR_SHARE = 0.5, 0.05
"""A spool leaves 512 MiB or 5 % free, and of a disk that is smaller than two of those the half."""
LEDGER = JobView(
    name="ledger", source="postgres", repositories=("local",), configured_at=datetime.now(UTC), rpo_seconds=3600.0,
    rto_seconds=None, duties=(), running=None, last_run=None, last_backup=None, last_drill=None, newest_snapshot=None,
    keeps_log=True,
)  # fmt: skip


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, int], None]]:
    """Make folders small disks: real ones where we may mount them, else the kernel's answer is what we say."""
    mounted = list[Path]()

    def make(folder: Path, size: int) -> None:
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
        if os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            mounted.append(folder)
            return

        def usage(_: object) -> Usage:
            used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
            return Usage(size, used, max(0, size - used))

        monkeypatch.setattr("shutil.disk_usage", usage)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)


class Place:
    """A configuration of one job whose state directory is a disk of its own, and its repository."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.state, self.repository = folder, folder / "state", folder / "repository"
        for name, secret in (("repository.password", "correct horse"), ("mariadb.password", PASSWORD)):
            (folder / name).write_text(secret + "\n")
            (folder / name).chmod(0o600)
        self.config = folder / "keepwatch.toml"
        self.config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nhost = "erp-1"\n'
            f'[repositories.local]\nurl = "{self.repository}"\npassword_file = "{folder}/repository.password"\n'
            f'[jobs.ledger]\nsource = {{ {source} }}\nrepositories = ["local"]\nincremental = "every 1h"\nrpo = "1h"\n'
        )

    @property
    def settings(self) -> Settings:
        return load(self.config, environ=os.environ)

    @property
    def free_share(self) -> float:
        usage = shutil.disk_usage(self.state)
        return usage.free / usage.total

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have something else in the repository's place."""
        self.repository.rename(self.folder / "away")
        self.repository.write_text("in the way")
        yield
        self.repository.unlink()
        (self.folder / "away").rename(self.repository)

    @property
    def log(self) -> WalStatus:
        found = WalStatus.read(status_path(self.state, "ledger"))
        assert found is not None
        return found

    @property
    def alarm(self) -> Result:
        """What the operator is told of the log."""
        told = bridge.results([replace(LEDGER, log=self.log)], [], {}, now())
        return next(result for result in told if result.check == "log ledger")

    def require_alarm(self, *words: str) -> None:
        told = self.alarm
        assert told.status is Status.WARNING, told.message
        assert [word for word in words if word not in str(told.message)] == [], told.message


def until(true: Callable[[], object], otherwise: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kw-", dir="/tmp") as name:  # a socket's path must be short
        os.chmod(name, 0o711)
        yield Path(name)


def test_pushed_segments_are_refused_before_they_fill_the_disk_and_the_operator_is_told(
    folder: Path, small_disk: Callable[[Path, int], None]
) -> None:
    place = Place(folder, f'type = "postgres", dsn = "host=/nowhere", wal = "push", wal_socket = "{folder}/wal.sock"')
    small_disk(place.state, 16 * MIB)

    def push(number: int) -> str:
        segment = folder / f"{number:024X}"
        segment.write_bytes(bytes([number % 256]) * MIB)
        return receiver.take_file(segment)

    receiver = Receiver(place.settings, place.state, "ledger", now)
    assert push(1 << 32 | 1) == "ok"
    with place.away():
        answers = [push(1 << 32 | number) for number in range(2, 14)]
        receiver.look_around()
        taken = [answer for answer in answers if answer.startswith("ok, spooled")]
        assert 4 <= len(taken) < len(answers)
        assert "the server keeps it meanwhile" in answers[-1]
        assert place.free_share > WAL_FLOOR_SHARE - 0.01  # and a status file
        place.require_alarm("files that wait in the spool", "are free there", "mind its disk")
        receiver.close()
    fresh = Receiver(place.settings, place.state, "ledger", now)
    receiver = fresh
    assert [push(1 << 32 | number) for number in range(2 + len(taken), 14)] == ["ok"] * (12 - len(taken))
    fresh.look_around()
    assert (place.log.spooled_files, place.log.problem, place.alarm.status) == (0, "", Status.OK)
    fresh.close()


@pytest.mark.campaign
def test_a_log_that_is_received_rests_before_it_fills_the_disk_and_goes_on_without_a_gap(
    folder: Path, small_disk: Callable[[Path, int], None]
) -> None:
    with private_folder("office") as office, postgres(office, {"wal_level": "replica"}) as server:
        place = Place(
            folder, f'type = "postgres", dsn = "{server.dsn}", wal = "receive", wal_socket = "{folder}/wal.sock"'
        )
        small_disk(place.state, 192 * MIB)
        server.sql("create table entry (n int)")

        def followers() -> int:
            return int(server.sql("select count(*) from pg_stat_replication"))

        def end_segment() -> None:
            server.sql("insert into entry values (1); select pg_switch_wal()")

        def taken_or_resting(act: Callable[[], None]) -> None:
            before = place.log.files
            act()
            until(lambda: place.log.files > before or not followers(), "it neither takes nor rests")

        receiver, done = Receiver(place.settings, place.state, "ledger", now), threading.Event()
        worker = threading.Thread(target=receiver.serve, args=(done.is_set,))
        worker.start()
        try:
            until(followers, "nobody follows")
            end_segment()
            until(lambda: place.log.covered_until, "nothing is stored")
            with place.away():
                while followers():
                    taken_or_resting(end_segment)
                for _ in range(4):
                    end_segment()
                until(lambda: "nearly full" in place.log.problem, "nobody is told")
                place.require_alarm("files that wait in the spool", "mind its disk")
                assert place.free_share >= BINLOG_FLOOR_SHARE
                for stump in (place.state / "wal/ledger/received").glob("*.partial"):
                    os.truncate(stump, MIB)  # as when somebody else had filled the disk
            last = server.sql("select pg_walfile_name(pg_switch_wal())")
            until(lambda: place.log.last_file >= last and not place.log.problem, "it does not go on")
            assert (place.log.gap, place.log.spooled_files, followers()) == ("", 0, 1)
        finally:
            done.set()
            worker.join()
    held = command_line(["wal", "list", "--json", "--config", str(place.config)])
    assert held == 0


@pytest.mark.campaign
def test_a_binlog_that_is_received_rests_before_it_fills_the_disk_and_goes_on_without_a_gap(
    folder: Path, small_disk: Callable[[Path, int], None]
) -> None:
    settings = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0", "max_binlog_size": str(4 * MIB)}
    with private_folder("mariadb") as office, mariadb(office, settings) as server:
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT AUTO_INCREMENT PRIMARY KEY, note LONGTEXT)")
        place = Place(
            folder,
            f'type = "mariadb", host = "127.0.0.1", port = {server.port}, user = "{OWNER}", binlog = true,'
            f' password_file = "{folder}/mariadb.password", binlog_from = "server"',
        )
        small_disk(place.state, 24 * MIB)

        def followers() -> int:
            return int(server.sql("SELECT count(*) FROM information_schema.processlist WHERE command = 'Binlog Dump'"))

        with closing(BinlogArchiver(place.settings, place.state, "ledger", now)) as archiver:
            archiver.archive()
            assert (archiver.problem, followers()) == ("", 1)
            with place.away():
                deadline = time.monotonic() + 60
                while followers():
                    assert time.monotonic() < deadline, "it goes on to receive"
                    server.sql("INSERT INTO shop.t (note) SELECT repeat('x', 50000) FROM seq_1_to_4")
                    archiver.mind_the_disk()  # as between two looks
                assert 0.0 < place.free_share < BINLOG_FLOOR_SHARE
                archiver.archive()
                place.require_alarm("files that wait in the spool", "are free in", "mind its disk")
                server.sql("INSERT INTO shop.t (note) SELECT repeat('y', 50000) FROM seq_1_to_100; FLUSH BINARY LOGS")
                assert 0.0 < place.free_share < BINLOG_FLOOR_SHARE
            until(lambda: archiver.archive() >= 0 and not archiver.problem, "it does not go on", 120)
            assert (place.log.gap, followers(), place.alarm.status) == ("", 1, Status.OK)
            assert place.log.covered_until is not None
            assert now() - place.log.covered_until < timedelta(minutes=1)
