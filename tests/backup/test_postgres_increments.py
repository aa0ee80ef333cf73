"""PostgreSQL 17 sends only what changed, and every snapshot is a whole base backup still: in the campaign, for real."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.applications.base import RecoveryTarget
from backup.archiver import BackupReport, backup
from backup.repository import Repository
from backup.sources.open import open_source
from backup.sources.postgres import PostgresSource
from backup.sources.postgres_basebackup import Flow
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from config.sources import FilesSource
from config.sources import GroupSource as GroupSettings
from keepwatch.clock import now
from tests.backup.conftest import Restic
from tests.backup.postgres_scene import JOB, SUMS, Office, office
from tests.backup.repositories import create
from tests.backup.test_wal import ARCHIVED, Archive, switch, ticking, whole_into
from tests.servers import other_postgres
from tests.servers.postgres import Postgres
from tests.servers.private import hand_over, private_folder, run

pytestmark = pytest.mark.campaign
SUMMARIES = {"summarize_wal": "on", "wal_level": "replica", "max_wal_senders": "4"}
VERSIONS = [major for major in other_postgres.SUITES if major >= 17]
NOT_OF_THE_FILES = {"pg_control", "backup_label", "backup_manifest", "postmaster.opts", "tablespace_map"}


@pytest.fixture(scope="module", params=VERSIONS)
def programs(request: pytest.FixtureRequest) -> Path:
    return other_postgres.programs(request.param)


@pytest.fixture
def place(programs: Path) -> Iterator[Office]:
    with office(SUMMARIES, programs=programs) as made:
        yield made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(LocalStorage(tmp_path / "repository"), now)  # type: ignore[arg-type]  # the true clock will do


def save(place: Office, repository: Repository, *, full: bool = False, **more: object) -> BackupReport:
    source = PostgresSource(JOB, now, place.settings(**more), lambda _: time.sleep(1.5))
    return backup(repository, source, job=JOB, host="erp-1", clock=now, full=full)


def how(report: BackupReport) -> str:
    return str(report.manifest["base_backup"])


def saved_changes(place: Office, repository: Repository, **more: object) -> BackupReport:
    report = save(place, repository, **more)
    assert how(report).startswith("changes since snapshot "), how(report)
    return report


def sound(place: Office, repository: Repository, snapshot: str) -> set[str]:
    """Restore a snapshot by itself: verified against its list before it starts, by amcheck and by counts after it.

    Gives the tables in it.
    """
    with place.alive(repository, snapshot) as alive:
        assert alive.differences == []
        assert alive.running.integrity() == []
        assert alive.running.query(SUMS, "shop") is True
        tables = "select string_agg(tablename, ' ') from pg_tables where schemaname = 'books'"
        return set(str(alive.running.query(tables, "shop")).split())


def test_a_chain_under_load_comes_back_whole_at_every_link(
    place: Office, repository: Repository, restic: Restic
) -> None:
    sql = place.server.sql
    sql(
        "create table books.gone as select n from generate_series(1, 20000) n;"
        "create table books.emptied as select n from generate_series(1, 20000) n;"
        "create table books.shrinking as select n, repeat('x', 100) as t from generate_series(1, 50000) n;"
        "create table books.rewritten as select n, repeat('y', 100) as t from generate_series(1, 20000) n;"
        "create table books.old_name as select n from generate_series(1, 20000) n;",
        "shop",
    )
    with private_folder("spaces") as outside, place.load():
        snapshots = [save(place, repository, full=True).snapshot_id]
        sql(f"create tablespace elsewhere location '{outside}'")
        sql("create table books.there tablespace elsewhere as select n from generate_series(1, 50000) n", "shop")
        sql("drop table books.gone; truncate books.emptied; insert into books.emptied values (7)", "shop")
        snapshots.append(saved_changes(place, repository).snapshot_id)
        sql("update books.there set n = -n where n % 1000 = 0; alter table books.old_name rename to new_name", "shop")
        sql("delete from books.rewritten where n % 2 = 0", "shop")
        sql("vacuum full books.rewritten", "shop")
        snapshots.append(saved_changes(place, repository).snapshot_id)
        sql("delete from books.shrinking where n > 1000", "shop")
        sql("vacuum (truncate) books.shrinking", "shop")
        sql("create unlogged table books.scratch as select n from generate_series(1, 20000) n", "shop")
        snapshots.append(saved_changes(place, repository).snapshot_id)
        sql("create database annex strategy file_copy")
        sql("insert into books.shrinking select n, 'z' from generate_series(1, 60000) n", "shop")
        sql("alter table books.there set tablespace pg_default", "shop")
        snapshots.append(saved_changes(place, repository).snapshot_id)
        sql("alter table books.emptied set tablespace elsewhere", "shop")
        sql("drop database annex")
        snapshots.append(saved_changes(place, repository).snapshot_id)
        place.server.sql("alter table books.emptied set tablespace pg_default", "shop")
        place.server.sql("drop tablespace elsewhere")
    gone = [set(), {"gone"}, {"gone", "old_name"}, {"gone"}, {"gone"}, {"gone"}]
    there = [{"gone", "old_name"}, {"there"}, {"new_name"}, {"scratch"}, {"there"}, {"emptied", "scratch"}]
    for number, snapshot in enumerate(snapshots):
        found = sound(place, repository, snapshot)
        assert there[number] <= found
        assert not gone[number] & found
    restic("check", "--read-data")
    by_restic = place.scratch / "by restic"
    restic("restore", snapshots[-1], "--target", str(by_restic))
    assert "successfully verified" in verified(place, by_restic / JOB / "data")


def verified(place: Office, data: Path) -> str:
    """Let PostgreSQL compare a restored base backup with its list; tablespaces are linked as a restore would."""
    for space in (data.parent / "tablespaces").glob("*"):
        link = data / "pg_tblspc" / space.name
        link.unlink(missing_ok=True)
        link.symlink_to(space)
    for path in (data.parent, *data.parent.rglob("*")):
        hand_over(path)
    hand_over(data.parent.parent)
    command = [place.server.program("pg_verifybackup"), "--no-parse-wal", "-i", "tablespace_map", data]
    return run(command, place.server.folder).stdout


def test_the_files_are_those_that_pg_combinebackup_makes(programs: Path, repository: Repository) -> None:
    still = SUMMARIES | {"autovacuum": "off"}
    with office(still, programs=programs) as place, private_folder("theirs") as theirs:
        place.server.sql("vacuum freeze", "shop")
        place.server.sql("checkpoint")
        base_backup = [place.server.program("pg_basebackup"), "-d", place.server.socket_dsn, "--checkpoint=fast"]
        save(place, repository, full=True, count_rows=False)
        run([*base_backup, "-D", theirs / "full"], place.server.folder)
        place.bench("-n", "-c", "2", "-t", "200")
        place.server.sql("create table books.more as select n from generate_series(1, 9999) n", "shop")
        place.server.sql("delete from pgbench_accounts where aid > 60000", "shop")
        place.server.sql("vacuum", "shop")
        place.server.sql("checkpoint")
        report = saved_changes(place, repository, count_rows=False)
        run([*base_backup, "-D", theirs / "next", "-i", theirs / "full/backup_manifest"], place.server.folder)
        combine = [place.server.program("pg_combinebackup"), theirs / "full", theirs / "next", "-o", theirs / "whole"]
        run(combine, place.server.folder)
        ours, whole = place.restore(repository, report.snapshot_id) / "data", theirs / "whole"
        assert contents(ours).keys() == contents(whole).keys()
        different = [name for name, content in contents(ours).items() if content != contents(whole)[name]]
        assert different == []
        label = (ours / "backup_label").read_text()
        names = re.compile(r"^[A-Z ]+:", re.MULTILINE)
        assert names.findall(label) == names.findall((whole / "backup_label").read_text())


def contents(data: Path) -> dict[str, bytes]:
    """Read what is in the relations and beside them, but for WAL and what tells one backup from another."""
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and path.name not in NOT_OF_THE_FILES and "pg_wal" not in path.parts
    }


def test_the_server_sends_little_when_little_changed(
    place: Office, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [0]
    honest = Flow.take

    def counted(flow: Flow, count: int) -> bytes:
        sent[0] += count
        return honest(flow, count)

    monkeypatch.setattr(Flow, "take", counted)
    rows = "select n, repeat('x', 200) as t from generate_series(1, 300000) n"
    place.server.sql(f"create table books.big as {rows}", "shop")
    place.server.sql("vacuum freeze", "shop")
    first = save(place, repository, full=True, count_rows=False)
    at_first, sent[0] = sent[0], 0
    place.server.sql("update books.big set t = 'y' where n between 1000 and 1100", "shop")
    second = saved_changes(place, repository, count_rows=False)
    wal = 17 << 20  # each has the segment it was taken in
    assert sent[0] - wal < (at_first - wal) / 10
    assert second.bytes_added - wal < (first.bytes_added - wal) / 10
    assert second.bytes_processed > first.bytes_processed * 0.9


def test_a_full_run_reads_everything_whatever_the_server_could_tell(place: Office, repository: Repository) -> None:
    save(place, repository, full=True)
    assert how(save(place, repository, full=True)) == "whole"


def test_without_summaries_all_is_read_and_the_reason_is_told(place: Office, repository: Repository) -> None:
    assert how(save(place, repository)) == "whole"
    place.server.sql("alter system set summarize_wal = off")
    place.server.sql("select pg_reload_conf()")
    deadline = time.monotonic() + 30
    while place.server.sql("show summarize_wal") != "off":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert how(save(place, repository)) == "whole: summarize_wal is off on the server"
    place.server.sql("alter system reset summarize_wal")
    place.server.stop()
    shutil.rmtree(place.server.data / "pg_wal/summaries")
    (place.server.data / "pg_wal/summaries").mkdir(mode=0o700)
    hand_over(place.server.data / "pg_wal/summaries")
    place.server.start()
    report = save(place, repository)
    assert re.match(r"whole: could not begin an incremental base backup: .*WAL summar", how(report)), how(report)
    saved_changes(place, repository)


def test_another_timeline_is_not_gone_by(place: Office, repository: Repository, programs: Path) -> None:
    """An older snapshot is brought back and works on; the newer one is of a time that it never had."""
    old = save(place, repository, full=True)
    place.bench("-n", "-c", "2", "-t", "300")
    saved_changes(place, repository)
    folder = place.restore(repository, old.snapshot_id)
    with private_folder("second") as elsewhere:
        shutil.copytree(folder / "data", elsewhere / "data", symlinks=True)
        shutil.copy(place.server.data / "postgresql.conf", elsewhere / "data/postgresql.conf")
        (elsewhere / "data/recovery.signal").touch()
        with (elsewhere / "data/postgresql.conf").open("a") as more:
            more.write("restore_command = 'false'\n")
        for path in (elsewhere / "data", *(elsewhere / "data").rglob("*")):
            hand_over(path)
        (elsewhere / "data").chmod(0o700)
        second = Office(Postgres(elsewhere, programs=programs), place.scratch, 90)
        second.server.start()
        try:
            deadline = time.monotonic() + 60
            while second.server.sql("select pg_is_in_recovery()") == "t":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            report = save(second, repository)
            assert "timeline" in how(report), how(report)
            assert how(report).startswith("whole: could not begin an incremental base backup: ")
            second.bench("-n", "-c", "2", "-t", "50")
            last = saved_changes(second, repository)
            sound(second, repository, last.snapshot_id)
        finally:
            second.server.stop()


def test_after_a_dump_and_after_pieces_were_lost_all_is_read(place: Office, repository: Repository) -> None:
    save(place, repository, full=True)
    of_the_full = {file.name for file in repository.storage.list(FileKind.INDEX)}
    saved_changes(place, repository)
    for name in of_the_full:
        repository.storage.delete(FileKind.INDEX, name)
    report = save(place, repository)
    assert how(report).endswith("cannot be gone by: parts of it are no longer in the repository"), how(report)
    sound(place, repository, report.snapshot_id)
    place.save(repository, "logical")
    assert how(save(place, repository)).endswith("cannot be gone by: it is no base backup")


def test_the_log_goes_on_from_an_increment_to_any_moment(programs: Path, repository: Repository) -> None:
    with private_folder("wal") as wal:
        archived = ARCHIVED | {"archive_command": whole_into(wal)}
        with office(SUMMARIES | archived, programs=programs) as place:
            save(place, repository, full=True)
            place.bench("-n", "-c", "2", "-t", "100")
            snapshot = saved_changes(place, repository).snapshot_id
            with place.load():
                ticks = ticking(place, 2)
                switch(place, wal)
            place.server.sql("select pg_switch_wal()")
            Archive(repository, wal).take()
            chosen, number = ticks[len(ticks) // 2]
            with place.alive(repository, snapshot, RecoveryTarget(moment=chosen)) as alive:
                assert alive.running.query("select max(n) from books.tick") == number
                assert alive.running.query(SUMS) is True


def test_a_member_of_a_group_is_read_by_its_changes_too(
    place: Office, repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "srv/documents").mkdir(parents=True)
    (tmp_path / "srv/documents/1.pdf").write_text("invoice 1")
    settings = GroupSettings(
        type="group",
        members={
            "documents": FilesSource(type="files", paths=[tmp_path / "srv/documents"]),
            JOB: place.settings(count_rows=False),
        },
    )
    said, reports = [], []
    for number in range(2):
        source = open_source(settings, name="office", clock=now, workspace=tmp_path / "work")
        reports.append(backup(repository, source, job="office", host="erp-1", clock=now))
        said.append(reports[-1].manifest["members"][JOB]["base_backup"])  # type: ignore[index]
        place.server.sql(f"create table books.after_{number} as select n from generate_series(1, 5000) n", "shop")
    assert said == ["whole", f"changes since snapshot {reports[0].snapshot_id[:8]}"]
    assert "after_0" in sound(place, repository, reports[1].snapshot_id)
