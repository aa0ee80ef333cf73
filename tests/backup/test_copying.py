import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backup import copying
from backup.archiver import backup
from backup.copying import CopyPlan, CopyProgress, CopyReport, execute_copy, plan_copy
from backup.errors import BackupError, Interrupted, RepositoryLocked, StorageError
from backup.pack import BlobKind, blob_id
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.files import FilesSource
from backup.storage.base import FileKind, StorageProperties
from backup.storage.local import LocalStorage
from backup.verify import verify
from tests.backup.repositories import PASSWORD, FakeClock, back_up, create, read_back, reopen
from tests.backup.storages import MemoryStorage
from tests.backup.trees import make_nasty_tree

Restic = Callable[..., subprocess.CompletedProcess[str]]


class Elsewhere(MemoryStorage):
    """Another place than the fixture's."""

    @property
    def properties(self) -> StorageProperties:
        return StorageProperties("elsewhere", None)


@pytest.fixture
def other(clock: FakeClock) -> Repository:
    return create(Elsewhere(), clock)


def plan(source: Repository, target: Repository, *wanted: str) -> CopyPlan:
    source.load_index()
    snapshots = [snapshot for snapshot in source.snapshots() if not wanted or snapshot.id in wanted]
    return plan_copy(source, target, snapshots)


def copy(source: Repository, target: Repository, *wanted: str, **options: object) -> CopyReport:
    with source.lock(), target.lock():
        target.load_index()
        return execute_copy(plan(source, target, *wanted), source, target, **options)  # type: ignore[arg-type]


def essence(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, id="", parent=None, original=None)


def errors(repository: Repository) -> list[object]:
    with repository.lock(exclusive=True):
        return list(verify(repository, read_data=True))


# ---- what is copied


def test_a_copy_holds_the_same_files_and_says_where_it_is_from(repository: Repository, other: Repository) -> None:
    name = back_up(repository, {"a": b"one", "b": {"c": b"two"}}, tags=("x",))
    report = copy(repository, other)
    ((origin, copied),) = report.copied
    assert origin == name
    assert read_back(other, copied) == {"/a": b"one", "/b/c": b"two"}
    snapshot = other.load_snapshot(copied)
    assert snapshot.original == name
    assert essence(snapshot) == essence(repository.load_snapshot(name))
    assert (report.blobs, report.bytes > 6, report.problems) == (4, True, ())
    assert errors(other) == []


def test_a_copy_of_a_copy_keeps_the_first_id_and_no_parent(repository: Repository, other: Repository) -> None:
    name = back_up(repository, {"a": b"one"})
    with repository.lock():
        repository.commit(replace(repository.load_snapshot(name), parent=name, tags=("child",)))
    copy(repository, other)
    third = create(MemoryStorage(), other.clock)  # type: ignore[arg-type]
    copy(other, third)
    assert {snapshot.original for snapshot in third.snapshots()} == {snapshot.id for snapshot in repository.snapshots()}
    assert {snapshot.parent for snapshot in third.snapshots()} == {None}


def test_only_missing_blobs_are_copied(repository: Repository, other: Repository) -> None:
    back_up(other, {"a": b"known already"})
    back_up(repository, {"b": b"known already", "c": b"new"})
    report = copy(repository, other)
    assert (report.blobs, other.index.contains(BlobKind.DATA, blob_id(b"new"))) == (2, True)
    assert errors(other) == []


def test_copying_again_copies_nothing(repository: Repository, other: Repository) -> None:
    back_up(repository, {"a": b"one"})
    copy(repository, other)
    report = copy(repository, other)
    assert (report.copied, report.already, report.blobs) == ((), 1, 0)


def test_a_snapshot_whose_tags_changed_since_is_copied_again(repository: Repository, other: Repository) -> None:
    name = back_up(repository, {"a": b"one"})
    copy(repository, other)
    with repository.lock(exclusive=True):
        snapshot = repository.load_snapshot(name)
        repository.commit(replace(snapshot, tags=("kept",), original=name))
        repository.delete_snapshots([name])
    report = copy(repository, other)
    assert (len(report.copied), report.blobs) == (1, 0)


