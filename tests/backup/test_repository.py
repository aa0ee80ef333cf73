"""The repository: what comes back, and the orders that it refuses to get wrong."""

import os
from datetime import timedelta
from typing import Any

import pytest

from backup import lock as locks
from backup.crypto import Sealer
from backup.errors import (
    BackupError,
    CorruptData,
    FileMissing,
    RepositoryLocked,
    RepositoryMissing,
    SnapshotMissing,
    StorageFull,
    UnsupportedRepository,
    WrongPassword,
)
from backup.index import Index
from backup.pack import BlobEntry, BlobKind, PackBuilder, PackRecord, blob_id, format_header
from backup.reader import BlobReader
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import CONFIG_NAME, FileKind
from tests.backup.repositories import FakeClock, back_up, commit, create, read_back, reopen, save_folder
from tests.backup.storages import Faulty, MemoryStorage, names

FILES = {"a.txt": b"text " * 1000, "folder": {"b": b"", "c.bin": os.urandom(5000)}}


def test_what_was_saved_comes_back_after_opening_anew(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    snapshot = back_up(repository, FILES)
    again = reopen(memory, clock)
    assert again.config == repository.config
    assert [item.id for item in again.snapshots()] == [snapshot]
    assert read_back(again, snapshot) == {
        "/a.txt": FILES["a.txt"],
        "/folder/b": b"",
        "/folder/c.bin": FILES["folder"]["c.bin"],  # type: ignore[index, call-overload]
    }


def test_a_second_repository_is_not_made_over_the_first(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    before = dict(memory.files)
    with pytest.raises(BackupError, match="refused to make a repository"):
        create(memory, clock)
    del memory.files[FileKind.CONFIG, CONFIG_NAME]
    with pytest.raises(BackupError, match="refused to make a repository"):
        create(memory, clock)
    assert memory.files.items() <= before.items()


def test_opening_tells_missing_wrong_and_damaged_apart(memory: MemoryStorage, clock: FakeClock) -> None:
    with pytest.raises(RepositoryMissing):
        reopen(memory, clock)
    create(memory, clock)
    with pytest.raises(WrongPassword):
        Repository.open(memory, "wrong", clock=clock)
    config = bytearray(memory.files[FileKind.CONFIG, CONFIG_NAME])
    config[30] ^= 1
    memory.files[FileKind.CONFIG, CONFIG_NAME] = bytes(config)
    with pytest.raises(CorruptData, match="config"):
        reopen(memory, clock)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b'{"version":3,"id":"x","chunker_polynomial":"25b468838dcb75"}', UnsupportedRepository),
        (b'{"version":2,"id":"x","chunker_polynomial":"25b468838dcb77"}', CorruptData),
        (b'{"version":2,"id":"x","chunker_polynomial":"zz"}', CorruptData),
        (b'{"version":2}', CorruptData),
    ],
)
def test_a_config_that_restic_would_refuse_is_refused(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, document: bytes, error: type[BackupError]
) -> None:
    memory.files[FileKind.CONFIG, CONFIG_NAME] = Sealer(repository.key).seal(document)
    with pytest.raises(error):
        reopen(memory, clock)


def test_a_blob_is_stored_once(repository: Repository, memory: MemoryStorage, clock: FakeClock) -> None:
    with repository.lock():
        repository.load_index()
        name, added = repository.save_blob(BlobKind.DATA, b"content")
        assert added > 0
        assert repository.save_blob(BlobKind.DATA, b"content") == (name, 0)
        repository.flush()
        assert repository.save_blob(BlobKind.DATA, b"content") == (name, 0)
        assert repository.save_blob(BlobKind.TREE, b"content")[1] > 0, "trees and data are apart"
        repository.flush()
    again = reopen(memory, clock)
    with again.lock():
        again.load_index()
        assert again.save_blob(BlobKind.DATA, b"content") == (name, 0)


