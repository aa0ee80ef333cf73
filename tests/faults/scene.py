"""The stage of the crash campaign: a repository with a history, four acts upon it, and the judgement of what is left.

Packs and indexes are made small, so that a small source needs many storage operations; apart from that everything is
the real thing: the real source, archiver, forget, prune and copy. Operations are counted in :class:`Struck`, a wrapper
of the storage that knows writes and deletes; between two of them the storage does not change, so to die at a read is
to die after the write before it.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from backup import assembly
from backup import repository as repository_module
from backup.archiver import backup
from backup.copying import execute_copy, plan_copy
from backup.errors import StorageFull
from backup.forget import all_together, execute_forget, plan_forget
from backup.pack import PackBuilder
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.restore_plan import plan_restore
from backup.restorer import execute_restore
from backup.sources.files import FilesSource
from backup.storage.base import FileKind, Storage, StorageProperties
from backup.verify import Severity, verify
from config.jobs import KeepSettings
from tests.backup.repositories import PASSWORD, PROMPT, FakeClock, create
from tests.backup.storages import Died, Faulty, MemoryStorage
from tests.backup.trees import picture

Picture = dict[bytes, tuple[object, ...]]
Clock = Callable[[], datetime]
Act = Callable[["Scene", Storage, Clock], None]
PACK_BYTES = 24_000
INDEX_BLOBS = 6
BATCH_FILES = 4


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make packs, indexes and batches small, in this process and those it forks."""
    defaults = PackBuilder.__init__.__kwdefaults__
    assert defaults is not None
    assert "target_bytes" in defaults
    patch.setitem(defaults, "target_bytes", PACK_BYTES)
    patch.setattr(repository_module, "FLUSH_BLOBS", INDEX_BLOBS)
    patch.setattr(assembly, "BATCH_FILES", BATCH_FILES)


def write_source(root: Path, version: int) -> None:
    """Bring the source to a version: some files stay from the one before, some change, some go, some come."""
    random = Random(version)
    for number in range(48):
        folder = root / f"folder {number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        if version == 0 or number % 4 == version % 4:
            (folder / f"{number}").write_bytes(random.randbytes(random.randrange(1, 30_000)))
    (root / f"only in {version}").write_bytes(random.randbytes(6_000))
    (root / f"only in {version - 1}").unlink(missing_ok=True)
    (root / "log").write_bytes(b"line %d\n" % version * 4000)
    if version == 0:
        os.symlink("log", root / "link")
        os.link(root / "log", root / "second name of log")
        (root / "empty").write_bytes(b"")
        (root / "发票").write_bytes(b"\xff\x00")


@dataclass(slots=True)
class Scene:
    """Two repositories in memory and the source, with what each snapshot must bring back."""

    source: Path
    scratch: Path
    main: MemoryStorage
    other: MemoryStorage
    """Holds a copy of the first snapshot."""
    pictures: list[Picture]
    """Of each version of the source, the last of them not saved yet."""
    snapshots: list[str]
    """In ``main``, by version."""
    copied: str
    """The first one's id in ``other``."""

    def expected(self, snapshot_id: str, original: str | None) -> Picture:
        """What a snapshot must bring back; one that nobody knows is of the source as it is now."""
        first = original or snapshot_id
        return self.pictures[self.snapshots.index(first) if first in self.snapshots else -1]

    def require_sound(self, storage: Storage, clock: Clock, must_stay: set[str], *, rests: bool = True) -> None:
        """Check that a repository is whole: verified byte by byte, every snapshot restored and compared.

        ``rests`` allows what a dead run may leave: orphans, duplicates, small packs. Raises AssertionError.
        """
        found = reopen(storage, clock)
        with found.lock():
            findings = [str(f) for f in verify(found, read_data=True) if f.severity is Severity.ERROR or not rests]
            assert findings == []
            listed = found.snapshots()
            assert must_stay <= {snapshot.id for snapshot in listed}, "an earlier snapshot is gone"
            for number, snapshot in enumerate(listed):
                target = self.scratch / f"{snapshot.id[:8]}-{number}"
                report = execute_restore(plan_restore(found, snapshot, target), found, workers=0)
                assert report.problems == ()
                restored = picture(target / str(self.source)[1:])
                assert restored == self.expected(snapshot.id, snapshot.original), f"{snapshot.short_id} came back other"
                empty(target)

    def finish(self, storage: Storage, clock: Clock) -> None:
        """Do all that comes after a crash: backup, forget, prune; nothing untidy may be left by them."""
        for act in (do_backup, do_forget, do_prune):
            act(self, storage, clock)
        self.require_sound(storage, clock, set(), rests=False)


def make_scene(directory: Path) -> Scene:
    """Make a scene in an empty folder: three snapshots, an orphan, the source changed since."""
    source, scratch = directory / "source", directory / "restored"
    clock, main, other = FakeClock(), MemoryStorage(), MemoryStorage()
    other_place = Elsewhere(other.files)
    repository, copy = create(main, clock), create(other_place, clock)
    pictures, snapshots = [], []
    for version in range(3):
        write_source(source, version)
        report = backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
        pictures.append(picture(source))
        snapshots.append(report.snapshot_id)
        clock.advance(hours=1)
    with copy.lock():
        copy.load_index()
        repository.load_index()
        plan = plan_copy(repository, copy, [repository.load_snapshot(snapshots[0])])
        ((_, copied),) = execute_copy(plan, repository, copy).copied
    for storage in (main, other_place):
        storage.files[FileKind.DATA, "ab" * 32] = b"left by a run that died"
    write_source(source, 3)
    pictures.append(picture(source))
    return Scene(source, scratch, main, other_place, pictures, snapshots, copied)


