import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.archiver import backup
from backup.differing import Change, ChangeKind, Difference, diff
from backup.pack import BlobKind
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.local import LocalStorage
from backup.tree import Node
from backup.walking import locate
from tests.backup.repositories import FakeClock, back_up, commit, create, save_folder, save_nodes
from tests.backup.trees import make_nasty_tree

Restic = Callable[..., subprocess.CompletedProcess[str]]


def compare(repository: Repository, below: str = "/", *, metadata: bool = True) -> Difference:
    """Compare the last two snapshots."""
    repository.load_index()
    old, new = repository.snapshots()[-2:]
    return diff(repository, locate(repository, old, below), locate(repository, new, below), metadata=metadata)


def signs(difference: Difference) -> list[str]:
    return [f"{change.kind} {change.path}" for change in difference.changes]


def save(repository: Repository, *nodes: Node) -> None:
    with repository.lock():
        repository.load_index()
        commit(repository, save_nodes(repository, *nodes))
    repository.clock.advance(hours=1)  # type: ignore[attr-defined]


def test_what_came_went_and_changed_is_told_by_path_with_sums(repository: Repository) -> None:
    back_up(repository, {"gone": b"123", "same": b"s", "changed": b"1", "old": {"x": b"12", "y": {}}})
    repository.clock.advance(hours=1)  # type: ignore[attr-defined]
    back_up(repository, {"came": b"1234567", "same": b"s", "changed": b"22", "new": {"z": b"12345"}})
    difference = compare(repository)
    assert signs(difference) == [
        "+ /came", "M /changed", "- /gone", "+ /new/", "+ /new/z", "- /old/", "- /old/x", "- /old/y/",
    ]  # fmt: skip
    assert difference.changes[1] == Change(ChangeKind.CONTENT, "/changed", 1, 2)
    sums = difference.sums
    assert (sums.files_added, sums.files_removed, sums.files_changed) == (2, 2, 1)
    assert (sums.folders_added, sums.folders_removed) == (1, 2)
    assert (sums.bytes_added, sums.bytes_removed) == (7 + 5 + 2, 3 + 2 + 1)


def test_of_a_changed_file_only_its_own_blobs_count(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        blobs = [repository.save_blob(BlobKind.DATA, text)[0] for text in (b"common", b"abc", b"defgh")]
        for content, size in ((blobs[:2], 9), ((blobs[0], blobs[2]), 11)):
            node = Node(name=b"f", type="file", size=size, content=tuple(content))
            commit(repository, save_nodes(repository, node))
            repository.clock.advance(hours=1)  # type: ignore[attr-defined]
    sums = compare(repository).sums
    assert (sums.bytes_added, sums.bytes_removed) == (5, 3)


def test_metadata_are_named_field_by_field_and_can_be_left_out(repository: Repository) -> None:
    node = Node(name=b"f", type="file", mode=0o644, content=(), inode=1, ctime_ns=1)
    save(repository, node, Node(name=b"same", type="file", content=(), inode=1, ctime_ns=1, atime_ns=1))
    changed = node._replace(mode=0o600, uid=5, user="five", mtime_ns=7, xattrs=(("user.k", b"v"),))
    save(repository, changed, Node(name=b"same", type="file", content=(), inode=2, ctime_ns=2, atime_ns=2))
    difference = compare(repository)
    assert difference.changes == (
        Change(ChangeKind.METADATA, "/f", 0, 0, ("mode", "mtime", "uid", "user", "xattrs")),
    )
    assert difference.sums.metadata_changed == 1
    assert compare(repository, metadata=False).changes == ()


def test_another_type_is_a_change_of_its_own_and_what_was_below_is_gone(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        folder = Node(name=b"x", type="dir", subtree=save_folder(repository, {"y": b"123"}))
        repository.flush()
    save(repository, folder)
    save(repository, Node(name=b"x", type="symlink", linktarget=b"elsewhere"))
    difference = compare(repository)
    assert signs(difference) == ["T /x", "- /x/y"]
    assert (difference.sums.types_changed, difference.sums.bytes_removed) == (1, 3)


def test_new_content_under_unchanged_times_is_told_as_rot(repository: Repository) -> None:
    node = Node(name=b"f", type="file", size=1, inode=7, mtime_ns=5, ctime_ns=6)
    for text in (b"1", b"2"):
        with repository.lock():
            repository.load_index()
            content = (repository.save_blob(BlobKind.DATA, text)[0],)
            repository.flush()
        save(repository, node._replace(content=content))
    assert signs(compare(repository)) == ["? /f"]


def test_trees_with_equal_ids_are_not_read(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        lost = Node(name=b"lost", type="dir", subtree=bytes(range(32)))
    save(repository, Node(name=b"a", type="file", content=()), lost)
    save(repository, lost)
    assert signs(compare(repository)) == ["- /a"]


def test_a_subfolder_and_a_single_file_can_be_compared(repository: Repository) -> None:
    back_up(repository, {"a": {"f": b"1", "g": b"1"}, "b": b"1"})
    repository.clock.advance(hours=1)  # type: ignore[attr-defined]
    back_up(repository, {"a": {"f": b"2", "g": b"1"}, "b": b"2"})
    assert signs(compare(repository, "/a")) == ["M /f"]
    assert signs(compare(repository, "/a/f")) == ["M /f"]
    assert signs(compare(repository, "/a/g")) == []


@pytest.mark.parametrize("metadata", [False, True])
def test_restic_says_the_same(tmp_path: Path, clock: FakeClock, restic: Restic, metadata: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source, big_files=False)
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    (source / "sizes" / "1").write_bytes(b"other")
    (source / "modes" / "0755").chmod(0o700)
    (source / "kinds" / "fifo").unlink()
    (source / "kinds" / "fifo").mkdir()
    (source / "kinds" / "symlink").unlink()
    (source / "deep0" / "new").symlink_to("x")
    os.utime(source / "kinds" / "empty folder", ns=(1, 1))
    clock.advance(hours=1)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    old, new = (snapshot.id for snapshot in repository.snapshots())
    said = restic("diff", *(["--metadata"] if metadata else []), old, new).stdout
    lines = (line.split(maxsplit=1) for line in said.splitlines() if "/" in line)
    theirs = {(sign[0], path.strip()) for sign, path in lines if sign.strip("+-MTU?") == ""}
    ours = {(str(change.kind), change.path) for change in compare(repository, metadata=metadata).changes}
    # to restic the metadata of a folder have changed when anything below has
    ours, theirs = ({item for item in found if not (item[0] == "U" and item[1][-1] == "/")} for found in (ours, theirs))
    assert ours == theirs
    assert len(ours) >= (5 if metadata else 4)