def test_data_and_trees_lie_in_packs_of_their_own(repository: Repository) -> None:
    back_up(repository, FILES)
    index = repository.load_index()
    kinds: dict[int, set[BlobKind]] = {}
    for record in range(len(index)):
        kinds.setdefault(index.pack_number(record), set()).add(index.entry(record).kind)
    assert sorted(kinds.values(), key=str) == [{BlobKind.DATA}, {BlobKind.TREE}]


def test_a_snapshot_is_refused_before_what_it_refers_to_is_flushed(
    repository: Repository, memory: MemoryStorage
) -> None:
    with repository.lock():
        repository.load_index()
        tree = save_folder(repository, FILES)
        snapshot = Snapshot(time=repository.clock(), tree=tree, paths=("/srv",))
        with pytest.raises(BackupError, match="before what it refers to is flushed"):
            repository.commit(snapshot)
        assert names(memory, FileKind.SNAPSHOT) == []
        repository.flush()
        assert repository.commit(snapshot) in names(memory, FileKind.SNAPSHOT)


def test_packs_of_workers_must_be_in_an_index_file_before_a_snapshot(
    repository: Repository, memory: MemoryStorage
) -> None:
    with repository.lock():
        repository.load_index()
        builder = PackBuilder(repository.key, BlobKind.TREE)
        tree = b'{"nodes":[]}\n'
        builder.add(blob_id(tree), tree)
        pack = builder.finish()
        memory.put(FileKind.DATA, pack.id, pack.content)
        repository.add_packs([pack.record])
        snapshot = Snapshot(time=repository.clock(), tree=blob_id(tree), paths=("/srv",))
        with pytest.raises(BackupError, match="flushed"):
            repository.commit(snapshot)
        commit(repository, blob_id(tree))
    assert read_back(repository, names(memory, FileKind.SNAPSHOT)[0]) == {}


def test_a_pack_that_could_not_be_stored_is_never_referred_to(clock: FakeClock) -> None:
    memory = MemoryStorage()
    create(memory, clock)

    def full(_number: int, operation: str, kind: FileKind) -> None:
        if operation == "put" and kind is FileKind.DATA:
            raise StorageFull("could not write: no space left")

    repository = reopen(Faulty(memory, before=full), clock)
    with repository.lock():
        repository.load_index()
        tree = save_folder(repository, FILES)
        with pytest.raises(StorageFull):
            repository.flush()
        with pytest.raises(BackupError, match="flushed"):
            repository.commit(Snapshot(time=clock.now, tree=tree, paths=("/srv",)))
    assert names(memory, FileKind.SNAPSHOT) == names(memory, FileKind.INDEX) == []


def test_nothing_is_written_without_a_lock_or_deleted_without_an_exclusive_one(repository: Repository) -> None:
    snapshot = back_up(repository, FILES)
    repository.load_index()
    with pytest.raises(RepositoryLocked):
        repository.save_blob(BlobKind.DATA, b"more")
    with pytest.raises(RepositoryLocked):
        repository.commit(repository.load_snapshot(snapshot))
    with repository.lock(), pytest.raises(RepositoryLocked):
        repository.delete_snapshots([snapshot])
    with repository.lock(exclusive=True):
        repository.delete_snapshots([snapshot])
    assert repository.snapshots() == []


