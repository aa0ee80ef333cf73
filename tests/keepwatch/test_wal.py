"""The log's way into the repository: the light client, the receiver, its spool, and the direct way without one."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.applications.base import LATEST
from backup.errors import StorageFull
from backup.storage.local import LocalStorage
from backup.wal.names import Segment, segment_name
from backup.wal.reading import Log, read_wal
from config.loading import load
from config.settings import Settings
from keepwatch.cli.app import run as command_line
from keepwatch.clock import now
from keepwatch.wal import push
from keepwatch.wal.keeper import WalKeeper
from keepwatch.wal.receiver import Receiver, socket_path
from keepwatch.wal.spool import Spool
from keepwatch.wal.status import WalStatus, status_path
from tests.backup.postgres_scene import JOB, SUMS, Office, furnish
from tests.backup.repositories import PASSWORD, create, reopen
from tests.servers.postgres import Postgres, postgres
from tests.servers.private import hand_over, private_folder

SIZE = 64 << 10
ROOT = Path(__file__).resolve().parents[2]


class Place:
    """A configuration with a job that archives its log, and a repository for it."""

    def __init__(self, folder: Path, **source: str) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.state = folder / "state"
        self.state.mkdir(mode=0o711)
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "password").chmod(0o600)
        create(LocalStorage(self.repository), now)  # type: ignore[arg-type]
        settings = {"type": "postgres", "dsn": "host=/nowhere", "wal": "push"} | source
        written = ", ".join(f'{name} = "{value}"' for name, value in settings.items() if value)
        self.config = folder / "keepwatch.toml"
        self.config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nhost = "erp-1"\n'
            f'[repositories.local]\nurl = "{self.repository}"\npassword_file = "{folder}/password"\n'
            f'[jobs.{JOB}]\nsource = {{ {written}, wal_users = ["nobody"],'
            f' wal_socket = "{folder}/wal.sock" }}\nrepositories = ["local"]\nincremental = "every 1h"\n'
        )

    @property
    def settings(self) -> Settings:
        return load(self.config, environ=os.environ)

    def segment(self, number: int, fill: bytes = b"w", timeline: int = 1) -> Path:
        path = self.folder / segment_name(Segment(timeline, number))
        path.write_bytes(fill * SIZE)
        return path

    @property
    def log(self) -> Log:
        return Log.of(reopen(LocalStorage(self.repository), now).snapshots(), JOB)  # type: ignore[arg-type]

    @contextmanager
    def receiver(self) -> Iterator[Receiver]:
        """Have the receiver at work on a thread."""
        receiver, done = Receiver(self.settings, self.state, JOB, now), threading.Event()
        worker = threading.Thread(target=receiver.serve, args=(done.is_set,))
        worker.start()
        until(lambda: (self.folder / "wal.sock").exists(), "nobody listens")
        try:
            yield receiver
        finally:
            done.set()
            worker.join()

    def push(self, path: Path, *more: str) -> "subprocess.CompletedProcess[str]":
        """Run the command as a server does."""
        command = [sys.executable, "-m", "keepwatch", "wal", "push", *more, str(path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    @property
    def status(self) -> WalStatus:
        found = WalStatus.read(status_path(self.state, JOB))
        assert found is not None
        return found


def until(true: object, otherwise: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="kw-") as folder:  # a socket's path must be short
        os.chmod(folder, 0o711)
        yield Place(Path(folder))


# ---- the client and the receiver


def test_what_is_pushed_is_in_the_repository_before_the_command_returns(place: Place) -> None:
    with place.receiver():
        for number in (3, 4, 5):
            done = place.push(place.segment(number, bytes([number])), "--socket", str(place.folder / "wal.sock"))
            assert (done.returncode, done.stderr) == (0, "")
            assert [segment.number for segment in place.log.segments][-1] == number
    repository = reopen(LocalStorage(place.repository), now)  # type: ignore[arg-type]
    repository.load_index()
    name = segment_name(Segment(1, 4))
    assert read_wal(repository, JOB, place.log.files[name], name) == b"\4" * SIZE


def test_the_client_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['keepwatch', 'wal', 'push', '--socket', '/no', '/no'];"
        "from keepwatch.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\nprint(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {
        "socket",
        "collections",
        "enum",
        "re",
        "pydantic",
        "typer",
        "json",
        "logging",
        "asyncio",
        "config",
        "backup",
        "subprocess",
        "psycopg",
        "ctypes",
    }
    assert not heavy & {name.partition(".")[0] for name in done.stdout.split()}


def test_the_same_file_again_is_fine_and_another_of_its_name_is_refused(place: Place) -> None:
    with place.receiver() as receiver:
        path = place.segment(3)
        assert push.push(str(place.folder / "wal.sock"), JOB, str(path)) == "ok"
        assert push.push(str(place.folder / "wal.sock"), JOB, str(path)) == "ok"
        assert len(place.log.files) == 1
        answer = push.push(str(place.folder / "wal.sock"), JOB, str(place.segment(3, b"x")))
        assert answer == f"the repository holds a file {path.name} with other bytes"
        assert push.push(str(place.folder / "wal.sock"), "other", str(path)) == f"this is the receiver of job {JOB}"
        receiver.look_around()
        assert path.name in place.status.problem


def test_only_users_who_are_named_may_push(place: Place) -> None:
    path = place.segment(3)

    def pushed_by(uid: int) -> str:
        """Push from a child that gave up its rights; only root can be somebody else."""
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(uid)
            os.write(writing, push.push(str(place.folder / "wal.sock"), "", str(path)).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, "rb") as answer:
            return answer.read().decode()

    path.chmod(0o644)
    with place.receiver():
        if os.geteuid() == 0:
            assert "is not among wal_users" in pushed_by(12345)
        assert pushed_by(pwd.getpwnam("nobody").pw_uid) == "ok"


def test_without_a_receiver_the_command_stores_it_itself(place: Place) -> None:
    path = place.segment(3)
    assert command_line(["wal", "push", "--config", str(place.config), str(path)]) == 0
    assert path.name in place.log.files
    assert command_line(["wal", "push", "--config", str(place.config), str(place.segment(3, b"other"))]) == 1


def test_a_name_that_is_no_wal_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.folder / "postgresql.conf"
    path.write_text("port = 5432")
    assert command_line(["wal", "push", "--config", str(place.config), str(path)]) == 1
    assert "is no name of a WAL file" in capsys.readouterr().err


# ---- a repository that is away


def test_while_the_repository_is_away_files_wait_and_then_arrive_in_order(place: Place) -> None:
    receiver = Receiver(place.settings, place.state, JOB, now)
    away = place.folder / "unmounted"
    place.repository.rename(away)
    place.repository.write_text("not a folder")
    for number in (3, 4, 5):
        assert receiver.take_file(place.segment(number, bytes([number]))).startswith("ok, spooled")
    assert receiver.take_file(place.segment(4, b"\4")).startswith("ok, spooled"), "the same file again"
    assert "other bytes" in receiver.take_file(place.segment(4, b"z"))
    receiver.look_around()
    assert (place.status.spooled_files, place.status.spooled_bytes) == (3, 3 * SIZE)
    assert place.status.problem
    receiver.close()

    place.repository.unlink()
    away.rename(place.repository)
    fresh = Receiver(place.settings, place.state, JOB, now)  # the spool outlives the process
    assert fresh.take_file(place.segment(6, b"\6")) == "ok"
    fresh.look_around()
    fresh.close()
    assert [segment.number for segment in place.log.segments] == [3, 4, 5, 6]
    stored = sorted(place.log.files.values(), key=lambda snapshot: snapshot.time)
    assert [snapshot.tags[-1] for snapshot in stored] == sorted(snapshot.tags[-1] for snapshot in stored)
    assert (place.status.spooled_files, place.status.problem) == (0, "")


def test_a_full_spool_refuses_so_that_the_server_keeps_its_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 2 * SIZE)
    for name in ("a", "b"):
        spool.put(name, memoryview(bytes(SIZE)), datetime.now(UTC))
    with pytest.raises(StorageFull, match="128 KiB wait, and 128 KiB may"):
        spool.put("c", memoryview(bytes(SIZE)), datetime.now(UTC))
    assert [waiting.name for waiting in spool] == ["a", "b"]


# ---- what it notices


def test_a_gap_and_a_switch_of_timelines_are_noticed(place: Place) -> None:
    receiver = Receiver(place.settings, place.state, JOB, now)
    for number in (3, 4):
        receiver.take_file(place.segment(number))
    receiver.look_around()
    assert (place.status.gap, place.status.timeline, place.status.switched_at) == ("", 1, None)
    receiver.take_file(place.segment(7))
    receiver.take_file(place.segment(8, timeline=2))
    receiver.look_around()
    assert segment_name(Segment(1, 5)) in place.status.gap
    assert place.status.timeline == 2
    assert place.status.switched_at is not None
    receiver.close()


def test_the_keeper_starts_a_receiver_again_when_it_dies(place: Place) -> None:
    keeper = WalKeeper(place.settings, place.state)
    assert keeper.jobs == [JOB]
    try:
        keeper.tick()
        until(lambda: (place.folder / "wal.sock").exists(), "it never listens")
        first = keeper._children[JOB].process.pid
        os.kill(first, signal.SIGKILL)

        def again() -> bool:
            keeper.tick()
            return JOB in keeper._children and keeper._children[JOB].process.pid != first

        until(again, "it is not started again")
        until(lambda: place.push(place.segment(3), "--socket", str(place.folder / "wal.sock")).returncode == 0, "dead")
        until(lambda: JOB in keeper.standings(), "it says nothing")
    finally:
        keeper.stop()
    assert not (place.folder / "wal.sock").exists()


# ---- a real server


def test_a_server_archives_by_the_command_as_its_own_user() -> None:
    with (
        private_folder("office") as folder,
        private_folder("copies") as scratch,
        tempfile.TemporaryDirectory(prefix="kw-") as keeps,
    ):
        os.chmod(keeps, 0o711)
        place = Place(Path(keeps))
        client = place.folder / "push.py"  # where the server's user may read it, for any interpreter
        client.write_bytes((ROOT / "keepwatch/wal/push.py").read_bytes())
        client.chmod(0o644)
        python = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
        start = "import runpy, sys; sys.exit(runpy.run_path(sys.argv[1])['main'](sys.argv[2:]))".replace("'", "''")
        command = f'{python} -c "{start}" {client} --socket {place.folder}/wal.sock %p'
        settings = {"archive_mode": "on", "archive_command": command}
        with place.receiver(), postgres(folder, settings) as server:
            server.sql("create database shop")
            office = furnish(Office(server, scratch))
            repository = reopen(LocalStorage(place.repository), now)  # type: ignore[arg-type]
            base = office.save(repository).snapshot_id
            server.sql("create table books.page as select 42 as n", "shop")
            last = server.sql("select pg_walfile_name(pg_switch_wal())")
            until(lambda: last in place.log.files, (folder / "output").read_text())
        with office.alive(repository, base, LATEST) as alive:
            assert alive.running.query("select n from books.page") == 42


def test_a_server_that_is_lost_under_load_comes_back_to_the_last_second(tmp_path: Path) -> None:
    with private_folder("office") as folder, private_folder("copies") as scratch, tempfile.TemporaryDirectory(
        prefix="kw-"
    ) as keeps, postgres(folder, {"wal_level": "replica", "synchronous_commit": "on"}) as server:  # fmt: skip
        server.sql("create database shop")
        office = furnish(Office(server, scratch))
        place = Place(Path(keeps), dsn=server.dsn, wal="receive")
        repository = reopen(LocalStorage(place.repository), now)  # type: ignore[arg-type]
        server.sql("create table books.tick (n int, at timestamptz default clock_timestamp())", "shop")
        with place.receiver():
            until(lambda: server.sql("select count(*) from pg_stat_replication") == "1", "nobody follows")
            base = office.save(repository).snapshot_id
            with office.load():
                for number in range(40):
                    server.sql(f"insert into books.tick values ({number})", "shop")
                    time.sleep(0.05)
            written_at = datetime.now(UTC)
            server.stop(signal.SIGQUIT)
            shutil.rmtree(server.data)  # disk and all
            time.sleep(1.5)  # what had arrived is stored within a second, and the receiver is lost as well
        with office.alive(repository, base) as alive:
            last = alive.running.query("select max(at) from books.tick")
            assert isinstance(last, datetime)
            assert (written_at - last).total_seconds() < 1.5
            assert alive.running.query("select count(*) = max(n) + 1 from books.tick") is True
            assert alive.running.query(SUMS) is True
            assert alive.running.integrity() == []


def test_the_socket_lies_where_the_settings_say(place: Place) -> None:
    source = place.settings.jobs[JOB].source
    assert socket_path(source, place.state, JOB) == place.folder / "wal.sock"  # type: ignore[arg-type]


# ---- from a base backup to a running server, as an operator types it


def test_restore_until_makes_a_data_directory_that_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.sources.postgres.STATISTICS_SECONDS", 1.5)
    with private_folder("office") as folder, private_folder("copies") as scratch, tempfile.TemporaryDirectory(
        prefix="kw-"
    ) as keeps, postgres(folder, {"wal_level": "replica"}) as server:  # fmt: skip
        server.sql("create database shop")
        furnish(Office(server, scratch))
        place = Place(Path(keeps), dsn=server.dsn, wal="receive")
        options = ["--config", str(place.config)]
        with place.receiver():
            until(lambda: server.sql("select count(*) from pg_stat_replication") == "1", "nobody follows")
            assert command_line(["backup", JOB, *options, "--quiet"]) == 0
            server.sql("create table books.page as select 1 as n", "shop")
            time.sleep(0.2)
            moment = datetime.now(UTC)
            time.sleep(0.2)
            server.sql("insert into books.page values (2)", "shop")
            server.sql("select pg_switch_wal()")
            server.sql("insert into books.page values (3)", "shop")
            until(lambda: "partial" in "".join(place.log.files), "no part of the next segment came")
            assert command_line(["backup", JOB, *options, "--quiet"]) == 0  # folds, and is not what is wanted
        server.stop()
        target = scratch / "back"
        asked = ["restore", "latest", "--job", JOB, "--target", str(target), "--until", moment.isoformat()]
        capsys.readouterr()
        assert command_line([*asked, *options]) == 0, capsys.readouterr().err
        assert "start it with: pg_ctl" in capsys.readouterr().out
        back = Postgres(folder)
        back.data = target / JOB / "data"
        hand_over_all(target)
        (back.data / "pg_hba.conf").write_text("local all all trust\n")
        back.start()
        try:
            until(lambda: back.sql("select pg_is_in_recovery()") == "f", "it stays in recovery")
            assert back.sql("select sum(n) from books.page", "shop") == "1"
        finally:
            back.stop()
        assert command_line([*asked[:-1], "2001-01-01T00:00:00", *options]) == 1
        assert "from before 2001-01-01" in capsys.readouterr().err
        assert len(said(capsys, ["snapshots", "--json", *options])) == 2, "the log counts as a backup"
        (run_of_log,) = said(capsys, ["wal", "list", "--json", *options])
        assert run_of_log["timeline"] == 1


def test_restore_into_loads_a_dump_into_a_new_server(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        private_folder("office") as folder,
        private_folder("copies") as scratch,
        tempfile.TemporaryDirectory(prefix="kw-") as keeps,
        postgres(folder) as server,
        private_folder("new") as elsewhere,
        postgres(elsewhere) as other,
    ):
        server.sql("create database shop")
        furnish(Office(server, scratch))
        place = Place(Path(keeps), dsn=server.dsn, method="logical", wal="")
        options = ["--config", str(place.config)]
        assert command_line(["backup", JOB, *options, "--quiet"]) == 0
        assert command_line(["restore", "latest", "--job", JOB, "--into", other.dsn, *options]) == 0
        assert "databases loaded: postgres, shop" in capsys.readouterr().out
        assert other.sql(SUMS, "shop") == "t"
        assert command_line(["restore", "latest", "--job", JOB, *options]) == 2
        until_now = ["--until", datetime.now(UTC).isoformat(), "--target", str(scratch / "x")]
        assert command_line(["restore", "latest", "--job", JOB, *until_now, *options]) == 1
        assert "could not recover dumps to a moment" in capsys.readouterr().err


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert command_line(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


def hand_over_all(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        hand_over(place)
