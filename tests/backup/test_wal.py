"""The write-ahead log: archived in order, found again across timelines, replayed to any moment, folded and let go."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.applications.base import LATEST, RecoveryTarget
from backup.applications.postgres_recovery import read_manifest, records, start_of
from backup.errors import RestoreError
from backup.repository import Repository
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.wal.keeping import expired, fold, remove, runs
from backup.wal.names import (
    Segment,
    is_wal_name,
    parse_history,
    parse_position,
    parse_segment,
    path_of,
    segment_name,
)
from backup.wal.reading import Log, read_wal
from backup.wal.writing import WalWriter
from keepwatch.clock import now
from tests.backup.conftest import Restic
from tests.backup.postgres_scene import JOB, SUMS, Office, furnish
from tests.backup.repositories import create, reopen
from tests.servers.postgres import postgres
from tests.servers.private import private_folder

ARCHIVED = {"archive_mode": "on", "wal_level": "replica"}


def whole_into(wal: Path) -> str:
    """Give an archive_command after which a file is there whole or not at all."""
    return f"cp -p %p {wal}/.%f && mv {wal}/.%f {wal}/%f"


class Archive:
    """What a server archived into a folder, stored as the receiver stores it."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.writer = WalWriter(repository, JOB, "erp-1")
        self.stored: set[str] = set()

    def take(self, *, leave_out: str = "") -> None:
        with self.repository.lock():
            for file in sorted(self.folder.iterdir()):
                if is_wal_name(file.name) and file.name not in self.stored and file.name != leave_out:
                    at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                    self.writer.store(file.name, memoryview(file.read_bytes()), at)
                    self.stored.add(file.name)

    @property
    def log(self) -> Log:
        return Log.of(self.repository.snapshots(), JOB)


@pytest.fixture(scope="module")
def place(programs: Path | None) -> Iterator[tuple[Office, Path]]:
    with (
        private_folder("office") as folder,
        private_folder("copies") as scratch,
        private_folder("wal") as wal,
        postgres(folder, ARCHIVED | {"archive_command": whole_into(wal)}, programs=programs) as server,
    ):
        server.sql("create database shop")
        yield furnish(Office(server, scratch)), wal


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, programs: Path | None) -> Repository:
    folder = tmp_path_factory.mktemp("wal") / "repository"
    return create(LocalStorage(folder), now)  # type: ignore[arg-type]  # the true clock will do


@pytest.fixture(scope="module")
def archive(place: tuple[Office, Path], repository: Repository) -> Archive:
    return Archive(repository, place[1])


def ticking(office: Office, seconds: float) -> list[tuple[datetime, int]]:
    """Insert numbered rows for a while; gives when each was committed, by the server's clock."""
    office.server.sql("create table if not exists books.tick (n int, at timestamptz default clock_timestamp())", "shop")
    began, told, number = time.monotonic(), [], int(office.server.sql("select count(*) from books.tick", "shop"))
    while time.monotonic() - began < seconds:
        number += 1
        office.server.sql(f"insert into books.tick values ({number})", "shop")
        told.append((datetime.now(UTC), number))
    return told


