"""What the guard sees of real snapshots: planted disasters in real folders, and ordinary days."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.archiver import backup
from backup.guard_evidence import inspect
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.suspicions import TAG
from config.jobs import GuardSettings
from tests.backup.storages import MemoryStorage


class Watched:
    """Two folders of documents that are backed up under the guard."""

    def __init__(self, repository: Repository, root: Path) -> None:
        self.repository = repository
        self.documents, self.archive = root / "documents", root / "archive"
        self.agreed: set[str] = set()
        self.latest = ""
        self.reasons: tuple[str, ...] = ()
        for folder, count in ((self.documents, 60), (self.archive, 25)):
            folder.mkdir()
            for number in range(count):
                self.write(folder / f"{number}.txt", number)

    def write(self, path: Path, seed: int) -> None:
        words = random.Random(seed)
        path.write_text("".join(f"invoice {words.random()}\n" for _ in range(1500)))

    def back_up(self) -> tuple[str, ...]:
        self.reasons = ()
        report = backup(
            self.repository, FilesSource((str(self.archive), str(self.documents))), job="docs", host="erp-1",
            clock=self.repository.clock, workers=0, inspect=self._tags,
        )  # fmt: skip
        self.repository.clock.advance(hours=1)  # type: ignore[attr-defined]
        self.latest = report.snapshot_id
        assert (TAG in self.repository.load_snapshot(self.latest).tags) is bool(self.reasons)
        return self.reasons

    def _tags(self, snapshot: Snapshot, parent: Snapshot) -> list[str]:
        self.reasons = inspect(self.repository, snapshot, parent, "docs", self.agreed, GuardSettings())
        return [TAG] if self.reasons else []


@pytest.fixture
def watched(repository: Repository, tmp_path: Path) -> Watched:
    made = Watched(repository, tmp_path)
    assert made.back_up() == ()
    return made


def encrypt(watched: Watched, ending: str = "") -> None:
    for folder in (watched.documents, watched.archive):
        for path in sorted(folder.iterdir()):
            size = path.stat().st_size
            path.unlink()
            path.with_name(path.name + ending).write_bytes(os.urandom(size))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def cut(watched: Watched) -> None:
    for path in watched.documents.iterdir():
        path.write_bytes(b"")


DISASTERS: dict[str, tuple[Callable[[Watched], object], str]] = {
    "encrypted": (encrypt, "new data does not compress any more: stored in"),
    "encrypted and renamed": (lambda w: encrypt(w, ".locked"), "85 of 85 files have endings that no file had before"),
    "a disk is not mounted": (lambda w: empty(w.archive), "archive is empty or gone, and had 25 files"),
    "a source path is gone": (lambda w: shutil.rmtree(w.archive), "archive is empty or gone, and had 25 files"),
    "emptied": (lambda w: empty(w.documents), "71 % of the files are gone: 25 instead of about 85"),
    "cut to nothing": (cut, "of the bytes are gone"),
}


@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_disaster_is_seen_and_the_snapshot_is_stored_with_the_tag(watched: Watched, disaster: str) -> None:
    happen, words = DISASTERS[disaster]
    happen(watched)
    assert words in "; ".join(watched.back_up())
    assert len(watched.repository.snapshots()) == 2


def test_ordinary_days_are_silent(watched: Watched) -> None:
    for day in range(4):
        for number in range(5):
            watched.write(watched.documents / f"{number}.txt", 1000 * day + number)
        (watched.documents / f"photo-{day}.jpg").write_bytes(os.urandom(300_000))
        (watched.archive / f"{day}.txt").unlink()
        for path in watched.archive.iterdir():
            path.touch()
        assert watched.back_up() == ()


def test_a_second_bad_snapshot_is_measured_by_what_was_good(watched: Watched) -> None:
    empty(watched.documents)
    assert watched.back_up()
    assert watched.back_up(), "the first bad one is no measure"


def test_what_was_agreed_to_is_the_new_normal_and_a_fall_from_there_is_told(watched: Watched) -> None:
    empty(watched.documents)
    assert watched.back_up()
    watched.agreed.add(watched.latest)
    assert watched.back_up() == ()
    empty(watched.archive)
    assert watched.back_up()


def test_a_path_that_empties_again_and_again_is_left_in_peace(watched: Watched) -> None:
    for number in range(3):
        empty(watched.archive)
        told = watched.back_up()
        if told:
            watched.agreed.add(watched.latest)
        for name in range(25):
            watched.write(watched.archive / f"{name}.txt", number)
        watched.back_up()
    empty(watched.archive)
    watched.back_up()
    assert not any("empty or gone" in reason for reason in watched.reasons)


def test_another_source_under_the_same_job_is_no_measure(watched: Watched, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "one").write_text("1")
    for _ in range(2):
        report = backup(
            watched.repository, FilesSource((str(other),)), job="docs", host="erp-1", clock=watched.repository.clock,
            workers=0, inspect=watched._tags,
        )  # fmt: skip
        assert TAG not in watched.repository.load_snapshot(report.snapshot_id).tags


def test_a_parent_whose_trees_are_lost_does_not_keep_the_snapshot_from_being_judged_and_stored(
    watched: Watched, memory: MemoryStorage
) -> None:
    trees = {p.tree for p in watched.repository.snapshots()}
    index = watched.repository.load_index()
    packs = {location.pack for tree in trees for location in index.lookup_all(1, tree)}  # type: ignore[arg-type]
    encrypt(watched, ".locked")
    for pack in packs:
        memory.delete(FileKind.DATA, pack)
    watched.back_up()
    assert len(watched.repository.snapshots()) == 2
