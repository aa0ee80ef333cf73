import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from backup import assembly, portions, sealing
from backup.archiver import BackupReport, backup
from backup.assembly import Progress
from backup.errors import FileMissing, Interrupted, SourceError, StorageError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.base import Capture, Step
from backup.sources.files import FilesCapture, FilesSource
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.tree import parse_tree
from backup.walking import locate
from tests.backup.repositories import FakeClock, create, read_back, reopen
from tests.backup.storages import MemoryStorage
from tests.backup.trees import make_nasty_tree, picture

Restic = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    return root


def run(repository: Repository, source: Path, *, full: bool = False, workers: int = 0, **more: object) -> BackupReport:
    """Back up and let a minute pass."""
    report = backup(
        repository, FilesSource((str(source),)), job="docs", host="erp-1", clock=repository.clock, full=full,
        workers=workers, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    repository.clock.advance(minutes=1)  # type: ignore[attr-defined]
    return report


def counts(report: BackupReport) -> tuple[int, int, int]:
    return report.files_new, report.files_changed, report.files_unmodified


def files_of(repository: Repository, report: BackupReport, source: Path) -> dict[str, bytes]:
    """Files of a snapshot by their path below the source."""
    found = read_back(repository, report.snapshot_id)
    return {os.path.relpath(path, source): content for path, content in found.items()}


# ---- what restic makes of it


@pytest.mark.parametrize("workers", [0, 2])
def test_restic_checks_and_restores_what_we_saved(
    tmp_path: Path, source: Path, clock: FakeClock, restic: Restic, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "BATCH_FILES", 5)
    monkeypatch.setattr(portions, "BIG_FILE_BYTES", 4 << 20)
    make_nasty_tree(source)
    (source / "big").write_bytes(os.urandom(40 << 20))
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    report = run(repository, source, workers=workers)
    assert not report.partial
    assert "no errors were found" in restic("check", "--read-data").stdout
    restic("restore", "latest", "--target", str(tmp_path / "back"))
    assert picture(tmp_path / "back" / str(source)[1:]) == picture(source)


# ---- full and incremental


def test_an_incremental_run_takes_over_what_has_not_changed(repository: Repository, source: Path) -> None:
    for name in "abc":
        (source / name).write_text(name)
    first = run(repository, source)
    assert (first.kind, first.parent_id, counts(first)) == ("full", None, (3, 0, 0))
    (source / "b").write_text("changed")
    (source / "c").unlink()
    (source / "d").write_text("new")
    second = run(repository, source)
    assert (second.kind, second.parent_id, counts(second)) == ("incremental", first.snapshot_id, (1, 1, 1))
    assert files_of(repository, second, source) == {"a": b"a", "b": b"changed", "d": b"new"}
    assert files_of(repository, first, source) == {"a": b"a", "b": b"b", "c": b"c"}
    third = run(repository, source)
    assert counts(third) == (0, 0, 3)
    assert third.bytes_added < 4096, "at most the folders above the source, which others write to"


def test_an_incremental_run_trusts_times_and_a_full_one_does_not(repository: Repository, source: Path) -> None:
    path = source / "a"
    path.write_text("before")
    run(repository, source)
    snapshot = repository.snapshots()[-1]

    def as_saved(folder: int | str, *_: object, **__: object) -> os.stat_result:
        raise AssertionError("no file is opened when nothing changed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "open_to_read", as_saved)
        trusted = run(repository, source)
        assert counts(trusted) == (0, 0, 1)
        with pytest.raises(AssertionError, match="no file is opened"):
            run(repository, source, full=True)
    assert counts(run(repository, source, full=True)) == (0, 0, 1)
    trees = [locate(repository, one, str(source)).tree for one in (snapshot, repository.snapshots()[-1])]
    assert trees[0] == trees[1], "folders above are others' business, and change meanwhile"


@pytest.mark.parametrize("what", ["size", "mtime", "ctime", "inode"])
def test_a_change_of_any_trusted_field_is_read_again(repository: Repository, source: Path, what: str) -> None:
    path = source / "a"
    path.write_text("before")
    status = path.stat()
    run(repository, source)
    if what == "size":
        path.write_text("longer than before")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif what == "mtime":
        os.utime(path, ns=(1, 1))
    elif what == "ctime":
        path.write_text("after!")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        (source / "other").write_text("after!")
        os.utime(source / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
        (source / "other").rename(path)
    report = run(repository, source)
    assert report.files_changed == 1
    assert files_of(repository, report, source) == {"a": path.read_bytes()}


def test_a_parent_that_restic_wrote_in_another_time_zone_is_trusted(
    tmp_path: Path, source: Path, clock: FakeClock, restic: Restic, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_nasty_tree(source, big_files=False)
    create(LocalStorage(tmp_path / "repository"), clock)
    environment = os.environ | {"TZ": "Asia/Kolkata", "RESTIC_PASSWORD": "correct horse"}
    command = ["restic", "--no-cache", "-r", str(tmp_path / "repository"), "backup", "--host", "erp-1", str(source)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    repository = reopen(LocalStorage(tmp_path / "repository"), clock)
    report = run(repository, source)
    assert report.kind == "incremental"
    assert report.bytes_stored < 100_000  # trees only, since their times are written differently
    summary = repository.load_snapshot(report.snapshot_id).summary
    assert summary is not None
    assert summary.data_blobs == 0


def test_the_parent_is_the_latest_of_the_same_host_and_paths(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")
    first = run(repository, source)
    other = backup(repository, FilesSource((str(source),)), job="j", host="web-1", clock=repository.clock, workers=0)
    assert other.parent_id is None
    assert run(repository, source).parent_id == first.snapshot_id


def test_a_full_run_saves_again_what_a_lost_pack_held(
    repository: Repository, memory: MemoryStorage, source: Path, clock: FakeClock
) -> None:
    (source / "a").write_text("precious")
    first = run(repository, source)
    for kind, name in [key for key in memory.files if key[0] is FileKind.DATA]:
        del memory.files[kind, name]
    run(repository, source)  # it cannot read the parent's trees and saves them anew, but trusts the index for content
    with pytest.raises(FileMissing):
        read_back(repository, first.snapshot_id)
    report = run(repository, source, full=True)
    assert report.packs_missing == 2
    assert report.bytes_added > 0
    assert files_of(reopen(memory, clock), report, source) == {"a": b"precious"}
    assert files_of(reopen(memory, clock), first, source) == {"a": b"precious"}


def test_an_unchanged_file_whose_blob_the_index_lost_is_read_again(
    repository: Repository, memory: MemoryStorage, source: Path, clock: FakeClock
) -> None:
    (source / "a").write_text("precious")
    run(repository, source)
    for kind, name in [key for key in memory.files if key[0] in (FileKind.DATA, FileKind.INDEX)]:
        del memory.files[kind, name]
    report = run(reopen(memory, clock), source)
    assert files_of(reopen(memory, clock), report, source) == {"a": b"precious"}


# ---- what the snapshot says


def test_tags_and_summary_carry_our_facts(repository: Repository, source: Path) -> None:
    (source / "a").write_text("twelve bytes")
    report = run(repository, source, tags=("nightly",))
    (snapshot,) = repository.snapshots()
    assert snapshot.tags == ("keepwatch", "job:docs", "kind:full", "nightly")
    assert (snapshot.hostname, snapshot.paths, snapshot.id) == ("erp-1", (str(source),), report.snapshot_id)
    assert snapshot.summary is not None
    assert snapshot.summary.total_bytes_processed == 12
    assert snapshot.summary.total_files_processed == 1
    assert (snapshot.summary.data_blobs, snapshot.summary.files_new) == (1, 1)
    assert snapshot.summary.data_added_packed == report.bytes_stored


def test_equal_content_is_stored_once(repository: Repository, source: Path) -> None:
    for number in range(20):
        (source / str(number)).write_bytes(b"the same in all" * 100)
    run(repository, source)
    assert sum(len(list(repository.index.lookup_all(kind, name))) for kind, name in blobs(repository)) == 1


def blobs(repository: Repository) -> set[tuple[BlobKind, bytes]]:
    index = repository.load_index()
    entries = (index.entry(number) for number in range(len(index)))
    return {(entry.kind, entry.id) for entry in entries if entry.kind is BlobKind.DATA}


def test_two_workers_meeting_the_same_content_store_it_once(
    tmp_path: Path, source: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "BATCH_FILES", 3)
    for number in range(60):
        (source / str(number)).write_bytes(os.urandom(100) if number % 3 else b"the same in all" * 1000)
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    run(repository, source, workers=2)
    copies = [len(repository.index.lookup_all(kind, name)) for kind, name in blobs(repository)]
    assert (len(copies), sum(copies)) == (41, 41)


def test_progress_tells_counts_and_what_the_parent_had(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")
    run(repository, source)
    told: list[Progress] = []
    run(repository, source, progress=told.append)
    assert told[0].files_expected == 1
    assert told[0].bytes_expected == 1


# ---- sources that change or cannot be read


class MischievousSource(FilesSource):
    """Does something to the files at each step of the walk."""

    __slots__ = ("act",)

    def __init__(self, path: Path, act: Callable[[Step], None]) -> None:
        super().__init__((str(path),))
        object.__setattr__(self, "act", act)

    @contextmanager
    def capture(self) -> Iterator[Capture]:  # type: ignore[override]
        with super().capture() as capture:
            yield Mischief(capture, self.act)  # type: ignore[attr-defined]


class Mischief:
    def __init__(self, capture: FilesCapture, act: Callable[[Step], None]) -> None:
        self._capture, self._act = capture, act
        self.problems, self.left_out, self.admission = capture.problems, 0, capture.admission
        self.manifest = capture.manifest

    def walk(self) -> Iterator[Step]:
        for step in self._capture.walk():
            self._act(step)
            yield step


def test_a_file_that_vanishes_makes_the_run_partial(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")
    (source / "b").write_text("b")

    def act(step: Step) -> None:
        if "b" in getattr(step, "names", []):
            (source / "b").unlink()

    report = backup(repository, MischievousSource(source, act), job="j", host="h", clock=repository.clock, workers=0)
    assert report.partial
    assert [(problem.path, problem.reason) for problem in report.unreadable] == [
        (str(source / "b"), "no such file or directory")
    ]
    assert "partial" in repository.snapshots()[-1].tags
    assert files_of(repository, report, source) == {"a": b"a"}


def test_a_file_that_becomes_a_fifo_is_not_waited_for(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")

    def act(step: Step) -> None:
        if "a" in getattr(step, "names", []):
            (source / "a").unlink()
            os.mkfifo(source / "a")

    report = backup(repository, MischievousSource(source, act), job="j", host="h", clock=repository.clock, workers=0)
    assert [problem.reason for problem in report.unreadable] == ["it is no regular file any more"]


@pytest.mark.parametrize("big", [False, True])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    repository: Repository, source: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    monkeypatch.setattr(portions, "BIG_FILE_BYTES", 1 if big else 1 << 40)
    path = source / "log"
    path.write_bytes(b"a" * 1000)
    call, left = "pread" if big else "read", [1]
    real: Callable[..., bytes] = getattr(os, call)

    def read_while_it_grows(*arguments: int) -> bytes:
        content = real(*arguments)
        if left and content == b"a" * 1000:
            left.pop()
            with path.open("ab") as file:
                file.write(b"b")
        return content

    monkeypatch.setattr(os, call, read_while_it_grows)
    report = run(repository, source)
    assert not report.partial
    assert files_of(repository, report, source) == {"log": path.read_bytes()}
    assert report.rereads == 1


@pytest.mark.parametrize("big", [False, True])
def test_a_file_that_never_stops_changing_is_saved_and_marked(
    repository: Repository, source: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    monkeypatch.setattr(portions, "BIG_FILE_BYTES", 1 if big else 1 << 40)
    path = source / "log"
    path.write_bytes(b"a" * 1000)
    real = os.fstat

    def always_newer(descriptor: int) -> os.stat_result:
        with path.open("ab") as file:
            file.write(b"b")
        return real(descriptor)

    monkeypatch.setattr(sealing.os, "fstat", always_newer)
    report = run(repository, source)
    monkeypatch.undo()
    assert report.partial
    assert report.rereads == portions.READ_ATTEMPTS - 1
    assert [problem.reason for problem in report.unreadable] == ["it changed while it was read"]
    assert files_of(repository, report, source)["log"].startswith(b"a" * 1000)
    again = run(repository, source)
    assert (again.files_changed, again.partial) == (1, False)


def test_a_source_of_which_nothing_could_be_read_makes_no_snapshot(repository: Repository, source: Path) -> None:
    path = source / "only"
    path.write_text("a")

    def act(step: Step) -> None:
        path.unlink(missing_ok=True)

    with pytest.raises(SourceError, match="could not back up anything"):
        backup(repository, MischievousSource(path, act), job="j", host="h", clock=repository.clock, workers=0)
    assert repository.snapshots() == []


# ---- stopping and failing


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_leaves_no_snapshot_and_what_was_stored_helps_the_next_run(
    tmp_path: Path, source: Path, clock: FakeClock, restic: Restic, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "BATCH_FILES", 4)
    for number in range(100):
        folder = source / f"{number:03d}"
        folder.mkdir()
        (folder / "a").write_bytes(os.urandom(5000))
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    stop, asked = threading.Event(), []

    def later() -> bool:
        asked.append(1)
        if len(asked) > 50:
            stop.set()
        return stop.is_set()

    with pytest.raises(Interrupted, match="stopped"):
        run(repository, source, workers=workers, stop=later)
    assert repository.snapshots() == []
    assert list(repository.storage.list(FileKind.LOCK)) == []
    report = run(reopen(LocalStorage(tmp_path / "repository"), clock), source, workers=workers)
    assert report.files_new == 100
    assert 100_000 < report.bytes_stored < 400_000  # about half was there already
    restic("check", "--read-data")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_storage_that_fails_fails_the_run_with_its_reason(
    tmp_path: Path, source: Path, clock: FakeClock, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "BATCH_FILES", 2)

    class Full(LocalStorage):
        def put(self, kind: FileKind, name: str, content: object) -> None:
            if kind is FileKind.DATA:
                raise StorageError("could not write the pack: the disk is on fire", permanent=True)
            super().put(kind, name, content)  # type: ignore[arg-type]

    for number in range(10):
        (source / str(number)).write_text(str(number))
    repository = create(Full(tmp_path / "repository"), clock)
    with pytest.raises(StorageError, match="on fire"):
        run(repository, source, workers=workers)
    assert repository.snapshots() == []


def test_nothing_but_a_lock_is_visible_before_the_commit(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")
    seen: list[list[Snapshot]] = []
    run(repository, source, stop=lambda: bool(seen.append(repository.snapshots())))
    assert seen
    assert not any(seen)


def test_a_snapshot_of_the_root_tree_names_the_folders_above(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")
    report = run(repository, source)
    snapshot = repository.load_snapshot(report.snapshot_id)
    (node,) = parse_tree(repository.load_blob(BlobKind.TREE, snapshot.tree))
    assert node.name.decode() == source.parts[1]
    assert node.type == "dir"


def test_a_given_parent_is_used(repository: Repository, source: Path) -> None:
    (source / "a").write_text("a")
    first = run(repository, source)
    run(repository, source)
    parent = replace(repository.load_snapshot(first.snapshot_id), paths=("/else",))
    assert run(repository, source, parent=parent).parent_id == first.snapshot_id