def switch(office: Office, wal: Path) -> None:
    """Let the server archive everything up to now."""
    name = office.server.sql("select pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + 30
    while not (wal / name).exists():
        assert time.monotonic() < deadline, f"{name} was never archived"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def base(place: tuple[Office, Path], repository: Repository, archive: Archive) -> str:
    """A base backup, and a log behind it in which rows tick, a point has a name, and pgbench was at work."""
    office, wal = place
    snapshot = office.save(repository).snapshot_id
    with office.load():
        archive.ticks = ticking(office, 1.5)  # type: ignore[attr-defined]
        office.server.sql("select pg_create_restore_point('before the mistake')")
        switch(office, wal)
        archive.ticks += ticking(office, 1)  # type: ignore[attr-defined]
    office.server.sql("delete from books.invoice", "shop")
    switch(office, wal)
    archive.take()
    return snapshot


def test_everything_archived_comes_back(place: tuple[Office, Path], repository: Repository, base: str) -> None:
    with place[0].alive(repository, base) as alive:
        assert alive.running.query(SUMS) is True
        assert alive.running.query("select count(*) from books.invoice") == 0
        assert alive.running.query("select count(*) from books.tick") == int(
            place[0].server.sql("select count(*) from books.tick", "shop")
        )
        assert alive.running.reached_at is not None
        assert not (alive.folder / "data/keepwatch_wal").exists(), "the fetched log outlives the recovery"


def rows_at(place: Office, repository: Repository, base: str, archive: Archive, seed: int) -> None:
    ticks: list[tuple[datetime, int]] = archive.ticks  # type: ignore[attr-defined]
    chosen = random.Random(seed).choice(ticks[1:-1])
    with place.alive(repository, base, RecoveryTarget(moment=chosen[0])) as alive:
        assert alive.running.query("select max(n) from books.tick") == chosen[1]
        assert alive.running.query("select count(*) = max(n) from books.tick") is True
        assert alive.running.query(SUMS) is True
        assert alive.running.query("select count(*) from books.invoice") == 500


@pytest.mark.parametrize("seed", [1, 2])
def test_a_moment_comes_back_exactly(
    place: tuple[Office, Path], repository: Repository, base: str, archive: Archive, seed: int
) -> None:
    rows_at(place[0], repository, base, archive, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_twenty_random_moments_come_back_exactly(
    place: tuple[Office, Path], repository: Repository, base: str, archive: Archive, seed: int
) -> None:
    rows_at(place[0], repository, base, archive, 100 + seed)


def test_a_named_point_comes_back(place: tuple[Office, Path], repository: Repository, base: str) -> None:
    with place[0].alive(repository, base, RecoveryTarget(name="before the mistake")) as alive:
        assert alive.running.query("select count(*) from books.invoice") == 500
        assert alive.running.query(SUMS) is True


def test_a_position_comes_back(place: tuple[Office, Path], repository: Repository, base: str) -> None:
    position = read_manifest(place[0].restore(repository, base)).position
    with place[0].alive(repository, base, RecoveryTarget(position=position)) as alive:
        assert alive.running.query("select to_regclass('books.tick') is null") is True


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (RecoveryTarget(moment=datetime(2020, 1, 1, tzinfo=UTC)), "the base backup is of"),
        (RecoveryTarget(moment=datetime(2999, 1, 1, tzinfo=UTC)), "the archived WAL ends at"),
        (RecoveryTarget(name="never named"), "could not recover to restore point never named"),
        (RecoveryTarget(position="FF/0"), "the log from the base backup on lacks it"),
        (RecoveryTarget(position="yesterday"), "no WAL position"),
    ],
)
def test_a_target_that_the_log_does_not_reach_is_refused(
    place: tuple[Office, Path], repository: Repository, base: str, target: RecoveryTarget, said: str
) -> None:
    with pytest.raises(RestoreError, match=said), place[0].alive(repository, base, target):
        raise AssertionError("it started")


def test_a_missing_segment_is_named(place: tuple[Office, Path], repository: Repository, base: str) -> None:
    manifest = read_manifest(place[0].restore(repository, base))
    lost = records(repository, JOB, manifest)[0]
    stored = repository.storage.get(FileKind.SNAPSHOT, lost.snapshot_id)
    repository.storage.delete(FileKind.SNAPSHOT, lost.snapshot_id)
    try:
        with (
            pytest.raises(RestoreError, match=f"WAL segment {lost.name} is missing"),
            place[0].alive(repository, base),
        ):
            raise AssertionError("it started")
    finally:
        repository.storage.put(FileKind.SNAPSHOT, lost.snapshot_id, stored)


def test_folding_keeps_every_segment_and_restic_agrees(
    place: tuple[Office, Path], repository: Repository, archive: Archive, base: str, restic: Restic, tmp_path: Path
) -> None:
    before = set(archive.log.files)
    start = start_of(read_manifest(place[0].restore(repository, base)))
    with repository.lock(load_index=True):
        assert fold(repository, archive.writer, JOB, [start]) >= 2
    log = archive.log
    assert set(log.files) == before
    assert len({holder.id for holder in log.files.values()}) < len(before)
    (tmp_path / "repository").symlink_to(repository.storage.properties.location)
    restic("check", "--read-data")
    rows_at(place[0], repository, base, archive, 3)