def test_chosen_snapshots_are_copied_oldest_first(repository: Repository, other: Repository, clock: FakeClock) -> None:
    names = []
    for number in range(4):
        names.append(back_up(repository, {"a": b"%d" % number}))
        clock.advance(hours=1)
    report = copy(repository, other, names[3], names[1])
    assert [origin for origin, _ in report.copied] == [names[1], names[3]]


def test_a_plan_counts_what_will_be_copied_and_touches_nothing(
    repository: Repository, clock: FakeClock
) -> None:
    back_up(repository, {"a": b"one"})
    clock.advance(hours=1)
    back_up(repository, {"a": b"one", "b": b"two"})
    storage = Elsewhere()
    other = create(storage, clock)
    before = dict(storage.files)
    found = plan(repository, other)
    assert storage.files == before
    assert str(found).startswith(f"2 snapshots to copy, 0 there already: 4 blobs, {found.bytes} bytes")
    report = copy(repository, other)
    assert (report.blobs, report.bytes) == (found.blobs, found.bytes)


def test_a_repository_is_not_copied_to_itself(repository: Repository) -> None:
    with pytest.raises(BackupError, match="to itself"):
        plan(repository, repository)


def test_nothing_is_written_without_a_lock(repository: Repository, other: Repository) -> None:
    back_up(repository, {"a": b"one"})
    found = plan(repository, other)
    with pytest.raises(RepositoryLocked):
        execute_copy(found, repository, other)


# ---- what goes wrong


def damage(storage: MemoryStorage, repository: Repository, content: bytes) -> None:
    location = repository.load_index().lookup(BlobKind.DATA, blob_id(content))
    assert location is not None
    pack = storage.files[FileKind.DATA, location.pack]
    at = location.offset + 20
    storage.files[FileKind.DATA, location.pack] = pack[:at] + bytes((pack[at] ^ 1,)) + pack[at + 1 :]


def test_a_snapshot_that_cannot_be_read_whole_is_named_and_the_others_are_copied(
    memory: MemoryStorage, repository: Repository, other: Repository, clock: FakeClock
) -> None:
    bad = []
    for number in range(4):  # the damaged file is in the first two
        folder = {f"f{number}": b"own %d" % number} | ({"bad": b"damaged"} if number < 2 else {})
        name = back_up(repository, folder)
        bad += [name[:8]] if number < 2 else []
        clock.advance(hours=1)
    damage(memory, repository, b"damaged")
    report = copy(repository, other)
    assert [problem.path for problem in report.problems] == [f"snapshot {name}" for name in bad]
    assert len(report.copied) == 2
    assert errors(other) == []


def test_a_snapshot_with_a_missing_blob_is_a_problem_of_the_plan(
    memory: MemoryStorage, repository: Repository, other: Repository
) -> None:
    back_up(repository, {"a": b"one"})
    for key in [key for key in memory.files if key[0] is FileKind.INDEX]:
        del memory.files[key]
    found = plan(repository, other)
    assert (found.snapshots, len(found.problems)) == ((), 1)