class Elsewhere(MemoryStorage):
    """Memory in another place, as a copy demands."""

    @property
    def properties(self) -> StorageProperties:
        return replace(super().properties, location="another memory")


def reopen(storage: Storage, clock: Clock) -> Repository:
    return Repository.open(storage, PASSWORD, clock=clock, timing=PROMPT)


# ---- acts


def do_backup(scene: Scene, storage: Storage, clock: Clock) -> None:
    backup(
        reopen(storage, clock), FilesSource((str(scene.source),)), job="j", host="h", clock=clock, workers=0
    )  # fmt: skip


def do_forget(scene: Scene, storage: Storage, clock: Clock) -> None:
    repository = reopen(storage, clock)
    with repository.lock(exclusive=True):
        plan = plan_forget(repository, KeepSettings(last=1), clock(), group_by=all_together)
        execute_forget(repository, plan)


def do_prune(scene: Scene, storage: Storage, clock: Clock) -> None:
    repository = reopen(storage, clock)
    with repository.lock(exclusive=True):
        execute_prune(repository, plan_prune(repository, max_unused=0.0))


def do_copy(scene: Scene, storage: Storage, clock: Clock) -> None:
    """Copy everything of ``main`` into ``storage``."""
    source, target = reopen(scene.main, clock), reopen(storage, clock)
    with target.lock():
        target.load_index()
        source.load_index()
        report = execute_copy(plan_copy(source, target, source.snapshots()), source, target)
        assert report.problems == ()


@dataclass(frozen=True, slots=True)
class Part:
    """An act, what it acts upon, and what must be there whenever it dies."""

    act: Act
    stage: Callable[[Scene], MemoryStorage]
    """Gives the storage to act upon, a fresh one each time."""
    must_stay: Callable[[Scene], set[str]]


def _history(scene: Scene) -> MemoryStorage:
    return MemoryStorage(scene.main.files)


def _one_forgotten(scene: Scene) -> MemoryStorage:
    storage = MemoryStorage(scene.main.files)
    storage.delete(FileKind.SNAPSHOT, scene.snapshots[0])
    return storage


PARTS = {
    "backup": Part(do_backup, _history, lambda scene: set(scene.snapshots)),
    "forget": Part(do_forget, _history, lambda scene: set(scene.snapshots[-1:])),
    "prune": Part(do_prune, _one_forgotten, lambda scene: set(scene.snapshots[1:])),
    "copy": Part(do_copy, lambda scene: Elsewhere(scene.other.files), lambda scene: {scene.copied}),
}


# ---- strokes


class Struck(Faulty):
    """Writes and deletes one at a time, whichever thread they come from, so that their count means something."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._turn = threading.Lock()

    def _around(self, operation: str, kind: FileKind, act: Callable[[], None]) -> None:
        with self._turn:
            super()._around(operation, kind, act)


def dying(storage: Storage, number: int, *, before: bool) -> Struck:
    """Die before or after the operation of this number."""

    def die(count: int, _operation: str, _kind: FileKind) -> None:
        if count == number:
            raise Died

    return Struck(storage, before=die) if before else Struck(storage, after=die)


def full(storage: Storage, number: int) -> Struck:
    """Have no room left from the operation of this number on; deleting goes on working."""

    def refuse(count: int, operation: str, kind: FileKind) -> None:
        if operation == "put" and count >= number:
            raise StorageFull(f"could not write {kind}: no space left on device")

    return Struck(storage, before=refuse)


def count_operations(scene: Scene, part: Part, clock: Clock) -> int:
    """Do the act undisturbed."""
    counting = Struck(part.stage(scene))
    part.act(scene, counting, clock)
    return counting.writes


def an_hour_later(clock: FakeClock) -> FakeClock:
    """When a dead run's lock is stale for everybody."""
    return FakeClock(clock.now + timedelta(hours=1))


def now() -> datetime:
    return datetime.now(UTC)


def empty(directory: Path) -> None:
    """Remove a folder, whatever its modes."""
    for folder, folders, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            path = os.path.join(folder, name)
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    os.rmdir(directory)


def write_out(storage: MemoryStorage, root: Path) -> None:
    """Lay a repository out as restic's local backend does; without syncing, as it is only looked at."""
    places = {FileKind.KEY: "keys", FileKind.INDEX: "index", FileKind.SNAPSHOT: "snapshots", FileKind.LOCK: "locks"}
    for folder in (*places.values(), "data"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for (kind, name), content in storage.files.items():
        if kind is FileKind.CONFIG:
            path = root / "config"
        elif kind is FileKind.DATA:
            path = root / "data" / name[:2] / name
            path.parent.mkdir(exist_ok=True)
        else:
            path = root / places[kind] / name
        path.write_bytes(content)


def sample(numbers: int, most: int, seed: int) -> Iterator[tuple[int, bool]]:
    """Choose moments to die at: operation, and whether before it."""
    every = [(number, before) for number in range(1, numbers + 1) for before in (True, False)]
    yield from sorted(Random(seed).sample(every, min(most, len(every))))


def empty_if_there(directory: Path) -> None:
    """Remove a folder if it is there."""
    if directory.exists():
        empty(directory)
