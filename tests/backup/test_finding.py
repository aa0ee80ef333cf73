import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.archiver import backup
from backup.errors import BackupError, SnapshotMissing
from backup.finding import Query, blobs_in_pack, blobs_named, find, find_holders, glob, regex
from backup.pack import BlobKind, blob_id
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.tree import Node
from backup.walking import locate, split_reference
from tests.backup.repositories import FakeClock, Folder, back_up, commit, create, save_nodes
from tests.backup.storages import MemoryStorage
from tests.backup.trees import make_nasty_tree

Restic = Callable[..., subprocess.CompletedProcess[str]]
FILES: Folder = {"a.txt": b"first", "b": {"c.TXT": b"second", "d.txt": {"e": b""}}, "z": {}}


def paths(repository: Repository, query: Query) -> list[str]:
    repository.load_index()
    return [found.entry.path for found in find(repository, repository.snapshots(), query)]


@pytest.mark.parametrize(
    ("pattern", "ignore_case", "expected"),
    [
        ("*.txt", False, ["/a.txt", "/b/d.txt", "/b/d.txt/e"]),
        ("*.txt", True, ["/a.txt", "/b/c.TXT", "/b/d.txt", "/b/d.txt/e"]),
        ("/b/*", False, ["/b/c.TXT", "/b/d.txt", "/b/d.txt/e"]),
        ("b/c.TXT", False, ["/b/c.TXT"]),
        ("/a.txt", False, ["/a.txt"]),
        ("/c.TXT", False, []),
        ("?", False, ["/b", "/b/c.TXT", "/b/d.txt", "/b/d.txt/e", "/z"]),
    ],
)
def test_globs_match_names_at_any_depth_and_all_below_a_folder(
    repository: Repository, pattern: str, ignore_case: bool, expected: list[str]
) -> None:
    back_up(repository, FILES)
    assert paths(repository, Query((glob(pattern, ignore_case=ignore_case),))) == expected


def test_a_regular_expression_is_searched_in_the_whole_path(repository: Repository) -> None:
    back_up(repository, FILES)
    assert paths(repository, Query((regex(r"^b/.*\.TXT$"), regex("^z/")))) == ["/b/c.TXT", "/z"]


@pytest.mark.parametrize("make", [lambda: glob("/"), lambda: glob(""), lambda: regex("(")])
def test_what_is_no_pattern_is_refused_by_name(make: Callable[[], object]) -> None:
    with pytest.raises(BackupError, match="could not search for"):
        make()


