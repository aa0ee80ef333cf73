"""PostgreSQL comes back: both ways of saving it, under load, onto a server of its own, with the counts it had."""

import dataclasses
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from backup.applications import postgres_counting as counting
from backup.applications.base import RecoveryTarget
from backup.applications.dump_files import RestoredFiles
from backup.applications.manifest import TableFacts
from backup.applications.postgres import PostgresApplication
from backup.applications.postgres_connection import Server
from backup.applications.postgres_counting import Before, Counted, Table
from backup.applications.postgres_loading import load
from backup.applications.postgres_recovery import read_manifest
from backup.archiver import backup
from backup.errors import ApplicationError, BackupError, RestoreError, SourceError
from backup.repository import Repository
from backup.sources.postgres import PostgresSource
from backup.storage.local import LocalStorage
from keepwatch.clock import now
from tests.backup.postgres_scene import JOB, SUMS, Office, command_lines, office
from tests.backup.repositories import create, read_back
from tests.servers.postgres import PASSWORD, postgres
from tests.servers.private import private_folder

NEWEST = ["books.invoice.created_at"]
INVOICES = "shop.books.invoice"


@pytest.fixture(scope="module")
def place(programs: Path | None) -> Iterator[Office]:
    with office(programs=programs) as made:
        yield made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(LocalStorage(tmp_path / "repository"), now)  # type: ignore[arg-type]  # the true clock will do


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_what_is_saved_under_load_comes_back_whole(place: Office, repository: Repository, method: str) -> None:
    with place.load():
        report = place.save(repository, method, newest=NEWEST)
    assert report.manifest["tables"] == 5, "an unlogged table counts, or one is missing"
    with place.alive(repository, report.snapshot_id, newest=NEWEST) as alive:
        assert alive.differences == []
        assert alive.running.integrity() == []
        assert alive.running.query(SUMS) is True
        assert alive.running.query("select count(*) from books.invoice where scan is not null") == 500
        assert alive.running.query("select rolname from pg_roles where rolname = 'clerk'") == "clerk"
        invoices = alive.saved.tables[INVOICES]
        assert (invoices.rows_min, invoices.rows_max) == (500, 500)
        assert invoices.newest == {"created_at": "2026-01-22T04:00:00.000000+00:00"}
        history = alive.saved.tables["shop.public.pgbench_history"]
        assert history.rows_max is not None
        assert history.rows_min > 0 or method == "physical"


def test_a_second_base_backup_stores_little_more_than_the_pages_that_changed(
    place: Office, repository: Repository
) -> None:
    first = place.save(repository)
    place.server.sql("update pgbench_accounts set filler = 'x' where aid between 1000 and 1999; checkpoint", "shop")
    second = place.save(repository)
    wal = 16 << 20  # each has the segment it was taken in
    assert second.bytes_added - wal < (first.bytes_added - wal) / 10
    assert second.bytes_processed - wal > 20 << 20


def test_where_nobody_writes_late_statistics_widen_no_bounds(place: Office, repository: Repository) -> None:
    place.server.sql("create table books.late (n int)", "shop")
    with Server.from_settings(place.settings()).connect("shop") as writer:
        moments = iter(range(9))

        def late() -> datetime:
            """Insert when the run begins; tell the statistics once they were asked for the first time."""
            if next(moments) == 0:
                for number in range(500):  # a session tells them at once only after a second
                    writer.execute("insert into books.late values (%s)", (number,))
            elif writer.info.server_version >= 150000:
                writer.execute("select pg_stat_force_next_flush()")
            return now()

        try:
            source = PostgresSource(JOB, late, place.settings(), lambda _: pytest.fail("somebody wrote"))
            report = backup(repository, source, job=JOB, host="erp-1", clock=now, full=True)
            facts = read_manifest(place.restore(repository, report.snapshot_id)).tables["shop.books.late"]
        finally:
            place.server.sql("drop table books.late", "shop")
    assert (facts.rows_min, facts.rows_max) == (500, 500)


