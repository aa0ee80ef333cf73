"""A program that dies at any storage operation, or finds no room left, leaves a sound repository.

The campaign takes every operation of a backup, a forget, a prune and a copy, before it and after it; the default run a
seeded sample. After each death: `verify --read-data` has no errors, `restic check --read-data` passes, every listed
snapshot is restored and compared with a picture of what was saved, the earlier ones are all there, and the next backup,
forget and prune succeed and leave nothing untidy. The restores are ours; `test_killing.py` restores with restic, too.
"""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from backup.errors import StorageFull
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from tests.backup.repositories import FakeClock
from tests.backup.storages import Died, MemoryStorage
from tests.faults import scene as stage
from tests.faults.scene import PARTS, Part, Scene

Restic = Callable[..., "subprocess.CompletedProcess[str]"]
SAMPLE = 5
SEED = 20


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        stage.shrink(patch)
        yield stage.make_scene(tmp_path_factory.mktemp("scene"))


def after_the_history() -> FakeClock:
    clock = FakeClock()
    clock.advance(hours=6)
    return clock


def die(scene: Scene, part: Part, number: int, *, before: bool) -> MemoryStorage | None:
    """Do the act until it dies; None when it was over before that."""
    storage = part.stage(scene)
    try:
        part.act(scene, stage.dying(storage, number, before=before), after_the_history())
    except Died:
        return storage
    return None


def require_sound(scene: Scene, part: Part, storage: MemoryStorage) -> None:
    later = stage.an_hour_later(after_the_history())
    scene.require_sound(storage, later, part.must_stay(scene))
    if part is PARTS["copy"]:
        scene.require_sound(MemoryStorage(scene.main.files), later, set(scene.snapshots))
    part.act(scene, storage, later)
    if part is PARTS["copy"]:
        assert len(list(storage.list(FileKind.SNAPSHOT))) == len(scene.snapshots)
    later.advance(hours=1)
    scene.finish(storage, later)


def require_restic_content(restic: Restic, directory: Path, storage: MemoryStorage) -> None:
    stage.empty_if_there(directory)
    stage.write_out(storage, directory)
    assert "no errors were found" in restic("--no-lock", "check", "--read-data").stdout


@pytest.mark.parametrize("name", PARTS)
def test_dying_at_a_sample_of_operations_harms_nothing(
    scene: Scene, name: str, tmp_path: Path, restic: Restic
) -> None:
    part = PARTS[name]
    count = stage.count_operations(scene, part, after_the_history())
    assert count >= 4, "the act is too small to say anything"
    for number, before in stage.sample(count, SAMPLE, SEED):
        storage = die(scene, part, number, before=before)
        if storage is None:  # folders above the source are others' too: their trees may need a pack more or less
            assert number > count - 2, (number, before, count)
            continue
        require_restic_content(restic, tmp_path / "repository", storage)
        require_sound(scene, part, storage)


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", PARTS)
def test_dying_before_or_after_any_operation_harms_nothing(
    scene: Scene, name: str, before: bool, tmp_path: Path, restic: Restic
) -> None:
    part, number = PARTS[name], 1
    while (storage := die(scene, part, number, before=before)) is not None:
        require_restic_content(restic, tmp_path / "repository", storage)
        require_sound(scene, part, storage)
        number += 1
    assert number > 4, "the act is too small to say anything"


def run_full(scene: Scene, part: Part, number: int, restic: Restic, directory: Path) -> bool:
    """Do the act while the room ends at an operation; whether it needed more than there was."""
    storage = part.stage(scene)
    try:
        part.act(scene, stage.full(storage, number), after_the_history())
    except StorageFull as error:
        told = error
    else:
        return False
    assert "no space left" in str(told)
    assert told.hint
    assert list(storage.list(FileKind.LOCK)) == [], "a run that ends by itself takes its lock with it"
    require_restic_content(restic, directory, storage)
    require_sound(scene, part, storage)
    return True


@pytest.mark.parametrize("name", ["backup", "prune", "copy"])
def test_a_storage_that_fills_up_on_the_way_harms_nothing(
    scene: Scene, name: str, tmp_path: Path, restic: Restic
) -> None:
    assert run_full(scene, PARTS[name], 4, restic, tmp_path / "repository")


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PARTS)
def test_a_storage_that_fills_up_at_any_write_harms_nothing(
    scene: Scene, name: str, tmp_path: Path, restic: Restic
) -> None:
    number = 1
    while run_full(scene, PARTS[name], number, restic, tmp_path / "repository"):
        number += 1
    assert number > 1


class Disk:
    """Room for so many bytes: what goes beyond is cut off in the middle of a write, as file systems do."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = room
        self.refused = 0
        self._writev = os.writev
        monkeypatch.setattr(os, "writev", self.writev)

    def writev(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        content = b"".join(buffers)[: self.room]
        if not content:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._writev(descriptor, [content])
        self.room -= written
        return written


def fill_the_disk(scene: Scene, name: str, room: int, tmp_path: Path, restic: Restic) -> bool:
    """Do an act in a folder on a disk with so much room; whether it needed more."""
    place = tmp_path / "repository"
    stage.empty_if_there(place)
    stage.write_out(PARTS[name].stage(scene), place)
    storage, later = LocalStorage(place), stage.an_hour_later(after_the_history())
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(room, monkeypatch)
        try:
            PARTS[name].act(scene, storage, after_the_history())
        except StorageFull:
            assert disk.refused
    assert [file for file in place.rglob("*-tmp-*") if file.is_file()] == [], "a part of a file stayed and takes room"
    assert "no errors were found" in restic("--no-lock", "check", "--read-data").stdout
    scene.require_sound(storage, later, PARTS[name].must_stay(scene))
    PARTS[name].act(scene, storage, later)
    later.advance(hours=1)
    scene.finish(storage, later)
    return bool(disk.refused)


@pytest.mark.parametrize(
    "rooms", [[90_000], pytest.param(range(0, 1_000_000, 7_919), marks=pytest.mark.campaign)], ids=["one", "many"]
)
@pytest.mark.parametrize("name", ["backup", "prune", "copy"])
@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_in_the_middle_of_a_file_keeps_no_part_of_it(
    scene: Scene, name: str, rooms: Sequence[int], tmp_path: Path, restic: Restic
) -> None:
    assert fill_the_disk(scene, name, rooms[0], tmp_path, restic)
    for room in rooms[1:]:
        if not fill_the_disk(scene, name, room, tmp_path, restic):
            return  # more room changes nothing
    assert len(rooms) == 1, "there was never enough room"