def test_what_no_base_backup_needs_is_let_go_and_the_rest_stays(
    place: tuple[Office, Path], repository: Repository, archive: Archive, base: str
) -> None:
    assert expired(archive.log, []) == []
    start = start_of(read_manifest(place[0].restore(repository, base)))
    later = start._replace(number=start.number + 1000)
    gone = expired(archive.log, [later, start])
    kept = {holder.id for segment in archive.log.segments if segment.number >= start.number
            if (holder := archive.log.holder(segment))}  # fmt: skip
    assert not kept & {snapshot.id for snapshot in gone}
    assert remove(repository, gone) == len(gone)
    with place[0].alive(repository, base) as alive:
        assert alive.running.query(SUMS) is True
    assert len(expired(archive.log, [later])) == len({holder.id for holder in archive.log.files.values()})


def test_a_switch_of_timelines_is_followed(tmp_path: Path, programs: Path | None) -> None:
    repository = create(LocalStorage(tmp_path / "repository"), now)  # type: ignore[arg-type]
    with private_folder("first") as folder, private_folder("copies") as scratch, private_folder("wal") as wal:
        command = {"archive_command": f"test ! -e {wal}/%f && {whole_into(wal)}"}
        with postgres(folder, ARCHIVED | command, programs=programs) as server:
            server.sql("create database shop")
            office = furnish(Office(server, scratch))
            base = office.save(repository).snapshot_id
            office.server.sql("create table books.page as select 1 as n", "shop")
            switch(office, wal)
            server.stop()
            # the office goes on from the same files, on a timeline of its own
            (server.data / "recovery.signal").touch()
            server.configure({"restore_command": f"cp {wal}/%f %p"})
            server.start()
            deadline = time.monotonic() + 30
            while server.sql("select pg_is_in_recovery()") == "t":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            office.server.sql("insert into books.page values (2)", "shop")
            switch(office, wal)
        archive = Archive(repository, wal)
        archive.take()
        assert archive.log.timelines() == [1, 2]
        with office.alive(repository, base) as alive:
            assert alive.running.query("select sum(n) from books.page") == 3
            assert alive.running.query(SUMS) is True
        lost = archive.log.files["00000002.history"]
        repository.storage.delete(FileKind.SNAPSHOT, lost.id)
        with pytest.raises(RestoreError, match=r"00000002\.history is missing"), office.alive(repository, base, LATEST):
            raise AssertionError("it started")


# ---- arithmetic


def test_a_segment_that_was_stored_since_the_index_was_read_is_found(tmp_path: Path) -> None:
    repository = create(LocalStorage(tmp_path / "repository"), now)  # type: ignore[arg-type]
    reader, name = reopen(LocalStorage(tmp_path / "repository"), now), segment_name(Segment(1, 7))  # type: ignore[arg-type]
    reader.load_index()
    with repository.lock():
        WalWriter(repository, JOB, "erp-1").store(name, memoryview(b"records"), now())
    held = Log.of(reader.snapshots(), JOB).files[name]
    assert read_wal(reader, JOB, held, name) == b"records"


def test_names_and_numbers_are_each_others_inverse() -> None:
    for size in (1 << 20, 16 << 20, 1 << 30):
        for number in (0, 1, (1 << 32) // size - 1, (1 << 32) // size, 123456):
            segment = Segment(7, number)
            assert parse_segment(segment_name(segment, size), size) == segment
    assert segment_name(Segment(1, 256)) == "000000010000000100000000"
    assert parse_position("1/0") == 1 << 32


@pytest.mark.parametrize("name", ["00000001000000000000000g", "../x", "", "0000000100000000000000", "x.history"])
def test_other_names_are_no_wal(name: str) -> None:
    assert not is_wal_name(name)
    assert parse_segment(name) is None


def test_a_path_reads_the_segment_of_a_switch_from_the_new_timeline() -> None:
    history = parse_history("1\t0/3000110\tno recovery target specified\n\n2\t0/5000000\t# why\n")
    way = path_of(Segment(1, 2), 6, 3, history, 16 << 20)
    assert list(way) == [(1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]


def test_runs_end_at_gaps_timelines_and_boundaries() -> None:
    segments = [Segment(1, n) for n in (1, 2, 3, 5, 6)] + [Segment(2, 7)]
    assert [[s.number for s in run] for run in runs(segments, [3])] == [[1, 2], [3], [5, 6], [7]]
    assert list(runs([])) == []