def test_tablespaces_come_back_beside_the_data(place: Office, repository: Repository) -> None:
    with private_folder("spaces") as outside:
        place.server.sql(f"create tablespace elsewhere location '{outside}'")
        place.server.sql("create table books.ledger tablespace elsewhere as select 7 as page", "shop")
        try:
            report = place.save(repository)
            dumped = place.save(repository, "logical")
        finally:
            place.server.sql("drop table books.ledger", "shop")
            place.server.sql("drop tablespace elsewhere")
    with place.alive(repository, report.snapshot_id) as alive:
        assert alive.running.query("select page from books.ledger") == 7
        assert str(
            alive.running.query("select pg_tablespace_location(oid) from pg_tablespace where oid > 9999")
        ).endswith(next(iter(alive.saved.details["tablespaces"])))
        assert not list(outside.glob("*")), "the restored server works in the live one's folder"
    with place.alive(repository, dumped.snapshot_id) as alive:
        assert alive.running.query("select page from books.ledger") == 7


def test_only_chosen_databases_are_dumped(place: Office, repository: Repository) -> None:
    report = place.save(repository, "logical", databases=["shop"])
    names = set(read_back(repository, report.snapshot_id))
    assert names == {f"/{JOB}/{name}" for name in ("roles.sql", "tablespaces.sql", "shop.dump", "manifest.json")}
    with pytest.raises(SourceError, match="could not find database shopp"):
        place.save(repository, "logical", databases=["shopp"])


def test_a_dump_loads_into_a_new_server_by_one_call(place: Office, repository: Repository) -> None:
    report = place.save(repository, "logical")
    folder = place.restore(repository, report.snapshot_id)
    there = place.server.programs
    with private_folder("new") as elsewhere, postgres(elsewhere, programs=there) as other:
        target = Server.parse(other.dsn, programs=there)
        assert load(target, RestoredFiles(folder), read_manifest(folder), jobs=2) == ["postgres", "shop"]
        assert other.sql(SUMS, "shop") == "t"
        with pytest.raises(RestoreError, match="refused to load database shop"):
            load(target, RestoredFiles(folder), read_manifest(folder), jobs=2)


