"""MariaDB's binlog: archived as it grows, and a server brought back to a moment between two transactions."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.applications.base import LATEST, RecoveryTarget
from backup.applications.manifest import differences
from backup.applications.mariadb import MariaDbApplication
from backup.binlog.archive import BinlogArchive, listing_of, newest_log
from backup.binlog.events import MAGIC, BinlogName, as_closed, binlogs_in, commits, whole_events
from backup.errors import RestoreError, SourceError
from backup.repository import Repository
from backup.sources.mariadb import MariaDbSource
from config.databases import MariaDbSource as MariaDbSettings
from tests.backup.repositories import FakeClock, read_back
from tests.backup.sources.saving import bring_back, save
from tests.servers.mariadb import OWNER, PASSWORD, MariaDb, mariadb
from tests.servers.private import private_folder


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    settings = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0"}
    with private_folder("mariadb") as folder, mariadb(folder, settings) as running:
        running.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT PRIMARY KEY, state TEXT)")
        yield running


@pytest.fixture
def archive(repository: Repository, clock: FakeClock) -> Iterator[BinlogArchive]:
    clock.now = datetime.now(UTC)
    with closing(BinlogArchive(repository, "ledger", "erp-1", clock)) as made:
        yield made


def source(server: MariaDb, tmp_path: Path, clock: FakeClock, method: str) -> MariaDbSource:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    settings = MariaDbSettings(
        type="mariadb", socket=str(server.socket), user=OWNER, password_file=secret, method=method,  # type: ignore[arg-type]
    )  # fmt: skip
    return MariaDbSource("ledger", clock, settings, tmp_path / "work")


def next_second() -> datetime:
    """Wait until the next second has begun, as the log's moments are whole seconds."""
    now = time.time()
    while time.time() < int(now) + 1.05:
        time.sleep(0.02)
    return datetime.fromtimestamp(int(now) + 1, UTC)


def states(folder: Path) -> tuple[str, datetime | None]:
    with private_folder("work") as work:
        start = MariaDbApplication("ledger").start
        with start(folder, workspace=work / "drill", timeout_seconds=60) as running:
            assert running.integrity() == []
            found = running.query("SELECT group_concat(state ORDER BY n) FROM shop.t")
            return str(found), running.reached_at


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_a_server_comes_back_to_a_moment_between_two_transactions(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, archive: BinlogArchive, method: str
) -> None:
    server.sql("TRUNCATE shop.t; INSERT INTO shop.t VALUES (1, 'saved')")
    report = save(repository, source(server, tmp_path, clock, method), "ledger")
    base = bring_back(repository, report, tmp_path / "base", "ledger")
    server.sql("INSERT INTO shop.t VALUES (2, 'good')")
    server.sql("FLUSH BINARY LOGS")
    archive.take(server.data, listing_of(server.data, "binlog"))
    server.sql("INSERT INTO shop.t VALUES (3, 'better')")
    position = server.sql("SHOW MASTER STATUS").replace("\t", ":")
    gtid = server.sql("SELECT @@gtid_binlog_pos")
    between = next_second()
    server.sql("UPDATE shop.t SET state = 'ruined'")
    assert archive.take(server.data, listing_of(server.data, "binlog")) > 0
    assert archive.take(server.data, listing_of(server.data, "binlog")) == 0

    application = MariaDbApplication("ledger")
    assert [record.name for record in application.records(repository, base)] == sorted(archive.files)[-2:]
    targets = {
        "moment": RecoveryTarget(moment=between), "position": RecoveryTarget(position=position),
        "gtid": RecoveryTarget(position=gtid), "latest": LATEST,
    }  # fmt: skip
    quick = ("moment", "latest") if method == "physical" else ("position",)
    for name in quick:
        folder = tmp_path / name / "ledger"
        shutil.copytree(base, folder)
        application.recover(repository, folder, targets[name])
        found, reached = states(folder)
        assert found == ("ruined,ruined,ruined" if name == "latest" else "saved,good,better"), name
        assert reached is not None
        assert (reached < between) == (name != "latest")
        assert not (folder / "binlog").exists()


@pytest.mark.campaign
def test_to_a_gtid_and_with_a_manifest_that_still_holds(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, archive: BinlogArchive
) -> None:
    server.sql("TRUNCATE shop.t; INSERT INTO shop.t VALUES (1, 'saved')")
    report = save(repository, source(server, tmp_path, clock, "physical"), "ledger")
    server.sql("INSERT INTO shop.t VALUES (2, 'good')")
    gtid = server.sql("SELECT @@gtid_binlog_pos")
    server.sql("INSERT INTO shop.t VALUES (3, 'not yet')")
    archive.take(server.data, listing_of(server.data, "binlog"))
    folder = bring_back(repository, report, tmp_path / "base", "ledger")
    application = MariaDbApplication("ledger")
    application.recover(repository, folder, RecoveryTarget(position=gtid))
    with private_folder("work") as work, application.start(
        folder, workspace=work / "drill", timeout_seconds=60
    ) as running:
        assert running.query("SELECT group_concat(state) FROM shop.t") == "saved,good"
        assert [problem for problem in differences(running.saved, running.manifest()) if "shop.t" in problem] == [
            "table shop.t has 2 rows, and had 1 when it was saved"
        ]