def test_a_lock_lost_on_the_way_stops_the_snapshot(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    with repository.lock():
        repository.load_index()
        tree = save_folder(repository, FILES)
        repository.flush()
        clock.advance(hours=1)
        memory.delete(FileKind.LOCK, names(memory, FileKind.LOCK)[0])
        with pytest.raises(RepositoryLocked, match="lost"):
            commit(repository, tree)
    assert repository.snapshots() == []


def test_an_index_loaded_before_the_lock_is_not_trusted(repository: Repository) -> None:
    repository.load_index()
    with repository.lock(), pytest.raises(RuntimeError, match="after the lock"):
        repository.save_blob(BlobKind.DATA, b"content")


def test_one_object_holds_one_lock(repository: Repository) -> None:
    with repository.lock(), pytest.raises(RuntimeError, match="already"):
        repository.lock()


def test_the_index_is_written_when_ten_minutes_are_over(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    with repository.lock():
        repository.load_index()
        for number in range(3):
            builder = PackBuilder(repository.key, BlobKind.DATA)
            builder.add(blob_id(b"%d" % number), b"%d" % number)
            pack = builder.finish()
            memory.put(FileKind.DATA, pack.id, pack.content)
            repository.add_packs([pack.record])
            assert len(names(memory, FileKind.INDEX)) == (number == 2)
            clock.advance(minutes=5)
        assert repository.index.pending == ()


def test_the_index_is_written_at_fifty_thousand_blobs(
    repository: Repository, memory: MemoryStorage
) -> None:
    with repository.lock():
        repository.load_index()
        entries = [BlobEntry(BlobKind.DATA, blob_id(b"%d" % at), at * 40, 40, 0) for at in range(50_000)]
        repository.add_packs([PackRecord("ab" * 32, format_header(entries[:-1]))])
        assert names(memory, FileKind.INDEX) == []
        repository.add_packs([PackRecord("cd" * 32, format_header(entries[-1:]))])
        assert len(names(memory, FileKind.INDEX)) == 1


def test_nothing_new_writes_no_index(repository: Repository, memory: MemoryStorage) -> None:
    back_up(repository, FILES)
    before = names(memory, FileKind.INDEX)
    back_up(repository, FILES)
    assert names(memory, FileKind.INDEX) == before


def test_snapshots_are_found_by_id_prefix_and_latest(repository: Repository, clock: FakeClock) -> None:
    ids = []
    for number in range(3):
        ids.append(back_up(repository, {"f": b"%d" % number}, tags=("job:a", f"n{number}")))
        clock.advance(hours=1)
    assert repository.find_snapshot(ids[1]).id == repository.find_snapshot(ids[1][:12]).id == ids[1]
    assert repository.find_snapshot("latest").id == ids[2]
    assert repository.find_snapshot("latest", tags=["job:a", "n0"]).id == ids[0]
    assert repository.find_snapshot("latest", hostname="erp-1", paths=["/srv"]).id == ids[2]
    for missing in ("ffffffffffff0", "", "zz"):
        with pytest.raises(SnapshotMissing):
            repository.find_snapshot(missing)
    with pytest.raises(SnapshotMissing):
        repository.find_snapshot("latest", hostname="other")


def test_a_prefix_of_two_snapshots_is_refused(repository: Repository, memory: MemoryStorage) -> None:
    snapshot = back_up(repository, FILES)
    twin = snapshot[:10] + "0" * 54
    memory.files[FileKind.SNAPSHOT, twin] = memory.files[FileKind.SNAPSHOT, snapshot]
    with pytest.raises(SnapshotMissing, match="2 snapshots"):
        repository.find_snapshot(snapshot[:10])


def test_blobs_are_loaded_pack_by_pack_with_few_reads(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [os.urandom(3000) for _ in range(60)]
    with repository.lock():
        repository.load_index()
        saved = [repository.save_blob(BlobKind.DATA, blob)[0] for blob in blobs]
        repository.flush()
    again = reopen(memory, clock)
    again.load_index()
    reads: list[object] = []
    get = memory.get
    monkeypatch.setattr(memory, "get", lambda *arguments: reads.append(arguments) or get(*arguments))
    wanted = [*saved[::2], *saved[::4]]
    assert dict(again.load_blobs(BlobKind.DATA, wanted)) == dict(zip(saved[::2], blobs[::2], strict=True))
    assert len(reads) == 1


def test_what_no_pack_has_is_named(repository: Repository) -> None:
    repository.load_index()
    with pytest.raises(CorruptData) as found:
        repository.load_blob(BlobKind.DATA, b"x" * 32)
    assert found.value.name == (b"x" * 32).hex()
    with pytest.raises(CorruptData):
        repository.plan_reads(BlobKind.DATA, [b"x" * 32])


def test_a_damaged_blob_names_its_pack_and_another_copy_serves_instead(
    repository: Repository, memory: MemoryStorage
) -> None:
    content = os.urandom(2000)
    with repository.lock():
        repository.load_index()
        name, _ = repository.save_blob(BlobKind.DATA, content)
        repository.flush()
        location = repository.index.lookup(BlobKind.DATA, name)
        assert location
        pack = bytearray(memory.files[FileKind.DATA, location.pack])
        pack[location.offset + 100] ^= 1
        memory.files[FileKind.DATA, location.pack] = bytes(pack)
        with pytest.raises(CorruptData, match=location.pack[:8]):
            repository.load_blob(BlobKind.DATA, name)
        builder = PackBuilder(repository.key, BlobKind.DATA)
        builder.add(name, content)
        copy = builder.finish()
        memory.put(FileKind.DATA, copy.id, copy.content)
        repository.add_packs([copy.record])
        repository.flush()
    assert repository.load_blob(BlobKind.DATA, name) == content
    assert dict(repository.load_blobs(BlobKind.DATA, [name])) == {name: content}


def test_a_reader_elsewhere_needs_only_storage_and_key(repository: Repository, memory: MemoryStorage) -> None:
    back_up(repository, FILES)
    repository.load_index()
    name = blob_id(FILES["a.txt"])  # type: ignore[arg-type]
    (wanted,) = repository.plan_reads(BlobKind.DATA, [name])
    assert list(BlobReader(memory, repository.key).read(wanted)) == [(name, FILES["a.txt"])]


def test_a_damaged_snapshot_or_index_is_raised_unless_the_caller_takes_it(
    repository: Repository, memory: MemoryStorage
) -> None:
    back_up(repository, FILES)
    damaged: list[CorruptData] = []
    for kind, load in ((FileKind.SNAPSHOT, repository.snapshots), (FileKind.INDEX, repository.load_index)):
        memory.files[kind, "ab" * 32] = b"rubbish"
        with pytest.raises(CorruptData):
            load()
        assert len(load(on_damage=damaged.append)) >= 1  # type: ignore[arg-type]
    assert [error.name for error in damaged] == ["ab" * 32] * 2


def test_a_snapshot_forgotten_while_listing_is_not_an_error(
    repository: Repository, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = back_up(repository, FILES), back_up(repository, {"other": b"x"})
    listed = list(memory.list(FileKind.SNAPSHOT))
    memory.delete(FileKind.SNAPSHOT, gone)
    with pytest.raises(FileMissing):
        memory.stat(FileKind.SNAPSHOT, gone)
    monkeypatch.setattr(memory, "list", lambda _kind: iter(listed))
    assert [snapshot.id for snapshot in repository.snapshots()] == [kept]


def test_a_slow_lock_can_be_waited_for(repository: Repository, memory: MemoryStorage, clock: FakeClock) -> None:
    other = reopen(memory, clock)
    with other.lock(exclusive=True), pytest.raises(RepositoryLocked):
        repository.lock(retry_for=timedelta(milliseconds=10))
    with repository.lock(retry_for=timedelta(milliseconds=10)):
        assert len(names(memory, FileKind.LOCK)) == 1


@pytest.mark.parametrize("changes", [True, False])
def test_an_index_that_changed_while_the_lock_was_taken_is_loaded_again(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    ours, theirs, take = repository, reopen(memory, clock), locks.acquire
    real, loads = ours.load_index, []

    def take_slowly(*arguments: Any, **named: Any) -> locks.Lock:
        lock = take(*arguments, **named)
        if changes:
            monkeypatch.setattr(locks, "acquire", take)
            with theirs.lock():
                theirs.load_index()
                theirs.save_blob(BlobKind.DATA, b"new")
                theirs.flush()
        return lock

    def load_index(**named: Any) -> Index:
        loads.append(1)
        return real(**named)

    monkeypatch.setattr(locks, "acquire", take_slowly)
    monkeypatch.setattr(ours, "load_index", load_index)
    with ours.lock(load_index=True):
        assert ours.index.contains(BlobKind.DATA, blob_id(b"new")) is changes
        assert len(loads) == 1 + changes
        ours.save_blob(BlobKind.DATA, b"ours")
        ours.flush()
