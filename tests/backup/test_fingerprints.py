"""Fingerprints of folders: what they save, and that every change is seen all the same."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.archiver import BackupReport, backup
from backup.fingerprints import Fingerprints
from backup.pack import BlobKind
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.walking import locate
from tests.backup.repositories import FakeClock, reopen
from tests.backup.storages import MemoryStorage

FOLDERS = 5
EACH = 20


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for folder in range(FOLDERS):
        (source / f"folder{folder}").mkdir(parents=True)
        for number in range(EACH):
            file = source / f"folder{folder}" / f"{number:02}"
            file.write_bytes(b"%d %d" % (folder, number) * 50)
            os.utime(file, ns=(10**18, 10**18 + number))
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    return source


def run(repository: Repository, source: Path, remembered: bool = True, **wishes: object) -> BackupReport:
    wishes = {"paths": (str(source),)} | wishes
    full = bool(wishes.pop("full", False))
    marks = Fingerprints.of_job(source.parent / "cache", repository.config.id, "j") if remembered else None
    return backup(
        repository, FilesSource(**wishes), job="j", host="h", clock=repository.clock, full=full, workers=0,  # type: ignore[arg-type]
        fingerprints=marks,
    )  # fmt: skip


def tree_of(repository: Repository, report: BackupReport) -> bytes:
    """The tree of the source: what lies above it changes with all that happens in the temporary folder."""
    snapshot = repository.load_snapshot(report.snapshot_id)
    repository.load_index()
    tree = locate(repository, snapshot, snapshot.paths[0]).tree
    assert tree is not None
    return tree


def reads_of_trees(memory: MemoryStorage, repository: Repository) -> list[bytes]:
    """The trees read from now on."""
    read: list[bytes] = []
    load = repository.load_blob

    def counting(kind: BlobKind, name: bytes) -> bytes:
        if kind is BlobKind.TREE:
            read.append(name)
        return load(kind, name)

    repository.load_blob = counting  # type: ignore[method-assign]
    return read


def test_an_unchanged_folder_of_files_is_not_read_from_the_repository(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path
) -> None:
    first = run(repository, scene)
    bare, marked = reopen(memory, clock), reopen(memory, clock)
    all_trees, few_trees = reads_of_trees(memory, bare), reads_of_trees(memory, marked)
    without, report = run(bare, scene, remembered=False), run(marked, scene)
    assert len(all_trees) - len(few_trees) == FOLDERS
    assert tree_of(marked, report) == tree_of(bare, without) == tree_of(repository, first)
    figures = ("files_new", "files_changed", "files_unmodified", "bytes_processed")
    assert [getattr(report, name) for name in figures] == [getattr(without, name) for name in figures]
    assert report.files_unmodified == FOLDERS * EACH


def new_file(folder: Path) -> None:
    (folder / "10a").write_bytes(b"new")


def other_content(folder: Path) -> None:
    (folder / "03").write_bytes(b"other")


def same_size_and_time(folder: Path) -> None:
    status = (folder / "04").stat()
    (folder / "04").write_bytes(bytes(status.st_size))
    os.utime(folder / "04", ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(folder: Path) -> None:
    status = (folder / "05").stat()
    (folder / "new").write_bytes(bytes(status.st_size))
    os.utime(folder / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "new").rename(folder / "05")


def two_swapped(folder: Path) -> None:
    (folder / "06").rename(folder / "x")
    (folder / "07").rename(folder / "06")
    (folder / "x").rename(folder / "07")


def mode(folder: Path) -> None:
    (folder / "08").chmod(0o600)


def second_name(folder: Path) -> None:
    os.link(folder / "09", folder.parent / "folder1" / "link")


def attribute(folder: Path) -> None:
    os.setxattr(folder / "11", "user.colour", b"green")


def time(folder: Path) -> None:
    os.utime(folder / "12", ns=(5, 5))


def removed(folder: Path) -> None:
    (folder / "13").unlink()


def renamed(folder: Path) -> None:
    (folder / "14").rename(folder / "14a")


def became_a_link(folder: Path) -> None:
    (folder / "15").unlink()
    (folder / "15").symlink_to("16")


def subfolder(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "file").write_bytes(b"below")


def owner(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder / "17", 12345, 54321)
    else:
        (folder / "17").chmod(0o640)  # nobody else may give files away


CHANGES = (
    new_file, other_content, same_size_and_time, replaced, two_swapped, mode, second_name, attribute, time, removed,
    renamed, became_a_link, subfolder, owner,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_is_seen(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, change: Callable[[Path], None]
) -> None:
    first = run(repository, scene)
    change(scene / "folder3")
    marked = reopen(memory, clock)
    report = run(marked, scene)
    bare = reopen(memory, clock)
    full = run(bare, scene, remembered=False, full=True)
    assert tree_of(marked, report) == tree_of(bare, full) != tree_of(repository, first)
    again = run(reopen(memory, clock), scene)
    assert tree_of(marked, again) == tree_of(bare, full), "what was kept of the changed folder is right, too"


def test_what_may_not_be_saved_any_more_is_left_out(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path
) -> None:
    (scene / "folder1" / "large").write_bytes(bytes(9999))
    run(repository, scene)
    for wishes in ({"exclude_larger_than_bytes": 5000}, {"exclude": ("large",)}):
        again = reopen(memory, clock)
        report = run(again, scene, **wishes)
        assert report.files_unmodified == FOLDERS * EACH


def test_a_renamed_user_is_written_anew(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(repository, scene)
    monkeypatch.setattr("backup.portions._owner", lambda uid, gid: f',"uid":{uid},"gid":{gid},"user":"new"')
    monkeypatch.setattr("backup.portions._constants", __import__("backup.portions").portions._constants.__wrapped__)
    again = reopen(memory, clock)
    assert tree_of(again, run(again, scene)) != tree_of(repository, first)


def test_a_folder_with_an_unreadable_file_is_looked_at_again(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def failing(descriptor: int, count: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("folder2/05"):
            raise OSError(5, "Input/output error")
        return read(descriptor, count)

    with monkeypatch.context() as broken:
        broken.setattr(os, "read", failing)
        assert run(repository, scene).partial
    report = run(reopen(memory, clock), scene)
    assert not report.partial
    assert report.files_new == 1


def test_after_a_prune_every_blob_is_asked_for_again(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path
) -> None:
    run(repository, scene)
    other_content(scene / "folder0")
    second = run(reopen(memory, clock), scene)
    pruner = reopen(memory, clock)
    with pruner.lock(exclusive=True):
        old = next(snapshot.id for snapshot in pruner.snapshots() if snapshot.id != second.snapshot_id)
        pruner.storage.delete(FileKind.SNAPSHOT, old)
        execute_prune(pruner, plan_prune(pruner))
    after = reopen(memory, clock)
    trees = reads_of_trees(memory, after)
    run(after, scene)
    assert len(trees) > FOLDERS


def test_a_full_run_goes_by_nothing_and_leaves_fresh_ones(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path
) -> None:
    run(repository, scene)
    full = run(reopen(memory, clock), scene, full=True)
    assert full.kind == "full"
    bare, after = reopen(memory, clock), reopen(memory, clock)
    all_trees, few_trees = reads_of_trees(memory, bare), reads_of_trees(memory, after)
    run(bare, scene, remembered=False)
    assert run(after, scene).files_unmodified == FOLDERS * EACH
    assert len(all_trees) - len(few_trees) == FOLDERS


def test_a_damaged_file_is_left_aside(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = run(repository, scene)
    (kept,) = (scene.parent / "cache").glob("folders-*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for damaged in (b"", kept.read_bytes()[:-7], kept.read_bytes()[:-1] + b"?"):
        kept.write_bytes(damaged)
        caplog.clear()
        again = reopen(memory, clock)
        assert tree_of(again, run(again, scene)) == tree_of(repository, first)
        assert "kept file left aside" in caplog.messages
