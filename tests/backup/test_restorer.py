import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup import restore_plan, restorer
from backup.archiver import backup
from backup.errors import Interrupted, RestoreError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import plan_restore
from backup.restorer import RestoreProgress, RestoreReport, execute_restore
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.target import write_at
from backup.tree import Node
from tests.backup.repositories import FakeClock, Folder, back_up, commit, create, reopen, save_folder, save_nodes
from tests.backup.storages import MemoryStorage
from tests.backup.trees import make_nasty_tree, picture

Restic = Callable[..., subprocess.CompletedProcess[str]]
FILES: Folder = {"a": b"first", "b": {"c": b"second", "d": {"e": b""}}, "z": {}}


def restore(repository: Repository, target: Path, workers: int = 0, **filters: object) -> RestoreReport:
    with repository.lock():
        repository.load_index()
        plan = plan_restore(repository, repository.find_snapshot("latest"), target, **filters)  # type: ignore[arg-type]
        return execute_restore(plan, repository, workers=workers)


@contextmanager
def writing(repository: Repository) -> Iterator[None]:
    with repository.lock():
        repository.load_index()
        yield


def files_in(target: Path) -> dict[str, bytes | None]:
    """Files with content, folders as None."""
    found = sorted(target.rglob("*"))
    return {str(path.relative_to(target)): None if path.is_dir() else path.read_bytes() for path in found}


def reasons(report: RestoreReport) -> dict[str, str]:
    return {problem.path: problem.reason for problem in report.problems}


# ---- everything comes back


@pytest.mark.parametrize("workers", [0, 2])
def test_we_restore_what_restic_saved(
    tmp_path: Path, clock: FakeClock, restic: Restic, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restorer, "_JOB_LEAVES", 7)
    monkeypatch.setattr(restore_plan, "BIG_FILE_BYTES", 4 << 20)
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source)
    (source / "big").write_bytes(os.urandom(24 << 20))
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    restic("backup", str(source))
    report = restore(repository, tmp_path / "back", workers=workers)
    assert report.problems == ()
    assert picture(tmp_path / "back" / str(source)[1:]) == picture(source)


def test_we_restore_what_we_saved(tmp_path: Path, clock: FakeClock) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source)
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock)
    report = restore(repository, tmp_path / "back", workers=2)
    assert report.problems == ()
    assert picture(tmp_path / "back" / str(source)[1:]) == picture(source)


def test_holes_come_back_as_holes(tmp_path: Path, repository: Repository, clock: FakeClock) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(40 << 20)
        file.seek(20 << 20)
        file.write(b"x")
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    restore(repository, tmp_path / "back")
    back = tmp_path / "back" / str(source)[1:]
    assert back.read_bytes() == source.read_bytes()
    assert back.stat().st_blocks * 512 < 1 << 20


def test_zeros_at_any_place_of_a_blob_become_holes_and_nothing_else_does(tmp_path: Path) -> None:
    block = 64 << 10
    content = b"a" * block + bytes(2 * block) + b"b" * 10 + bytes(block - 10) + bytes(block) + b"c"
    path = tmp_path / "file"
    with path.open("wb") as file:
        write_at(file.fileno(), content, 3, sparse=True)
    assert path.read_bytes() == bytes(3) + content


# ---- the plan


def test_a_plan_counts_and_touches_nothing(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    target = tmp_path / "target"
    plan = plan_restore(repository, repository.find_snapshot("latest"), target)
    assert (plan.files, plan.folder_count, plan.bytes, plan.existing) == (3, 3, 11, 0)
    assert str(plan).endswith(f"into {target}: 3 folders, 3 files, 11 B")
    assert not target.exists()
    (target / "b").mkdir(parents=True)
    (target / "b" / "c").write_text("old")
    assert plan_restore(repository, repository.find_snapshot("latest"), target).existing == 1


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"include": ["/b/c"]}, {"b", "b/c"}),
        ({"include": ["c"]}, {"b", "b/c"}),
        ({"include": ["/b/"]}, {"b", "b/c", "b/d", "b/d/e"}),
        ({"include": ["/b/"], "exclude": ["d/"]}, {"b", "b/c"}),
        ({"exclude": ["/b"]}, {"a", "z"}),
        ({"include": ["nothing like it"]}, set()),
    ],
)
def test_filters_choose_by_the_paths_of_the_snapshot(
    tmp_path: Path, repository: Repository, filters: dict[str, list[str]], expected: set[str]
) -> None:
    back_up(repository, FILES)
    report = restore(repository, tmp_path / "back", **filters)
    assert report.problems == ()
    assert set(files_in(tmp_path / "back")) == expected