def test_no_password_stands_in_a_process_list_a_log_or_an_error(
    place: Office, repository: Repository, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(command_lines())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        place.save(repository, "logical")
    finally:
        done.set()
        watcher.join()
    away = type(place.settings().dsn)(f"host=127.0.0.1 port=1 password='{PASSWORD}'")
    unreachable = PostgresSource(JOB, now, place.settings().model_copy(update={"dsn": away}))
    with pytest.raises(SourceError) as raised, unreachable.capture():
        pass
    said = "".join(capfd.readouterr())
    assert any("pg_dump" in lines for lines in seen)
    assert not [lines for lines in [*seen, caplog.text, said, str(raised.value)] if PASSWORD in lines]


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_a_server_that_dies_half_way_leaves_no_snapshot(
    programs: Path | None, repository: Repository, method: str
) -> None:
    with office(programs=programs) as doomed:
        doomed.server.sql(
            "create table books.bulk as select n, repeat(md5(n::text), 60) as text from generate_series(1, 20000) n",
            "shop",
        )
        saving = threading.Event()

        def kill_when_it_flows() -> None:
            saving.wait(30)
            doomed.server.stop(signal.SIGQUIT)

        killer = threading.Thread(target=kill_when_it_flows)
        killer.start()
        from backup.archiver import backup

        def asked() -> bool:
            saving.set()
            killer.join(0.2)
            return False

        source = PostgresSource(JOB, now, doomed.settings(method))
        with pytest.raises(SourceError, match=r"could not (dump|read|count|connect)"):
            backup(repository, source, job=JOB, host="erp-1", clock=now, workers=0, stop=asked)
        killer.join()
    assert repository.snapshots() == []


def test_damage_to_a_restored_file_is_found_before_the_server_starts(place: Office, repository: Repository) -> None:
    report = place.save(repository)
    folder = place.restore(repository, report.snapshot_id)
    victim = max((path for path in (folder / "data/base").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    application = PostgresApplication(JOB, place.settings())
    (folder.parent / "w").mkdir()
    with (
        pytest.raises(ApplicationError, match=f"base/.*{victim.name}"),
        application.start(folder, workspace=folder.parent / "w", timeout_seconds=60),
    ):
        raise AssertionError("it started")


def test_a_table_that_lost_rows_and_one_that_is_gone_are_named(place: Office, repository: Repository) -> None:
    report = place.save(repository)
    with place.alive(repository, report.snapshot_id) as alive:
        emptied = alive.running.plant("fewer-rows")
        assert [line for line in alive.differences if line.startswith(emptied)]
        dropped = alive.running.plant("dropped-table")
        assert f"{dropped} is not there" in alive.differences


def test_a_broken_index_is_named_by_amcheck(place: Office, repository: Repository) -> None:
    report = place.save(repository)
    with place.alive(repository, report.snapshot_id) as alive:
        with alive.running.server.connect("shop") as connection:
            connection.execute("update pg_index set indisvalid = true")
            (path,) = connection.execute("select pg_relation_filepath('pgbench_accounts_pkey')").fetchone() or ("",)
            connection.execute("checkpoint")
        file = alive.folder / "data" / str(path)
        content = bytearray(file.read_bytes())
        content[8192 * 2 + 4000 : 8192 * 2 + 8000] = bytes(4000)
        file.write_bytes(content)
        with alive.running.server.connect("shop") as connection:
            connection.execute("create extension if not exists pg_buffercache")
            connection.execute("create table evict as select n, repeat('x', 1000) from generate_series(1, 80000) n")
        assert any("pgbench_accounts_pkey" in finding for finding in alive.running.integrity())


def test_dumps_refuse_a_moment_and_a_base_backup_a_running_server(place: Office, repository: Repository) -> None:
    dumped = place.restore(repository, place.save(repository, "logical").snapshot_id)
    with pytest.raises(RestoreError, match="could not recover dumps to a moment"):
        PostgresApplication(JOB, place.settings()).recover(repository, dumped, RecoveryTarget(moment=now()))
    base = place.restore(repository, place.save(repository).snapshot_id)
    with pytest.raises(RestoreError, match="could not load a base backup"):
        load(Server.parse(place.server.dsn), RestoredFiles(base), read_manifest(base), jobs=1)


def test_what_is_no_database_is_said_to_be_none(place: Office, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no snapshot of a database"):
        PostgresApplication(JOB, place.settings()).recover(None, tmp_path, RecoveryTarget())  # type: ignore[arg-type]


# ---- bounds: arithmetic on what was counted


TABLE = Table("public", "t", oid=1, file=10, inserted=100, deleted=40)


def bound(after: Table, rows: int | None, newest: dict[str, str] | None = None) -> TableFacts | None:
    counted = Counted({"public.t": after}, {"public.t": rows}) if rows is not None else None
    return counting.bounds(Before({"public.t": TABLE}, {"public.t": newest or {}}), counted, {"public.t": after}).get(
        "public.t"
    )


def test_rows_are_exact_while_nothing_is_written() -> None:
    assert bound(TABLE, 60) == TableFacts(60, 60)


def test_rows_that_may_have_come_or_gone_widen_the_bounds() -> None:
    after = dataclasses.replace(TABLE, inserted=110, deleted=45)
    assert bound(after, 65) == TableFacts(55, 70)


def test_a_truncated_or_rewritten_table_is_only_said_to_exist() -> None:
    assert bound(dataclasses.replace(TABLE, file=11), 5) == TableFacts(0, None)


def test_statistics_that_were_reset_bound_nothing() -> None:
    assert bound(dataclasses.replace(TABLE, inserted=3, deleted=0), 60) == TableFacts(0, None)


def test_a_table_that_was_dropped_or_made_anew_is_left_out() -> None:
    assert bound(dataclasses.replace(TABLE, oid=2), 60) is None


def test_the_newest_row_counts_only_while_none_was_deleted() -> None:
    newest = {"at": "2026-01-01"}
    assert bound(TABLE, 60, newest) == TableFacts(60, 60, newest)
    assert bound(dataclasses.replace(TABLE, deleted=41), 60, newest) == TableFacts(60, 61, {})