def test_what_cannot_be_reached_is_said_by_name(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, archive: BinlogArchive
) -> None:
    report = save(repository, source(server, tmp_path, clock, "logical"), "ledger")
    folder = bring_back(repository, report, tmp_path / "back", "ledger")
    application = MariaDbApplication("ledger")
    application.recover(repository, folder, LATEST)
    assert not (folder / "data").exists(), "no log: the dump is all there is"
    log = server.sql("SHOW MASTER STATUS").split("\t")[0]

    def refused(match: str, **target: object) -> None:
        with pytest.raises(RestoreError, match=match):
            application.recover(repository, folder, RecoveryTarget(**target))  # type: ignore[arg-type]

    refused("no binlog from the snapshot on is archived", position=f"{log}:400")
    server.sql("INSERT INTO shop.t VALUES (77, 'x')")
    archive.take(server.data, listing_of(server.data, "binlog"))
    refused("knows none", name="before-upgrade")
    refused("the snapshot is of", moment=clock() - timedelta(days=1))
    refused("the binlog is archived up to", moment=clock() + timedelta(days=1))
    refused("could not understand", position="here")
    refused("is archived up to", position=f"{log}:99999999")
    refused(r"binlog\.999999 is missing", position="binlog.999999:4")
    for _ in range(2):
        server.sql("FLUSH BINARY LOGS")
    archive.take(server.data, listing_of(server.data, "binlog"))
    middle = sorted(archive.files)[-2]
    del archive.files[middle]
    lost = tmp_path / "lost"
    shutil.copytree(server.data, lost, ignore=lambda _, names: [name for name in names if not name.startswith("bin")])
    (lost / middle).unlink()
    server.sql("INSERT INTO shop.t VALUES (78, 'x')")
    shutil.copy(server.data / max(archive.files), lost)
    archive.take(lost, listing_of(lost, "binlog"))
    refused(f"{middle} is missing", moment=None)


def test_an_archive_is_gone_on_with_and_holds_what_the_server_has(
    repository: Repository, clock: FakeClock, server: MariaDb, archive: BinlogArchive
) -> None:
    server.sql("CREATE TABLE IF NOT EXISTS shop.big (x LONGBLOB); INSERT INTO shop.big SELECT REPEAT(UUID(), 30000)")
    first = archive.take(server.data, listing_of(server.data, "binlog"))
    server.sql("INSERT INTO shop.big SELECT REPEAT(UUID(), 1000)")
    with closing(BinlogArchive(repository, "ledger", "erp-1", clock)) as another:
        second = another.take(server.data, listing_of(server.data, "binlog"))
    assert 0 < second < 50_000 < 1_000_000 < first
    found = [snapshot for snapshot in repository.snapshots() if "binlog-of:ledger" in snapshot.tags]
    assert [snapshot.id for snapshot in found] == [newest_log(repository, "ledger").id]  # type: ignore[union-attr]
    assert "job:ledger" not in found[0].tags
    stored = read_back(repository, found[0].id)
    assert stored == {
        f"/ledger.binlog/{path.name}": as_closed(path.read_bytes()) for path in binlogs_in(server.data, "binlog")
    }


def test_a_server_that_goes_on_in_another_file_has_begun_no_other_log(
    repository: Repository, clock: FakeClock, server: MariaDb, archive: BinlogArchive
) -> None:
    for _ in range(3):
        server.sql("FLUSH BINARY LOGS")  # which clears a flag in the file's first event
        clock.advance(seconds=1)
        archive.take(server.data, listing_of(server.data, "binlog"))
    found = [snapshot for snapshot in repository.snapshots() if "binlog-of:ledger" in snapshot.tags]
    assert len(found) == 1
    assert sorted(archive.files) == [path.name for path in binlogs_in(server.data, "binlog")]


