"""Restores into a target that is not empty: rules, only what differs, resuming, removing, subfolders."""

import os
import stat
from pathlib import Path

import pytest

from backup import restore_plan, restorer
from backup.archiver import backup
from backup.errors import Interrupted, RestoreError, SnapshotMissing
from backup.overwriting import Overwrite
from backup.pack import BlobKind
from backup.previewing import preview
from backup.repository import Repository
from backup.restore_plan import RestorePlan, plan_restore
from backup.restorer import RestoreProgress, RestoreReport, execute_restore
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.tree import Node
from tests.backup.repositories import FakeClock, Folder, back_up, commit, create, save_folder, save_nodes
from tests.backup.storages import MemoryStorage
from tests.backup.trees import make_nasty_tree, picture

NS = 10**9


def make_plan(repository: Repository, target: Path, **wishes: object) -> RestorePlan:
    repository.load_index()
    return plan_restore(repository, repository.find_snapshot("latest"), target, **wishes)  # type: ignore[arg-type]


def restore(repository: Repository, target: Path, **wishes: object) -> RestoreReport:
    report = execute_restore(make_plan(repository, target, **wishes), repository, workers=0)
    assert report.problems == ()
    return report


def save_file(
    repository: Repository, *blobs: bytes, name: bytes = b"f", mtime: int = 1000, links: int = 0, inode: int = 0
) -> None:
    with repository.lock():
        repository.load_index()
        content = tuple(repository.save_blob(BlobKind.DATA, blob)[0] for blob in blobs)
        size = sum(map(len, blobs))
        node = Node(
            name=name, type="file", mode=0o644, size=size, content=content, mtime_ns=mtime * NS, atime_ns=mtime * NS,
            uid=os.getuid(), gid=os.getgid(), links=links, inode=inode,
        )  # fmt: skip
        commit(repository, save_nodes(repository, node))
    repository.load_index()


def write(path: Path, content: bytes, mtime: int = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(mtime * NS, mtime * NS))