# ---- existing targets


def test_existing_files_are_replaced_and_others_left_alone(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    target = tmp_path / "back"
    (target / "b").mkdir(parents=True)
    (target / "a").write_text("a longer one that was there before")
    (target / "a").chmod(0o400)
    (target / "other").write_text("not ours")
    (target / "b" / "c").symlink_to("../other")
    assert restore(repository, target).problems == ()
    assert files_in(target)["a"] == b"first"
    assert not (target / "b" / "c").is_symlink()
    assert files_in(target)["other"] == b"not ours"


def test_a_link_where_a_folder_belongs_is_not_followed(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    target, outside = tmp_path / "back", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "b").symlink_to(outside)
    report = restore(repository, target)
    assert set(reasons(report)) == {"b", "b/d"}
    assert list(outside.iterdir()) == []
    assert files_in(target)["a"] == b"first"


def test_a_folder_where_a_file_belongs_is_a_problem_and_stays(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    (tmp_path / "back" / "a").mkdir(parents=True)
    report = restore(repository, tmp_path / "back")
    assert list(reasons(report)) == ["a"]
    assert files_in(tmp_path / "back")["b/c"] == b"second"


def test_a_target_that_cannot_be_made_is_an_error(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RestoreError, match="not a directory"):
        restore(repository, tmp_path / "file" / "below")


# ---- hostile and damaged snapshots


@pytest.mark.parametrize("name", [b"..", b".", b"", b"../escaped", b"/etc/escaped", b"a/b", b"nul\0byte"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, repository: Repository, name: bytes) -> None:
    with writing(repository):
        blob, _ = repository.save_blob(BlobKind.DATA, b"payload")
        evil = Node(name=name, type="file", mode=0o644, size=7, content=(blob,))
        folder = Node(name=name, type="dir", mode=1 << 31 | 0o755, subtree=save_folder(repository, {"x": b"y"}))
        good = Node(name=b"good", type="file", mode=0o644, size=7, content=(blob,))
        commit(repository, save_nodes(repository, evil, folder, good))
    target = tmp_path / "deep" / "target"
    report = restore(repository, target)
    assert [problem.reason for problem in report.problems] == [
        "its name is not a plain name; the tree was made to write outside the target"
    ] * 2
    assert files_in(tmp_path) == {"deep": None, "deep/target": None, "deep/target/good": b"payload"}


def test_a_tree_that_plants_a_link_and_writes_through_it_does_not_get_out(
    tmp_path: Path, repository: Repository
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with writing(repository):
        link = Node(name=b"x", type="symlink", mode=1 << 27 | 0o777, linktarget=os.fsencode(outside))
        folder = Node(name=b"x", type="dir", mode=1 << 31 | 0o755, subtree=save_folder(repository, {"y": b"z"}))
        commit(repository, save_nodes(repository, link, folder))
    report = restore(repository, tmp_path / "target")
    assert [problem.reason for problem in report.problems] == ["there are two of that name in one folder"]
    assert list(outside.iterdir()) == []


def test_a_file_whose_size_is_not_that_of_its_blobs_is_not_restored(tmp_path: Path, repository: Repository) -> None:
    with writing(repository):
        blob, _ = repository.save_blob(BlobKind.DATA, b"1")
        node = Node(name=b"f", type="file", mode=0o644, size=5, content=(blob,))
        commit(repository, save_nodes(repository, node))
    report = restore(repository, tmp_path / "back")
    assert reasons(report) == {"f": "its blobs hold 1 bytes, and its metadata say 5"}
    assert files_in(tmp_path / "back") == {}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damage_is_named_by_file_blob_and_pack_and_the_rest_comes_back(
    tmp_path: Path, memory: MemoryStorage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, damage: str, big: bool
) -> None:
    monkeypatch.setattr(restore_plan, "BIG_FILE_BYTES", 1 if big else 1 << 40)
    repository = create(memory, clock)
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"damaged")
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    (before,) = (key for key in memory.files if key[0] is FileKind.DATA and is_data(repository, key[1]))
    (source / "b").write_bytes(b"sound")
    clock.advance(minutes=1)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    pack = memory.files.pop(before)
    if damage == "flip":
        memory.files[before] = pack[:20] + bytes((pack[20] ^ 1,)) + pack[21:]
    report = restore(reopen(memory, clock), tmp_path / "back")
    (problem,) = report.problems
    assert problem.path == f"{str(source)[1:]}/a"
    assert before[1][:8] in problem.reason
    assert "blob " in problem.reason
    assert set(files_in(tmp_path / "back" / str(source)[1:])) == {"b"}


def is_data(repository: Repository, pack: str) -> bool:
    index = repository.load_index()
    entries = (index.entry(number) for number in range(len(index)))
    return any(entry.kind is BlobKind.DATA and index.lookup(entry.kind, entry.id).pack == pack for entry in entries)  # type: ignore[union-attr]


def test_a_second_copy_of_a_damaged_blob_is_used(tmp_path: Path, memory: MemoryStorage, clock: FakeClock) -> None:
    repository = create(memory, clock)
    back_up(repository, {"a": b"twice"})
    (first,) = (name for kind, name in memory.files if kind is FileKind.DATA and is_data(repository, name))
    indexes = {key: memory.files.pop(key) for key in list(memory.files) if key[0] is FileKind.INDEX}
    back_up(reopen(memory, clock), {"a": b"twice"})
    memory.files |= indexes
    memory.files[FileKind.DATA, first] = bytes(len(memory.files[FileKind.DATA, first]))
    report = restore(reopen(memory, clock), tmp_path / "back")
    assert report.problems == ()
    assert files_in(tmp_path / "back") == {"a": b"twice"}


def test_an_unknown_blob_is_named(tmp_path: Path, repository: Repository) -> None:
    with writing(repository):
        node = Node(name=b"f", type="file", mode=0o644, size=0, content=(bytes(32),))
        commit(repository, save_nodes(repository, node))
    assert reasons(restore(repository, tmp_path / "back")) == {"f": "blob 00000000 is in no pack that an index names"}


def test_an_entry_of_unknown_type_is_refused(tmp_path: Path, repository: Repository) -> None:
    with writing(repository):
        commit(repository, save_nodes(repository, Node(name=b"s", type="irregular", mode=0o644)))
    assert "type irregular" in reasons(restore(repository, tmp_path / "back"))["s"]


# ---- stopping and progress


def test_a_restore_can_be_stopped(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    plan = plan_restore(repository, repository.find_snapshot("latest"), tmp_path / "back")
    with pytest.raises(Interrupted, match="not complete"):
        execute_restore(plan, repository, workers=0, stop=lambda: True)


def test_progress_ends_at_what_was_planned(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    plan = plan_restore(repository, repository.find_snapshot("latest"), tmp_path / "back")
    told: list[RestoreProgress] = []
    execute_restore(plan, repository, workers=0, progress=told.append)
    assert told[-1] == RestoreProgress(3, 11, 3, 11)


def test_folders_get_their_modes_last_so_that_one_without_write_permission_is_filled(
    tmp_path: Path, repository: Repository
) -> None:
    with writing(repository):
        tree = save_folder(repository, {"f": b"x"})
        node = Node(name=b"ro", type="dir", mode=1 << 31 | 0o555, mtime_ns=10**18, subtree=tree)
        commit(repository, save_nodes(repository, node))
    assert restore(repository, tmp_path / "back").problems == ()
    status = (tmp_path / "back" / "ro").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o555, 10**18)
    (tmp_path / "back" / "ro").chmod(0o755)