def test_a_log_that_begins_anew_leaves_the_old_one_for_what_was_saved_before(
    repository: Repository, clock: FakeClock, tmp_path: Path, archive: BinlogArchive
) -> None:
    log = tmp_path / "binlog.000001"
    event = b"\0" * 9 + (30).to_bytes(4, "little") + b"\0" * 17
    other = b"\2" * 9 + (30).to_bytes(4, "little") + b"\2" * 17
    before = clock()
    for content in (event * 3, event * 4, other * 2, event * 5):  # shorter, then longer but another
        clock.advance(hours=1)
        log.write_bytes(MAGIC + content)
        assert archive.take(tmp_path, listing_of(tmp_path, "")) > 0
    found = [snapshot for snapshot in repository.snapshots() if "binlog-of:ledger" in snapshot.tags]
    assert [read_back(repository, snapshot.id)["/ledger.binlog/binlog.000001"][4:] for snapshot in found] == [
        event * 4, other * 2, event * 5,
    ]  # fmt: skip
    assert newest_log(repository, "ledger") == found[-1]
    assert newest_log(repository, "ledger", before) == found[0]
    assert newest_log(repository, "ledger", before + timedelta(hours=2.5)) == found[1]
    assert newest_log(repository, "ledger", clock() + timedelta(hours=1)) is None
    with pytest.raises(SourceError, match="no such file"):
        archive.take(tmp_path / "nowhere", listing_of(tmp_path / "nowhere", ""))


def test_a_log_that_begins_anew_below_the_oldest_file_that_is_kept_is_not_passed_over(
    repository: Repository, clock: FakeClock, tmp_path: Path, archive: BinlogArchive
) -> None:
    event = b"\0" * 9 + (30).to_bytes(4, "little") + b"\0" * 17
    for name in ("binlog.000007", "binlog.000008"):
        (tmp_path / name).write_bytes(MAGIC + event)
    assert archive.take(tmp_path, listing_of(tmp_path, "")) == 68
    for path in tmp_path.glob("binlog.*"):
        path.unlink()
    (tmp_path / "binlog.000001").write_bytes(MAGIC + event)
    clock.advance(hours=1)
    assert archive.take(tmp_path, listing_of(tmp_path, "")) == 34
    assert archive.newest_file == "binlog.000001"
    found = [snapshot for snapshot in repository.snapshots() if "binlog-of:ledger" in snapshot.tags]
    assert [set(read_back(repository, snapshot.id)) for snapshot in found] == [
        {"/ledger.binlog/binlog.000007", "/ledger.binlog/binlog.000008"}, {"/ledger.binlog/binlog.000001"},
    ]  # fmt: skip


def test_a_file_that_is_only_on_its_way_is_no_log_begun_anew(tmp_path: Path, archive: BinlogArchive) -> None:
    event = b"\0" * 9 + (30).to_bytes(4, "little") + b"\0" * 17
    log = tmp_path / "binlog.000001"
    log.write_bytes(MAGIC + event * 3)
    assert archive.take(tmp_path, {log.name: 4 + 90}) == 94
    log.write_bytes(MAGIC + event)
    assert archive.take(tmp_path, {log.name: 4 + 120}) == 0
    log.write_bytes(MAGIC + event * 4)
    assert archive.take(tmp_path, {log.name: 4 + 120, "binlog.000002": 64}) == 30
    assert list(archive.files) == [log.name]


def test_half_an_event_waits_for_its_other_half(repository: Repository, tmp_path: Path, archive: BinlogArchive) -> None:
    log = tmp_path / "binlog.000001"
    event = b"\0" * 9 + (30).to_bytes(4, "little") + b"\0" * 17
    log.write_bytes(MAGIC + event + event[:25])
    assert archive.take(tmp_path, listing_of(tmp_path, "")) == 34
    assert archive.take(tmp_path, listing_of(tmp_path, "")) == 0
    log.write_bytes(MAGIC + event + event)
    assert archive.take(tmp_path, listing_of(tmp_path, "")) == 30
    assert whole_events(MAGIC + event + event[:25], 4) == 34
    assert list(commits(log)) == []


def test_files_that_no_backup_needs_are_let_go(
    repository: Repository, clock: FakeClock, tmp_path: Path, server: MariaDb, archive: BinlogArchive
) -> None:
    archive.take(server.data, listing_of(server.data, "binlog"))
    old = sorted(archive.files)
    next_second()
    clock.now = datetime.now(UTC)
    server.sql("FLUSH BINARY LOGS")
    save(repository, source(server, tmp_path, clock, "logical"), "ledger")
    server.sql("INSERT INTO shop.t VALUES (90, 'x') ON DUPLICATE KEY UPDATE state = 'y'")
    archive.take(server.data, listing_of(server.data, "binlog"))
    assert min(archive.files) >= old[-1]
    assert len(archive.files) <= 2


def test_names_sort_as_the_log_goes_on() -> None:
    names = [BinlogName.parse(text) for text in ("log.000002", "log.000010", "log.999999", "log.1000000")]
    assert names == sorted(names)  # type: ignore[type-var]
    assert BinlogName.parse("binlog.index") is None