def test_limits_of_time_size_and_type_are_inclusive_and_all_must_hold(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        nodes = [
            Node(name=f"f{size}".encode(), type="file", size=size, content=(), mtime_ns=size * 10**9)
            for size in (10, 20, 30)
        ]
        commit(repository, save_nodes(repository, *nodes, Node(name=b"link", type="symlink", mtime_ns=20 * 10**9)))

    def at(second: int) -> datetime:
        return datetime.fromtimestamp(second, UTC)

    assert paths(repository, Query(newer_than=at(20))) == ["/f20", "/f30", "/link"]
    assert paths(repository, Query(older_than=at(20))) == ["/f10", "/f20", "/link"]
    assert paths(repository, Query(newer_than=at(15), older_than=at(25), types=frozenset({"file"}))) == ["/f20"]
    assert paths(repository, Query(min_bytes=20)) == ["/f20", "/f30"]
    assert paths(repository, Query(max_bytes=20)) == ["/f10", "/f20"]
    assert paths(repository, Query(types=frozenset({"symlink"}))) == ["/link"]


def test_an_entry_that_several_snapshots_share_is_found_once_and_names_them(repository: Repository) -> None:
    first = back_up(repository, {"same": b"1", "changed": b"1"})
    repository.clock.advance(hours=1)  # type: ignore[attr-defined]
    second = back_up(repository, {"same": b"1", "changed": b"22", "new": {"same": b"1"}})
    repository.load_index()
    found = find(repository, repository.snapshots(), Query((glob("same"), glob("changed"))))
    assert [(item.entry.path, item.entry.size, item.snapshots) for item in found] == [
        ("/changed", 1, (first,)),
        ("/changed", 2, (second,)),
        ("/new/same", 1, (second,)),
        ("/same", 1, (first, second)),
    ]


def test_a_tree_that_snapshots_share_is_read_once(memory: MemoryStorage, clock: FakeClock) -> None:
    repository = create(memory, clock)
    for _ in range(5):
        back_up(repository, FILES)
        clock.advance(hours=1)
    repository.load_index()
    snapshots = repository.snapshots()
    read: list[bytes] = []
    load = repository.load_blobs
    repository.load_blobs = lambda kind, names: (read.append(pair[0]) or pair for pair in load(kind, names))  # type: ignore[func-returns-value,assignment,method-assign]
    assert find(repository, snapshots, Query())[0].snapshots == tuple(snapshot.id for snapshot in snapshots)
    assert len(read) == len(set(read)) == 4


@pytest.mark.parametrize("pattern", ["*.txt", "names", "kinds/*", "first", "[0-9]*", "deep5?"])
def test_restic_finds_the_same(tmp_path: Path, clock: FakeClock, restic: Restic, pattern: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source, big_files=False)
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    said = json.loads(restic("find", "--json", pattern).stdout)
    theirs = {match["path"] for match in said[0]["matches"]}
    ours = paths(repository, Query((glob(pattern),)))
    assert ours
    assert {path.encode("utf-8", "replace").decode().replace("?", "\ufffd") for path in ours} == {
        path.replace("?", "\ufffd") for path in theirs
    }


# ---- blobs and packs


def test_a_blob_is_found_where_it_is_content_and_where_it_is_a_tree(repository: Repository) -> None:
    snapshot = back_up(repository, FILES)
    repository.load_index()
    snapshots = repository.snapshots()
    name = blob_id(b"second")
    assert blobs_named(repository, name.hex()[:12]) == [(BlobKind.DATA, name)]
    (holder,) = find_holders(repository, snapshots, blobs_named(repository, name.hex()))
    assert (holder.kind, holder.path, holder.snapshots, len(holder.packs)) == ("data", "/b/c.TXT", (snapshot,), 1)
    tree = snapshots[0].tree
    (holder,) = find_holders(repository, snapshots, blobs_named(repository, tree.hex()))
    assert (holder.kind, holder.path) == ("tree", "/")
    below = locate(repository, snapshots[0], "/b").tree
    assert below is not None
    (holder,) = find_holders(repository, snapshots, [(BlobKind.TREE, below)])
    assert holder.path == "/b"


def test_a_blob_that_no_pack_has_is_still_found_in_the_files_that_miss_it(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        commit(repository, save_nodes(repository, Node(name=b"lost", type="file", content=(bytes(32),))))
    repository.load_index()
    (holder,) = find_holders(repository, repository.snapshots(), blobs_named(repository, "00" * 32))
    assert (holder.path, holder.packs) == ("/lost", ())


def test_what_a_pack_holds_is_known_from_the_index_and_else_from_its_header(
    memory: MemoryStorage, clock: FakeClock
) -> None:
    repository = create(memory, clock)
    back_up(repository, FILES)
    repository.load_index()
    pack = repository.index.lookup_all(BlobKind.DATA, blob_id(b"first"))[0].pack
    name, entries = blobs_in_pack(repository, pack[:10])
    assert (name, {entry.id for entry in entries}) == (pack, {blob_id(b"first"), blob_id(b"second"), blob_id(b"")})
    for key in [key for key in memory.files if key[0] is FileKind.INDEX]:
        del memory.files[key]
    repository.load_index()
    assert blobs_in_pack(repository, pack[:10]) == (pack, entries)


@pytest.mark.parametrize("prefix", ["xyz", "", "0" * 65])
def test_what_is_no_id_is_refused(repository: Repository, prefix: str) -> None:
    for look in (blobs_named, blobs_in_pack):
        with pytest.raises(BackupError, match="it is no id"):
            look(repository, prefix)


def test_an_id_that_nothing_begins_with_is_said(repository: Repository) -> None:
    repository.load_index()
    with pytest.raises(BackupError, match="no blob begins so"):
        blobs_named(repository, "00")
    with pytest.raises(BackupError, match="there is no such pack"):
        blobs_in_pack(repository, "00")


# ---- places


def test_a_place_is_found_by_its_path(repository: Repository) -> None:
    back_up(repository, FILES)
    repository.load_index()
    snapshot = repository.find_snapshot("latest")
    assert locate(repository, snapshot, "/").tree == snapshot.tree
    place = locate(repository, snapshot, "b//d.txt/")
    assert (place.path, place.node and place.node.name) == (b"/b/d.txt", b"d.txt")
    for missing in ("/b/none", "/a.txt/below", "/b/c.TXT/.."):
        with pytest.raises(SnapshotMissing, match="no such path"):
            locate(repository, snapshot, missing)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("latest", ("latest", "/")), ("ab12:/etc/x:y", ("ab12", "/etc/x:y")), ("ab12:", ("ab12", "/"))],
)
def test_a_subfolder_is_named_behind_a_colon(text: str, expected: tuple[str, str]) -> None:
    assert split_reference(text) == expected
