"""Forget and prune: what goes, what stays, and dying at every single write."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backup.errors import BackupError, CorruptData, RepositoryLocked
from backup.forget import all_together, execute_forget, plan_forget
from backup.pack import BlobKind, PackBuilder, blob_id
from backup.prune import PrunePlan, execute_prune, plan_prune
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.verify import Severity, verify
from config.jobs import KeepSettings
from tests.backup.repositories import FakeClock, Folder, back_up, create, read_back, reopen
from tests.backup.storages import Died, Faulty, MemoryStorage, names

KEEP_ONE = KeepSettings(last=1)
NOISE = [os.urandom(20_000) for _ in range(6)]
FIRST: Folder = {"a": NOISE[0], "b": NOISE[1], "old": {"c": NOISE[2]}}
SECOND: Folder = {"a": NOISE[0], "new": {"d": NOISE[3]}}
THIRD: Folder = {"a": NOISE[0], "new": {"d": NOISE[3], "e": NOISE[4]}}


def flat(folder: Folder, path: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, content in folder.items():
        found |= {f"{path}/{name}": content} if isinstance(content, bytes) else flat(content, f"{path}/{name}")
    return found


def forget(repository: Repository, keep: KeepSettings = KEEP_ONE) -> tuple[str, ...]:
    with repository.lock(exclusive=True):
        return execute_forget(repository, plan_forget(repository, keep, repository.clock()))


def prune(repository: Repository, **options: float) -> PrunePlan:
    with repository.lock(exclusive=True):
        plan = plan_prune(repository, **options)
        execute_prune(repository, plan)
        return plan


def findings(repository: Repository) -> list[str]:
    return [str(finding) for finding in verify(repository, read_data=True)]


def total(memory: MemoryStorage) -> int:
    return sum(len(data) for data in memory.files.values())


def test_forget_removes_what_the_plan_says_and_nothing_else(repository: Repository, clock: FakeClock) -> None:
    old = back_up(repository, FIRST)
    clock.advance(hours=1)
    new = back_up(repository, SECOND)
    plan = plan_forget(repository, KEEP_ONE, clock.now)
    assert [snapshot.id for snapshot in plan.removed] == [old]
    assert [snapshot.id for snapshot in plan.kept] == [new]
    assert len(repository.snapshots()) == 2, "planning deletes nothing"
    assert forget(repository) == (old,)
    assert [snapshot.id for snapshot in repository.snapshots()] == [new]


def test_a_policy_applies_to_each_host_and_set_of_paths_by_itself(repository: Repository, clock: FakeClock) -> None:
    tree = repository.load_snapshot(back_up(repository, FIRST)).tree
    with repository.lock():
        for host, paths in (("erp-1", ("/a",)), ("erp-2", ("/a",)), ("erp-2", ("/b", "/a")), ("erp-2", ("/a", "/b"))):
            clock.advance(hours=1)
            repository.commit(Snapshot(time=clock.now, tree=tree, paths=paths, hostname=host))
    assert len(plan_forget(repository, KEEP_ONE, clock.now).removed) == 1
    assert len(plan_forget(repository, KEEP_ONE, clock.now, group_by=all_together).removed) == 4
    assert len(plan_forget(repository, KEEP_ONE, clock.now, group_by=all_together, hostname="erp-2").removed) == 2


def test_forget_wants_an_exclusive_lock_and_a_plan_that_is_still_true(
    repository: Repository, clock: FakeClock
) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    new = back_up(repository, SECOND)
    plan = plan_forget(repository, KEEP_ONE, clock.now)
    with repository.lock(), pytest.raises(RepositoryLocked):
        execute_forget(repository, plan)
    with repository.lock(exclusive=True):
        repository.delete_snapshots([new])
        with pytest.raises(BackupError, match="is gone since the plan"):
            execute_forget(repository, plan)
    assert len(repository.snapshots()) == 1


def test_prune_frees_what_only_forgotten_snapshots_had(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    new = back_up(repository, SECOND)
    before = total(memory)
    forget(repository)
    forgotten = total(memory)
    plan = prune(repository)
    assert before > forgotten
    assert abs(forgotten - total(memory) - plan.freed_bytes) < 1500
    assert total(memory) < before - 2 * 20_000 + 3000
    assert findings(repository) == []
    assert read_back(repository, new) == flat(SECOND)


def test_prune_has_nothing_to_do_twice(repository: Repository, memory: MemoryStorage, clock: FakeClock) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    back_up(repository, SECOND)
    forget(repository)
    prune(repository)
    before = dict(memory.files)
    assert prune(repository).empty
    assert memory.files == before


def test_a_little_waste_stays_where_it_is(repository: Repository, clock: FakeClock) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    back_up(repository, SECOND)
    forget(repository)
    plan = prune(repository, max_unused=10.0)
    assert plan.rewritten == ()
    assert plan.unused_bytes > 40_000
    assert prune(repository, max_unused=0.0).unused_bytes == 0
    assert findings(repository) == []


def test_packs_that_no_index_names_are_deleted(repository: Repository, memory: MemoryStorage) -> None:
    snapshot = back_up(repository, FIRST)
    builder = PackBuilder(repository.key, BlobKind.DATA)
    builder.add(blob_id(b"lost"), b"lost")
    orphan = builder.finish()
    memory.put(FileKind.DATA, orphan.id, orphan.content)
    plan = prune(repository)
    assert [file.name for file in plan.orphans] == [orphan.id]
    assert orphan.id not in names(memory, FileKind.DATA)
    assert read_back(repository, snapshot) == flat(FIRST)


def test_many_small_packs_and_indexes_are_merged(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    snapshots = {}
    for number in range(12):
        folder = {f"file {number}": b"%d" % number}
        snapshots[back_up(repository, folder)] = folder
        clock.advance(hours=1)
    assert len(names(memory, FileKind.DATA)) == 24
    prune(repository)
    assert len(names(memory, FileKind.DATA)) == 2
    assert len(names(memory, FileKind.INDEX)) <= 2
    assert findings(repository) == []
    assert all(read_back(repository, snapshot) == flat(folder) for snapshot, folder in snapshots.items())


def test_packs_are_rewritten_by_worker_processes_where_there_is_much_to_move(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.prune._WORTH_PROCESSES_BYTES", 0)
    storage = LocalStorage(tmp_path / "repository")
    repository = create(storage, clock)
    snapshots = {}
    for number in range(12):
        folder: Folder = {f"file {number}": NOISE[number % 6][number:], "same": b"in all"}
        snapshots[back_up(repository, folder)] = folder
        clock.advance(hours=1)
    plan = prune(repository)
    assert len(plan.rewritten) == 24
    assert not {use.pack for use in plan.rewritten} & set(names(storage, FileKind.DATA))
    assert 2 <= len(names(storage, FileKind.DATA)) <= 2 * len(os.sched_getaffinity(0))
    assert findings(repository) == []
    assert all(read_back(repository, snapshot) == flat(folder) for snapshot, folder in snapshots.items())


def test_a_damaged_blob_stops_a_worker_and_the_prune(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.prune._WORTH_PROCESSES_BYTES", 0)
    place = tmp_path / "repository"
    repository = create(LocalStorage(place), clock)
    for number in range(12):
        back_up(repository, {f"file {number}": NOISE[number % 6][number:]})
        clock.advance(hours=1)
    location = repository.load_index().lookup(BlobKind.DATA, blob_id(NOISE[0]))
    assert location
    pack = place / "data" / location.pack[:2] / location.pack
    content = bytearray(pack.read_bytes())
    content[location.offset + 100] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    before = {path for path in place.rglob("*") if path.is_file()}
    with pytest.raises(CorruptData, match=f"could not rewrite pack {location.pack[:8]}"):
        prune(repository)
    assert all(path.exists() for path in before)


def test_after_a_prune_the_index_has_to_be_loaded_anew(repository: Repository, clock: FakeClock) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    back_up(repository, SECOND)
    forget(repository)
    with repository.lock(exclusive=True, load_index=True):
        execute_prune(repository, plan_prune(repository))
        assert list(repository.index.packs()) == []
        with pytest.raises(RuntimeError, match="index must be loaded"):
            repository.save_blob(BlobKind.DATA, b"more")
        assert plan_prune(repository).empty


def test_of_two_copies_one_goes(repository: Repository, memory: MemoryStorage) -> None:
    snapshot = back_up(repository, FIRST)
    with repository.lock():
        repository.load_index()
        builder = PackBuilder(repository.key, BlobKind.DATA)
        for blob in (NOISE[0], NOISE[1], NOISE[2]):
            builder.add(blob_id(blob), blob)
        copy = builder.finish()
        memory.put(FileKind.DATA, copy.id, copy.content)
        repository.add_packs([copy.record])
        repository.flush()
    prune(repository)
    assert len(names(memory, FileKind.DATA)) == 2
    assert findings(repository) == []
    assert read_back(repository, snapshot) == flat(FIRST)


def damage_nothing(repository: Repository, memory: MemoryStorage) -> None:
    """The control: without damage prune goes through."""


def lose_a_pack(repository: Repository, memory: MemoryStorage) -> None:
    location = repository.load_index().lookup(BlobKind.DATA, blob_id(NOISE[0]))
    assert location
    memory.delete(FileKind.DATA, location.pack)


def cut_a_pack(repository: Repository, memory: MemoryStorage) -> None:
    location = repository.load_index().lookup(BlobKind.DATA, blob_id(NOISE[0]))
    assert location
    memory.files[FileKind.DATA, location.pack] = memory.files[FileKind.DATA, location.pack][:-1]


def lose_an_index(repository: Repository, memory: MemoryStorage) -> None:
    for name in names(memory, FileKind.INDEX):
        memory.delete(FileKind.INDEX, name)


def spoil_an_index(repository: Repository, memory: MemoryStorage) -> None:
    memory.files[FileKind.INDEX, names(memory, FileKind.INDEX)[0]] = b"rubbish"


def spoil_a_snapshot(repository: Repository, memory: MemoryStorage) -> None:
    memory.files[FileKind.SNAPSHOT, "ab" * 32] = b"rubbish"


def spoil_a_tree(repository: Repository, memory: MemoryStorage) -> None:
    tree = repository.snapshots()[-1].tree
    location = repository.load_index().lookup(BlobKind.TREE, tree)
    assert location
    pack = bytearray(memory.files[FileKind.DATA, location.pack])
    pack[location.offset + 20] ^= 1
    memory.files[FileKind.DATA, location.pack] = bytes(pack)


@pytest.mark.parametrize(
    "damage", [lose_a_pack, cut_a_pack, lose_an_index, spoil_an_index, spoil_a_snapshot, spoil_a_tree, damage_nothing]
)
def test_prune_refuses_and_deletes_nothing_when_something_needed_is_damaged(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, damage: Callable[[Repository, MemoryStorage], None]
) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    back_up(repository, SECOND)
    forget(repository)
    damage(repository, memory)
    before = dict(memory.files)
    if damage is damage_nothing:
        assert not prune(repository).empty
        return
    with pytest.raises(CorruptData):
        prune(repository)
    assert memory.files == before


def test_a_blob_damaged_in_a_pack_to_be_rewritten_stops_prune_before_anything_needed_is_deleted(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    back_up(repository, SECOND)
    forget(repository)
    location = repository.load_index().lookup(BlobKind.DATA, blob_id(NOISE[0]))
    assert location
    pack = bytearray(memory.files[FileKind.DATA, location.pack])
    pack[location.offset + 100] ^= 1
    memory.files[FileKind.DATA, location.pack] = bytes(pack)
    before = dict(memory.files)
    with pytest.raises(CorruptData, match="could not rewrite pack"):
        prune(repository)
    assert before.items() <= memory.files.items()


def test_a_plan_is_refused_when_snapshots_have_come_since(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    back_up(repository, FIRST)
    with repository.lock(exclusive=True):
        plan = plan_prune(repository)
        memory.files[FileKind.SNAPSHOT, "ab" * 32] = b"new"
        with pytest.raises(BackupError, match="changed since") as refused:
            execute_prune(repository, plan)
        assert refused.value.hint == "plan again"


def test_a_plan_is_refused_that_was_made_of_an_index_to_which_more_has_come(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    back_up(repository, FIRST)
    with repository.lock(exclusive=True, load_index=True):
        packs = {(FileKind.DATA, "cd" * 32): b"a pack", (FileKind.INDEX, "ab" * 32): b"an index that names it"}
        memory.files |= packs
        plan = plan_prune(repository)
        assert [file.name for file in plan.orphans] == ["cd" * 32], "as it looks from the older index"
        with pytest.raises(BackupError, match="changed since"):
            execute_prune(repository, plan)
    assert packs.items() <= memory.files.items()


def test_prune_writes_and_deletes_in_the_safe_order(
    memory: MemoryStorage, clock: FakeClock, repository: Repository
) -> None:
    back_up(repository, FIRST)
    clock.advance(hours=1)
    back_up(repository, SECOND)
    forget(repository)
    memory.files[FileKind.DATA, "ab" * 32] = b"an orphan"
    faulty = Faulty(memory)
    prune(reopen(faulty, clock))
    steps = [step for step in faulty.trace if step[1] is not FileKind.LOCK]
    order = [("delete", FileKind.DATA), ("put", FileKind.DATA), ("put", FileKind.INDEX), ("delete", FileKind.INDEX),
             ("delete", FileKind.DATA)]  # fmt: skip
    assert steps[0] == order[0]
    assert [step for at, step in enumerate(steps) if at == 0 or step != steps[at - 1]] == order


def run_backup(repository: Repository) -> None:
    back_up(repository, THIRD)


def run_forget(repository: Repository) -> None:
    forget(repository)


def run_prune(repository: Repository) -> None:
    prune(repository)


def prepared(memory: MemoryStorage, clock: FakeClock, repository: Repository, *, forgotten: bool) -> dict[str, Folder]:
    """Several snapshots, an orphan, and for prune one snapshot forgotten; gives those that must stay."""
    first = back_up(repository, FIRST)
    clock.advance(hours=1)
    second = back_up(repository, SECOND)
    memory.files[FileKind.DATA, "ab" * 32] = b"an orphan"
    clock.advance(hours=1)
    if not forgotten:
        return {first: FIRST, second: SECOND}
    with repository.lock(exclusive=True):
        repository.delete_snapshots([first])
    return {second: SECOND}


@pytest.mark.parametrize("act", [run_backup, run_forget, run_prune])
def test_dying_before_or_after_any_write_loses_no_snapshot_and_the_next_run_succeeds(
    memory: MemoryStorage, clock: FakeClock, repository: Repository, act: Callable[[Repository], None]
) -> None:
    must_stay = prepared(memory, clock, repository, forgotten=act is run_prune)
    counting = Faulty(MemoryStorage(memory.files))
    act(reopen(counting, clock))
    assert counting.writes >= (5 if act is not run_forget else 3)
    for number in range(1, counting.writes + 1):
        for before in (True, False):
            survivor = MemoryStorage(memory.files)
            with pytest.raises(Died):
                act(reopen(Faulty.dying(survivor, number, before=before), clock))
            later = FakeClock(clock.now + timedelta(hours=1))  # the dead one's lock is stale by now
            again = reopen(survivor, later)
            errors = [str(item) for item in verify(again, read_data=True) if item.severity is Severity.ERROR]
            assert errors == [], (number, before)
            there = {snapshot.id for snapshot in again.snapshots()}
            newest_before = list(must_stay)[-1]
            assert (newest_before in there) if act is run_forget else (set(must_stay) <= there)
            for snapshot in there & set(must_stay):
                assert read_back(again, snapshot) == flat(must_stay[snapshot])
            newest = back_up(again, THIRD)
            forget(again)
            prune(again)
            assert findings(again) == []
            assert read_back(again, newest) == flat(THIRD)


def test_a_version_1_repository_is_not_pruned(memory: MemoryStorage, clock: FakeClock, repository: Repository) -> None:
    repository.config = replace(repository.config, version=1)
    with pytest.raises(BackupError, match="read only"):
        plan_prune(repository)
    with repository.lock(exclusive=True), pytest.raises(BackupError, match="version 1"):
        repository.save_blob(BlobKind.DATA, b"x")
