"""Redis: an RDB file or append-only files of a busy server, loaded again by a private one."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.applications.base import LATEST, RecoveryTarget
from backup.applications.manifest import TableFacts, differences
from backup.applications.redis import RedisApplication, RedisRunning
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.repository import Repository
from backup.sources import redis_aof
from backup.sources.redis import Keyspace, RedisSource, bounds
from backup.sources.redis_rdb import NotWhole, RdbFile
from backup.storage.base import FileKind
from config.databases import RedisSource as RedisSettings
from tests.backup.repositories import FakeClock
from tests.backup.sources.saving import bring_back, save
from tests.servers.private import hand_over, path_of, private_folder, run
from tests.servers.redis import PASSWORD, Redis, redis

AOF = {"appendonly": "yes", "appendfsync": "everysec", "aof-timestamp-enabled": "yes"}
QUICK = {"repl-diskless-sync-delay": "0", "enable-debug-command": "local"}


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with private_folder("redis") as folder, redis(folder, QUICK | AOF, PASSWORD) as running:
        yield running


@pytest.fixture(autouse=True)
def emptied(server: Redis) -> None:
    server.command("FLUSHALL")


def source(server: Redis, clock: FakeClock, method: str = "rdb", **more: object) -> RedisSource:
    return RedisSource("cache", clock, f"unix://{server.socket}", method, PASSWORD, **more)  # type: ignore[arg-type]


def fill(server: Redis, keys: int) -> None:
    script = "for n = 1, ARGV[1] do redis.call('set', 'key:' .. n, string.rep(n, 20)) end"
    server.command("EVAL", script, 0, keys)


@contextmanager
def a_writer(server: Redis) -> Iterator[Callable[[], int]]:
    """Move money between two accounts, each time in a transaction; tells how often."""
    done, stop, failed = 0, threading.Event(), list[Exception]()
    server.command("MSET", "account:1", 1000, "account:2", 0)
    script = "redis.call('decr','account:1') redis.call('incr','account:2') return redis.call('lpush','log',ARGV[1])"

    def write() -> None:
        nonlocal done
        try:
            while not stop.is_set():
                done = int(server.command("EVAL", script, 0, done))
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


@contextmanager
def running(folder: Path) -> Iterator[RedisRunning]:
    start = RedisApplication().start
    with private_folder("work") as work, start(folder, workspace=work / "drill", timeout_seconds=30) as found:
        yield found


def integer(value: object) -> int:
    return int(str(value))


@pytest.mark.parametrize("method", ["rdb", "aof"])
def test_one_moment_of_a_busy_server_comes_back(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: Redis, method: str
) -> None:
    fill(server, 5000)
    server.command("SET", "soon", "gone", "PX", "1")
    server.command("SET", "later", "gone", "EX", "1000")
    with a_writer(server) as written:
        while written() < 3:
            time.sleep(0.01)
        before = written()
        report = save(repository, source(server, clock, method), "cache")
    folder = bring_back(repository, report, tmp_path, "cache")
    with running(folder) as found:
        assert found.integrity() == []
        left, moved = (integer(found.query(f"GET account:{n}")) for n in (1, 2))
        assert left + moved == 1000
        assert moved == found.query("LLEN log")
        assert moved >= before
        assert list(differences(found.saved, found.manifest())) == []
        assert found.query("DBSIZE") == 5004
        assert found.query("LRANGE log 0 -1") == str(moved - 1)
        assert found.query("GET nothing") is None
        with pytest.raises(ApplicationError, match="unknown command"):
            found.query("SELECTED rows")
    assert report.manifest["kind"] == "redis"
    assert found.saved.version == server.command("INFO", "server").split("redis_version:")[1].split()[0]
    facts = found.saved.tables["db0"]
    assert method == "aof" or facts == TableFacts(5003, 5004), "exact, but for the one key that will end"
    assert method == "rdb" or 4990 < facts.rows_min <= 5004


def test_a_quiet_server_is_counted_exactly_in_every_database(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: Redis
) -> None:
    server.command("-n", "0", "SET", "a", "1")
    server.command("-n", "5", "MSET", "a", "1", "b", "2")
    for method in ("rdb", "aof"):
        clock.advance(hours=1)
        report = save(repository, source(server, clock, method), "cache")
        with running(bring_back(repository, report, tmp_path / method, "cache")) as found:
            assert found.saved.tables == {"db0": TableFacts(1, 1), "db5": TableFacts(2, 2)}
            assert found.query("GET b", "5") == "2"


@pytest.mark.parametrize(("fault", "said"), [("dropped-table", "0 rows"), ("fewer-rows", "2 rows")])
def test_planted_damage_is_found_by_name(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: Redis, fault: str, said: str
) -> None:
    server.command("MSET", "a", "1", "b", "2", "c", "3")
    report = save(repository, source(server, clock), "cache")
    with running(bring_back(repository, report, tmp_path, "cache")) as found:
        assert found.plant(fault) == "table db0"
        (difference,) = differences(found.saved, found.manifest())
        assert difference == f"table db0 has {said}, and had 3 when it was saved"


def test_over_the_network_with_the_password_from_a_file_that_no_process_list_shows(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: Redis
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    settings = RedisSettings(type="redis", url=f"redis://127.0.0.1:{server.port}", password_file=secret)  # type: ignore[arg-type]
    made = RedisSource.from_settings(settings, "cache", clock)
    assert PASSWORD not in repr(made)
    assert not any(PASSWORD in word for word in made._command("INFO"))
    assert save(repository, made, "cache").files_new == 2


def test_a_wrong_password_fails_the_run(repository: Repository, clock: FakeClock, server: Redis) -> None:
    made = RedisSource("cache", clock, f"unix://{server.socket}", password="wrong")
    with pytest.raises(SourceError, match="could not ask Redis") as caught:
        save(repository, made, "cache")
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "").replace("wrong number", "")


@pytest.mark.parametrize("url", ["http://x", "redis://", "unix://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must be"):
        RedisSettings(type="redis", url=url)  # type: ignore[arg-type]


# ---- what goes wrong at backup


def test_a_server_that_dies_in_the_middle_leaves_no_snapshot(repository: Repository, clock: FakeClock) -> None:
    with private_folder("redis") as folder, redis(folder, QUICK, PASSWORD) as dying:
        dying.command("DEBUG", "POPULATE", "20000", "key", "1000")

        def stop() -> bool:
            dying.stop()
            return False

        with pytest.raises(SourceError, match="could not save Redis"):
            save(repository, source(dying, clock), "cache", stop=stop)
    assert not list(repository.storage.list(FileKind.SNAPSHOT))


def test_append_only_files_that_are_not_kept_are_asked_for(repository: Repository, clock: FakeClock) -> None:
    with private_folder("redis") as folder, redis(folder, QUICK, PASSWORD) as other:
        with pytest.raises(SourceError, match="the server keeps none"):
            save(repository, source(other, clock, "aof"), "cache")
        with pytest.raises(SourceError, match="no such file"):
            save(repository, source(other, clock, "aof", aof_folder=folder), "cache")


# ---- what comes back damaged


@pytest.fixture
def restored(repository: Repository, clock: FakeClock, tmp_path: Path, server: Redis) -> Path:
    fill(server, 1000)
    return bring_back(repository, save(repository, source(server, clock), "cache"), tmp_path, "cache")


def test_a_flipped_bit_keeps_the_server_from_starting(restored: Path) -> None:
    content = bytearray((restored / "dump.rdb").read_bytes())
    content[len(content) // 2] ^= 1
    (restored / "dump.rdb").write_bytes(content)
    with pytest.raises(ApplicationError, match="could not start on the restored data: redis"), running(restored):
        pass


def test_a_truncated_file_keeps_the_server_from_starting(restored: Path) -> None:
    os.truncate(restored / "dump.rdb", 5000)
    with pytest.raises(ApplicationError, match="could not start"), running(restored):
        pass


@pytest.mark.parametrize("gone", ["dump.rdb", "manifest.json"])
def test_a_missing_file_is_not_taken_for_an_empty_database(restored: Path, gone: str) -> None:
    (restored / gone).unlink()
    with pytest.raises(ApplicationError, match="could not find"), running(restored):
        pass


# ---- to a moment


def test_append_only_files_go_back_to_a_second(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: Redis
) -> None:
    server.command("SET", "state", "good")
    first = time.time()
    while int(time.time()) <= int(first) + 1:
        time.sleep(0.02)
    server.command("SET", "state", "bad")
    clock.now = clock.now.fromtimestamp(time.time(), clock.now.tzinfo)
    report = save(repository, source(server, clock, "aof"), "cache")
    folder = bring_back(repository, report, tmp_path, "cache")
    moment = clock.now.fromtimestamp(int(first) + 1, clock.now.tzinfo)
    RedisApplication().recover(repository, folder, RecoveryTarget(moment=moment))
    with running(folder) as found:
        assert found.query("GET state") == "good"


def test_where_a_moment_cannot_be_reached_that_is_said(repository: Repository, restored: Path) -> None:
    application = RedisApplication()
    application.recover(repository, restored, LATEST)
    assert (application.missing, application.records(repository, restored)) == ("", ())
    with pytest.raises(RestoreError, match="only append-only files"):
        application.recover(repository, restored, RecoveryTarget(name="before-upgrade"))


# ---- parts


def test_bounds_hold_whatever_came_and_went_between_two_looks() -> None:
    def look(keys: int, changed: int, expired: int = 0, saved: int = 1, expires: int = 0) -> Keyspace:
        text = (
            f"redis_version:7.0.15\r\nrdb_changes_since_last_save:{changed}\r\nrdb_last_save_time:{saved}\r\n"
            f"expired_keys:{expired}\r\nevicted_keys:0\r\ndb0:keys={keys},expires={expires},avg_ttl=0\r\n"
        )
        return Keyspace.parse(text)

    assert bounds(look(10, 5), look(10, 5)) == {"db0": TableFacts(10, 10)}
    assert bounds(look(10, 5), look(12, 7)) == {"db0": TableFacts(8, 14)}
    assert bounds(look(10, 5, 1), look(9, 5, 2, expires=3)) == {"db0": TableFacts(5, 10)}
    assert bounds(look(10, 5), look(12, 1, saved=2)) == {"db0": TableFacts(0, None)}
    with pytest.raises(SourceError, match="NOAUTH"):
        Keyspace.parse("NOAUTH Authentication required.")


@pytest.mark.parametrize("marked", [b"", b"0123456789abcdef" * 2 + b"01234567"])
@pytest.mark.parametrize("length", [1, 7, 1000])
def test_an_rdb_file_passes_whole_and_without_a_mark(restored: Path, marked: bytes, length: int) -> None:
    content = (restored / "dump.rdb").read_bytes()
    given = content + marked
    rdb = RdbFile()
    parts = (given[at : at + length] for at in range(0, len(given), length))
    assert b"".join(rdb.passing(parts)) == content
    assert (rdb.size_bytes, rdb.database, rdb.keys, rdb.expiring) == (len(content), 0, 1000, 0)
    assert rdb.aux["redis-ver"]


def test_half_an_rdb_file_is_seen(restored: Path) -> None:
    content = (restored / "dump.rdb").read_bytes()
    for broken in (content[: len(content) // 2], b"", b"-ERR no", content[:-1]):
        with pytest.raises(NotWhole):
            list(RdbFile().passing([broken]))


def commands(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@pytest.mark.parametrize("length", [1, 3, 17, 10_000])
def test_an_increment_ends_with_a_whole_command_or_transaction(length: int) -> None:
    first = commands(b"SELECT", b"0") + b"#TS:1700000000\r\n" + commands(b"SET", b"a", b"*1\r\n$4\r\nEXEC\r\n")
    whole = first + commands(b"MULTI") + commands(b"SET", b"a", b"2") + commands(b"EXEC")
    for begun, expected in ((b"", whole), (commands(b"MULTI") + commands(b"INCR", b"a"), whole)):
        data = whole + begun + commands(b"SET", b"b", b"1")[:-3]
        parts = [data[at : at + length] for at in range(0, len(data), length)]
        assert b"".join(redis_aof.whole_commands(parts)) == expected
    with pytest.raises(SourceError, match="no command at"):
        list(redis_aof.whole_commands([b"garbage\r\n"]))


def test_files_that_are_rewritten_while_they_are_opened_are_opened_again(tmp_path: Path) -> None:
    manifest = tmp_path / "a.aof.manifest"

    def rewrite(number: int) -> None:
        for old in tmp_path.glob("*.aof"):
            old.unlink()
        (tmp_path / f"a.aof.{number}.base.rdb").write_bytes(b"base")
        (tmp_path / f"a.aof.{number}.incr.aof").write_bytes(commands(b"SET", b"n", b"%d" % number))
        text = "".join(
            f"file a.aof.{n}.{kind} seq {n} type {letter}\n"
            for n, kind, letter in ((number - 1, "incr.aof", "h"), (number, "base.rdb", "b"), (number, "incr.aof", "i"))
        )
        fresh = tmp_path / "fresh"
        fresh.write_text(text)
        fresh.rename(manifest)

    rewrite(1)
    stop = threading.Event()

    def keep_rewriting() -> None:
        number = 1
        while not stop.is_set():
            rewrite(number := number + 1)
            time.sleep(0.001)

    thread = threading.Thread(target=keep_rewriting)
    thread.start()
    try:
        for _ in range(20):
            with redis_aof.open_set(tmp_path, "a.aof.manifest") as found:
                base, increment = found.files
                number = base.name.split(".")[2]
                assert increment.name == f"a.aof.{number}.incr.aof"
                content = b"".join(b"".join(found.parts(file)) for file in found.files)
                assert content == b"base" + commands(b"SET", b"n", number.encode())
                assert found.manifest.decode().splitlines() == [
                    f"file {base.name} seq {number} type b", f"file {increment.name} seq {number} type i",
                ]  # fmt: skip
    finally:
        stop.set()
        thread.join()


def test_the_servers_own_tool_agrees_with_what_was_saved(
    repository: Repository, clock: FakeClock, server: Redis
) -> None:
    with private_folder("back") as back, a_writer(server) as written:
        while written() < 2:
            time.sleep(0.01)
        folder = bring_back(repository, save(repository, source(server, clock, "aof"), "cache"), back, "cache")
        for path in (folder, *folder.rglob("*")):
            hand_over(path)
        hand_over(back)
        run([path_of("redis-check-aof"), folder / "appendonlydir/appendonly.aof.manifest"], back)