@pytest.fixture(params=["small", "big"])
def size_limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file be written by one worker, and by several."""
    monkeypatch.setattr(restore_plan, "BIG_FILE_BYTES", 1 if request.param == "big" else 1 << 40)
    monkeypatch.setattr(restorer, "_JOB_BYTES", 3)


# ---- the four rules


@pytest.mark.parametrize(
    ("rule", "mtime", "content", "expected"),
    [
        (Overwrite.ALWAYS, 1000, b"other", b"saved"),
        (Overwrite.ALWAYS, 2000, b"other", b"saved"),
        (Overwrite.IF_CHANGED, 1000, b"other", b"other"),  # the same size and time: taken for unchanged
        (Overwrite.IF_CHANGED, 1001, b"other", b"saved"),
        (Overwrite.IF_CHANGED, 1000, b"longer", b"saved"),
        (Overwrite.IF_NEWER, 999, b"other", b"saved"),
        (Overwrite.IF_NEWER, 1000, b"other", b"other"),
        (Overwrite.IF_NEWER, 1001, b"other", b"other"),
        (Overwrite.NEVER, 1, b"other", b"other"),
    ],
)
@pytest.mark.usefixtures("size_limit")
def test_the_rule_decides_what_becomes_of_a_file_that_exists(
    tmp_path: Path, repository: Repository, rule: Overwrite, mtime: int, content: bytes, expected: bytes
) -> None:
    save_file(repository, b"sa", b"ved")
    write(tmp_path / "back" / "f", content, mtime)
    report = restore(repository, tmp_path / "back", overwrite=rule)
    assert (tmp_path / "back" / "f").read_bytes() == expected
    assert report.files == 1
    left_alone = expected == b"other" and rule is not Overwrite.IF_CHANGED
    assert (report.left_alone, report.unchanged) == (left_alone, expected == b"other" and not left_alone)
    if not left_alone:
        assert (tmp_path / "back" / "f").stat().st_mtime_ns == 1000 * NS


@pytest.mark.parametrize("rule", list(Overwrite))
@pytest.mark.usefixtures("size_limit")
def test_what_is_missing_is_made_whatever_the_rule(tmp_path: Path, repository: Repository, rule: Overwrite) -> None:
    save_file(repository, b"saved")
    write(tmp_path / "back" / "other", b"")
    assert restore(repository, tmp_path / "back", overwrite=rule).bytes == 5
    assert (tmp_path / "back" / "f").read_bytes() == b"saved"


@pytest.mark.usefixtures("size_limit")
def test_only_the_blobs_that_differ_are_written_and_the_file_stays_the_same_one(
    tmp_path: Path, repository: Repository
) -> None:
    save_file(repository, b"aaaa", b"bbbb", b"cccc")
    path = tmp_path / "back" / "f"
    write(path, b"aaaaXbbbccccand more", 5)
    inode = path.stat().st_ino
    report = restore(repository, tmp_path / "back")
    assert (path.read_bytes(), report.bytes, path.stat().st_ino) == (b"aaaabbbbcccc", 4, inode)
    again = restore(repository, tmp_path / "back")
    assert (again.bytes, again.unchanged) == (0, 1)


@pytest.mark.usefixtures("size_limit")
def test_zeros_are_written_where_something_else_was(tmp_path: Path, repository: Repository) -> None:
    save_file(repository, bytes(200_000), b"end")
    write(tmp_path / "back" / "f", b"x" * 300_000)
    restore(repository, tmp_path / "back")
    assert (tmp_path / "back" / "f").read_bytes() == bytes(200_000) + b"end"


def test_metadata_are_set_though_the_content_is_unchanged_and_foreign_attributes_go(
    tmp_path: Path, repository: Repository
) -> None:
    save_file(repository, b"same")
    path = tmp_path / "back" / "f"
    write(path, b"same")
    path.chmod(0o600)
    os.setxattr(path, "user.foreign", b"x")
    for rule in (Overwrite.IF_CHANGED, Overwrite.ALWAYS):
        assert restore(repository, tmp_path / "back", overwrite=rule).unchanged == 1
        assert (stat.S_IMODE(path.stat().st_mode), os.listxattr(path)) == (0o644, [])


def test_never_leaves_the_metadata_of_folders_alone_too(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, {"d": {"new": b"x"}})
    (tmp_path / "back" / "d").mkdir(parents=True)
    (tmp_path / "back" / "d").chmod(0o700)
    restore(repository, tmp_path / "back", overwrite=Overwrite.NEVER)
    assert stat.S_IMODE((tmp_path / "back" / "d").stat().st_mode) == 0o700
    restore(repository, tmp_path / "back")
    assert stat.S_IMODE((tmp_path / "back" / "d").stat().st_mode) == 0o755


@pytest.mark.parametrize("rule", [Overwrite.ALWAYS, Overwrite.IF_CHANGED])
@pytest.mark.usefixtures("size_limit")
def test_a_file_with_a_second_name_outside_is_replaced_and_never_written_into(
    tmp_path: Path, repository: Repository, rule: Overwrite
) -> None:
    save_file(repository, b"saved")
    write(tmp_path / "outside", b"other", 1000)
    (tmp_path / "outside").chmod(0o600)
    (tmp_path / "back").mkdir()
    os.link(tmp_path / "outside", tmp_path / "back" / "f")
    restore(repository, tmp_path / "back", overwrite=rule)
    assert (tmp_path / "outside").read_bytes() == b"other"
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o600
    assert (tmp_path / "back" / "f").read_bytes() == b"saved"


@pytest.mark.usefixtures("size_limit")
def test_a_link_where_a_file_belongs_is_replaced_and_not_followed(tmp_path: Path, repository: Repository) -> None:
    save_file(repository, b"saved")
    write(tmp_path / "outside", b"other")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "f").symlink_to(tmp_path / "outside")
    restore(repository, tmp_path / "back")
    assert (tmp_path / "outside").read_bytes() == b"other"
    assert not (tmp_path / "back" / "f").is_symlink()


def test_a_name_that_is_left_alone_is_no_source_for_hard_links(tmp_path: Path, repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        blob, _ = repository.save_blob(BlobKind.DATA, b"saved")
        names = (b"a", b"b", b"c")
        nodes = [
            Node(name=name, type="file", mode=0o644, size=5, content=(blob,), links=3, inode=9) for name in names
        ]
        commit(repository, save_nodes(repository, *nodes))
    write(tmp_path / "back" / "a", b"mine")
    restore(repository, tmp_path / "back", overwrite=Overwrite.NEVER)
    assert [(tmp_path / "back" / name).read_bytes() for name in "abc"] == [b"mine", b"saved", b"saved"]
    assert (tmp_path / "back" / "b").samefile(tmp_path / "back" / "c")


@pytest.mark.parametrize("rule", [Overwrite.ALWAYS, Overwrite.IF_CHANGED])
def test_restoring_twice_changes_nothing_and_writes_next_to_nothing(
    tmp_path: Path, clock: FakeClock, rule: Overwrite
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source)
    repository = create(MemoryStorage(), clock)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    first = restore(repository, tmp_path / "back")
    again = restore(repository, tmp_path / "back", overwrite=rule)
    assert picture(tmp_path / "back" / str(source)[1:]) == picture(source)
    assert again.files == first.files
    # a file with several names is made anew, and so is one of mode 0400 where that binds its owner
    assert again.bytes <= (0 if rule is Overwrite.IF_CHANGED else len(b"linked") + len(b"x"))


@pytest.mark.usefixtures("size_limit")
def test_what_cannot_be_read_from_the_repository_leaves_an_existing_file_as_it_is(
    tmp_path: Path, memory: MemoryStorage, clock: FakeClock
) -> None:
    repository = create(memory, clock)
    save_file(repository, b"damaged")
    location = next(repository.index.entry(at) for at in range(2) if repository.index.entry(at).kind is BlobKind.DATA)
    pack = repository.index.lookup_all(BlobKind.DATA, location.id)[0].pack
    memory.files[FileKind.DATA, pack] = bytes(len(memory.files[FileKind.DATA, pack]))
    write(tmp_path / "back" / "f", b"mine")
    report = execute_restore(make_plan(repository, tmp_path / "back"), repository, workers=0)
    assert [problem.path for problem in report.problems] == ["f"]
    assert (tmp_path / "back" / "f").read_bytes() == b"mine"


# ---- going on after an interruption


def test_an_interrupted_restore_goes_on_where_it_was(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restorer, "_JOB_LEAVES", 2)
    back_up(repository, {f"{number:02}": b"file %02d" % number for number in range(20)})
    told: list[RestoreProgress] = []
    plan = make_plan(repository, tmp_path / "back")
    with pytest.raises(Interrupted):
        execute_restore(
            plan, repository, workers=0, progress=told.append, stop=lambda: bool(told) and told[-1].files >= 8
        )
    half = tmp_path / "back" / "07"
    half.write_bytes(b"half a f")  # as a kill in the middle of it leaves it: no time set yet
    report = restore(repository, tmp_path / "back", overwrite=Overwrite.IF_CHANGED)
    assert (report.unchanged, report.files) == (7, 20)
    assert {path.read_bytes() for path in (tmp_path / "back").iterdir()} == {b"file %02d" % n for n in range(20)}


# ---- removing what the snapshot lacks

FILES: Folder = {"a": b"first", "b": {"c": b"second", "d": {"e": b""}}, "z": {}}


def fill(target: Path) -> None:
    for path in ("extra", "b/extra", "b/d/more/deep", "z/extra", "foreign/x"):
        write(target / path, b"mine")


def names_in(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("wishes", "kept"),
    [
        ({}, set()),
        ({"include": ["/b/"]}, {"extra", "z/extra", "foreign/x"}),
        ({"include": ["/b/d"]}, {"extra", "b/extra", "z/extra", "foreign/x"}),
        ({"exclude": ["extra"]}, {"extra", "b/extra", "z/extra"}),
        ({"exclude": ["/b/"]}, {"b/extra", "b/d/more/deep"}),
        ({"include": ["/nothing"]}, {"extra", "b/extra", "b/d/more/deep", "z/extra", "foreign/x"}),
        ({"delete": False}, {"extra", "b/extra", "b/d/more/deep", "z/extra", "foreign/x"}),
    ],
)
def test_what_the_snapshot_lacks_goes_below_included_paths_only(
    tmp_path: Path, repository: Repository, wishes: dict[str, object], kept: set[str]
) -> None:
    back_up(repository, FILES)
    fill(tmp_path / "back")
    plan = make_plan(repository, tmp_path / "back", **({"delete": True} | wishes))
    assert names_in(tmp_path / "back") >= kept | {"extra"}
    report = execute_restore(plan, repository, workers=0)
    assert (report.problems, report.removed) == ((), len(plan.removals))
    left = {"a", "b/c", "b/d/e"} & names_in(tmp_path / "back")
    assert names_in(tmp_path / "back") == left | kept


def test_the_plan_lists_what_would_go(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    fill(tmp_path / "back")
    plan = make_plan(repository, tmp_path / "back", delete=True)
    assert plan.removals == (b"b/d/more", b"b/extra", b"extra", b"foreign", b"z/extra")
    assert "5 to be removed" in str(plan)


def test_another_kind_of_entry_of_the_same_name_goes_too(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    write(tmp_path / "back" / "a" / "inside", b"mine")
    write(tmp_path / "back" / "b", b"mine")
    restore(repository, tmp_path / "back", delete=True)
    assert names_in(tmp_path / "back") == {"a", "b/c", "b/d/e"}


def test_removing_follows_no_link(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    write(tmp_path / "outside" / "precious", b"mine")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "extra").symlink_to(tmp_path / "outside")
    (tmp_path / "back" / "b").symlink_to(tmp_path / "outside")
    restore(repository, tmp_path / "back", delete=True)
    assert (tmp_path / "outside" / "precious").read_bytes() == b"mine"
    assert names_in(tmp_path / "back") == {"a", "b/c", "b/d/e"}
    assert names_in(tmp_path / "outside") == {"precious"}


def test_a_link_that_appears_after_the_plan_was_made_is_removed_and_not_followed(
    tmp_path: Path, repository: Repository
) -> None:
    back_up(repository, FILES)
    write(tmp_path / "outside" / "precious", b"mine")
    write(tmp_path / "back" / "foreign" / "precious", b"x")
    plan = make_plan(repository, tmp_path / "back", delete=True)
    (tmp_path / "back" / "foreign" / "precious").unlink()
    (tmp_path / "back" / "foreign").rmdir()
    (tmp_path / "back" / "foreign").symlink_to(tmp_path / "outside")
    assert execute_restore(plan, repository, workers=0).problems == ()
    assert (tmp_path / "outside" / "precious").exists()
    assert not (tmp_path / "back" / "foreign").is_symlink()


def test_the_whole_system_is_not_cleared(repository: Repository) -> None:
    back_up(repository, FILES)
    with pytest.raises(RestoreError, match="refused to remove from /"):
        make_plan(repository, Path("/"), delete=True)
    with pytest.raises(RestoreError, match="refused to remove from /"):
        make_plan(repository, Path("/tmp/.."), delete=True)


def test_a_hostile_tree_removes_nothing_outside(tmp_path: Path, repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        folder = Node(name=b"..", type="dir", mode=1 << 31 | 0o755, subtree=save_folder(repository, {}))
        commit(repository, save_nodes(repository, folder))
    write(tmp_path / "beside", b"mine")
    (tmp_path / "back").mkdir()
    plan = make_plan(repository, tmp_path / "back", delete=True)
    execute_restore(plan, repository, workers=0)
    assert plan.removals == ()
    assert (tmp_path / "beside").exists()


# ---- subfolders


def test_a_subfolder_is_restored_right_into_the_target_and_patterns_are_below_it(
    tmp_path: Path, repository: Repository
) -> None:
    back_up(repository, FILES)
    restore(repository, tmp_path / "back", subfolder="/b")
    assert names_in(tmp_path / "back") == {"c", "d/e"}
    restore(repository, tmp_path / "part", subfolder="b/", include=["/d"])
    assert names_in(tmp_path / "part") == {"d/e"}


def test_a_subfolder_that_is_none_is_said(tmp_path: Path, repository: Repository) -> None:
    back_up(repository, FILES)
    with pytest.raises(SnapshotMissing, match="no such path"):
        make_plan(repository, tmp_path, subfolder="/none")
    with pytest.raises(RestoreError, match="it is a file"):
        make_plan(repository, tmp_path, subfolder="/a")


# ---- the dry run, path by path


def test_a_preview_says_what_would_happen_to_each_path_and_touches_nothing(
    tmp_path: Path, repository: Repository
) -> None:
    with repository.lock():
        repository.load_index()
        blob, _ = repository.save_blob(BlobKind.DATA, b"saved")
        plain = Node(name=b"", type="file", mode=0o644, size=5, content=(blob,), mtime_ns=1000 * NS)
        tree = save_nodes(repository, plain._replace(name=b"inner"))
        commit(repository, save_nodes(
            repository, plain._replace(name=b"changed"), Node(name=b"dir", type="dir", subtree=tree),
            plain._replace(name=b"first", links=2, inode=5), plain._replace(name=b"link"),
            plain._replace(name=b"same"), plain._replace(name=b"second", links=2, inode=5),
        ))  # fmt: skip
    target = tmp_path / "back"
    write(target / "changed", b"other content")
    write(target / "same", b"saved")
    write(target / "extra", b"")
    (target / "link").symlink_to("x")
    before = picture(target)
    plan = make_plan(repository, target, overwrite=Overwrite.IF_CHANGED, delete=True)
    steps = [(str(step.action), step.path) for step in preview(plan, repository)]
    assert sorted(steps) == [
        ("compare", "changed"), ("create", "dir/"), ("create", "dir/inner"), ("create", "first"), ("link", "second"),
        ("remove", "extra"), ("replace", "link"), ("unchanged", "same"),
    ]  # fmt: skip
    assert picture(target) == before
    missing = make_plan(repository, tmp_path / "missing", overwrite=Overwrite.NEVER)
    assert {str(step.action) for step in preview(missing, repository)} == {"create", "link"}
    never = make_plan(repository, target, overwrite=Overwrite.NEVER)
    assert ("leave", "changed") in [(str(step.action), step.path) for step in preview(never, repository)]