def test_a_copy_that_was_stopped_goes_on_where_it_was(
    repository: Repository, other: Repository, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_COMMIT_BYTES", 0)
    for number in range(3):
        back_up(repository, {"a": b"%d" % number})
        clock.advance(hours=1)
    told: list[CopyProgress] = []
    with pytest.raises(Interrupted, match="not copied again"):
        copy(repository, other, progress=told.append, stop=lambda: bool(told) and told[-1].snapshots == 2)
    assert len(other.snapshots()) == 2
    report = copy(repository, other)
    assert (len(report.copied), report.already, report.blobs) == (1, 2, 2)
    assert errors(other) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_whenever_a_copy_dies_the_target_is_sound_and_the_next_copy_completes_it(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(copying, "_COMMIT_BYTES", 0)
    source = create(MemoryStorage(), clock)
    for number in range(2):
        back_up(source, {"same": b"same", "f": b"%d" % number})
        clock.advance(hours=1)
    for fatal in range(1, 40):
        storage = _Dying(fatal, when)
        target = create(storage, clock)
        storage.armed = True
        try:
            copy(source, target)
            died = False
        except _Died:
            died = True
        storage.armed = False
        for key in [key for key in storage.files if key[0] is FileKind.LOCK]:
            del storage.files[key]  # the dead hold no locks
        again = reopen(storage, clock)
        assert [finding for finding in errors(again) if finding.severity == "error"] == []  # type: ignore[attr-defined]
        copy(source, again)
        assert [read_back(again, snapshot.id)["/f"] for snapshot in again.snapshots()] == [b"0", b"1"]
        if not died:
            assert fatal > 8
            return
    pytest.fail("the copy never ended")


class _Died(Exception):  # noqa: N818 - not an error of the program
    """Dies as a process would: nobody handles it."""


class _Dying(Elsewhere):
    """Dies at the n-th change."""

    def __init__(self, fatal: int, when: str) -> None:
        super().__init__()
        self.armed = False
        self._left = fatal
        self._when = when

    def put(self, kind: FileKind, name: str, content: object) -> None:
        self._change(lambda: super(_Dying, self).put(kind, name, content))  # type: ignore[arg-type]

    def delete(self, kind: FileKind, name: str) -> None:
        self._change(lambda: super(_Dying, self).delete(kind, name))

    def _change(self, change: Callable[[], None]) -> None:
        if self.armed:
            self._left -= 1
            if self._left == 0:
                if self._when == "after":
                    change()
                raise _Died
            if self._left < 0:
                raise StorageError("dead")
        change()


def test_progress_ends_at_what_was_planned(repository: Repository, other: Repository) -> None:
    back_up(repository, {"a": b"one"})
    told: list[CopyProgress] = []
    report = copy(repository, other, progress=told.append)
    assert told[-1] == CopyProgress(1, report.bytes, 1, report.bytes)


# ---- restic


def restic_copy(tmp_path: Path, source: str, target: str) -> str:
    """Let restic copy everything from one folder to another."""
    environment = os.environ | {"RESTIC_PASSWORD": PASSWORD, "RESTIC_FROM_PASSWORD": PASSWORD, "HOME": str(tmp_path)}
    command = ["restic", "--no-cache", "-r", str(tmp_path / target), "copy", "--from-repo", str(tmp_path / source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_we_and_restic_recognise_each_others_copies(tmp_path: Path, clock: FakeClock, restic: Restic) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source)
    environment = os.environ | {"RESTIC_PASSWORD": PASSWORD, "HOME": str(tmp_path)}

    def restic_there(*arguments: str) -> str:
        command = ["restic", "--no-cache", "-r", str(tmp_path / "other"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    restic_there("init")
    ours = create(LocalStorage(tmp_path / "repository"), clock)
    theirs = reopen(LocalStorage(tmp_path / "other"), clock)
    restic("backup", "--tag", "theirs", "--exclude", "nothing", str(source))
    backup(ours, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0, tags=("ours",))
    report = copy(ours, theirs)
    assert len(report.copied) == 2
    said = restic_copy(tmp_path, "repository", "other")
    assert said.count("skipping") == 2, said
    assert len(theirs.snapshots()) == 2

    (source / "new").write_text("new")
    restic("backup", str(source))
    restic_copy(tmp_path, "repository", "other")
    report = copy(ours, theirs)
    assert (report.copied, report.already) == ((), 3)

    restic_there("check", "--read-data")
    listed = json.loads(restic_there("snapshots", "--json"))
    assert {item["original"] for item in listed} == {snapshot.id for snapshot in ours.snapshots()}
