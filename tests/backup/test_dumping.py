import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backup import dumping
from backup.archiver import backup
from backup.dumping import DumpReport, dump_file, dump_folder
from backup.errors import CorruptData, SnapshotMissing
from backup.pack import BlobKind
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.tree import Node
from backup.walking import locate
from tests.backup.repositories import PASSWORD, FakeClock, back_up, commit, create, save_nodes
from tests.backup.storages import MemoryStorage
from tests.backup.trees import make_nasty_tree, picture

Restic = Callable[..., subprocess.CompletedProcess[str]]


def dump(repository: Repository, path: str, output: io.BytesIO) -> DumpReport:
    repository.load_index()
    return dump_folder(repository, locate(repository, repository.find_snapshot("latest"), path), output)


def unpack(archive: bytes, target: Path) -> None:
    """Unpack with GNU tar, which is somebody else's reading of the format."""
    target.mkdir()
    command = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "-C", str(target)]
    done = subprocess.run(command, input=archive, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


@pytest.fixture
def nasty(tmp_path: Path, clock: FakeClock) -> tuple[Repository, Path]:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source)
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    return repository, source


def test_everything_a_file_system_holds_comes_back_out_of_the_archive(
    nasty: tuple[Repository, Path], tmp_path: Path
) -> None:
    repository, source = nasty
    output = io.BytesIO()
    report = dump(repository, str(source), output)
    assert report.problems == ()
    unpack(output.getvalue(), tmp_path / "back")
    back = tmp_path / "back" / str(source)[1:]
    assert picture(back) == picture(source)
    assert back.stat().st_mtime_ns == source.stat().st_mtime_ns


def test_it_is_what_restic_dumps(nasty: tuple[Repository, Path], tmp_path: Path, restic: Restic) -> None:
    repository, source = nasty
    output = io.BytesIO()
    dump(repository, f"{source}/kinds", output)
    theirs = tmp_path / "restic.tar"
    with theirs.open("wb") as file:
        command = ["restic", "--no-cache", "-r", str(tmp_path / "repository"), "dump", "latest", f"{source}/kinds"]
        environment = os.environ | {"RESTIC_PASSWORD": PASSWORD}
        subprocess.run(command, stdout=file, check=True, timeout=60, env=environment)
    unpack(output.getvalue(), tmp_path / "ours")
    unpack(theirs.read_bytes(), tmp_path / "theirs")
    place = f"{str(source)[1:]}/kinds"
    def coarse(root: Path) -> dict[bytes, tuple[object, ...]]:
        """restic 0.14 keeps no links between files, rounds times to seconds and makes files of devices and FIFOs."""
        return {
            path: (*fields[:3], round(int(str(fields[3])) / 10**9), *fields[5:])
            for path, fields in picture(root).items()
            if path not in (b"fifo", b"null", b"zero-device")
        }

    assert coarse(tmp_path / "ours" / place) == coarse(tmp_path / "theirs" / place)


def test_a_file_is_dumped_as_it_is(nasty: tuple[Repository, Path], restic: Restic) -> None:
    repository, source = nasty
    (source / "big").write_bytes(os.urandom(40 << 20))
    restic("backup", str(source))
    repository.load_index()
    place = locate(repository, repository.find_snapshot("latest"), str(source / "big"))
    hashed = hashlib.sha256()
    report = dump_file(repository, place, hashed.update)
    assert report == DumpReport(1, 40 << 20)
    assert hashed.hexdigest() == hashlib.sha256((source / "big").read_bytes()).hexdigest()


def test_a_blob_that_comes_again_in_a_file_is_written_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumping, "_AHEAD_BYTES", 4)
    with repository.lock():
        repository.load_index()
        a, b = (repository.save_blob(BlobKind.DATA, text)[0] for text in (b"aa", b"b"))
        commit(repository, save_nodes(repository, Node(name=b"f", type="file", size=9, content=(a, b, a, b, b, a))))
    repository.load_index()
    output = io.BytesIO()
    dump_file(repository, locate(repository, repository.find_snapshot("latest"), "/f"), output.write)
    assert output.getvalue() == b"aabaabbaa"[:9]


def test_a_folder_is_no_file_and_a_file_no_folder(repository: Repository) -> None:
    back_up(repository, {"a": {"b": b"x"}})
    repository.load_index()
    snapshot = repository.find_snapshot("latest")
    with pytest.raises(SnapshotMissing, match="it is no file"):
        dump_file(repository, locate(repository, snapshot, "/a"), io.BytesIO().write)
    with pytest.raises(SnapshotMissing, match="it is no folder"):
        dump(repository, "/a/b", io.BytesIO())


def test_names_that_lead_elsewhere_and_sockets_are_left_out_and_said(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        names = (b"..", b"a/b", b"", b"good", b"good")
        nodes = [Node(name=name, type="file", content=(), mode=0o644) for name in names]
        commit(repository, save_nodes(repository, *nodes, Node(name=b"s", type="socket")))
    output = io.BytesIO()
    report = dump(repository, "/", output)
    assert len(report.problems) == 5
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as archive:
        assert archive.getnames() == ["good"]


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_whose_blobs_are_not_its_size_is_not_dumped(repository: Repository, size: int) -> None:
    with repository.lock():
        repository.load_index()
        blob, _ = repository.save_blob(BlobKind.DATA, b"four")
        commit(repository, save_nodes(repository, Node(name=b"f", type="file", size=size, content=(blob,))))
    repository.load_index()
    output = io.BytesIO()
    with pytest.raises(CorruptData, match="its blobs hold 4 bytes"):
        dump_file(repository, locate(repository, repository.find_snapshot("latest"), "/f"), output.write)
    assert output.getvalue() == b""


def test_an_archive_with_a_damaged_file_has_no_end(memory: MemoryStorage, clock: FakeClock) -> None:
    repository = create(memory, clock)
    back_up(repository, {"a": b"x" * 5000, "b": b"y" * 5000})
    repository.load_index()
    for key in [key for key in memory.files if key[0] is FileKind.DATA]:
        pack = memory.files[key]
        if len(pack) < 200:
            continue
        memory.files[key] = pack[:40] + bytes((pack[40] ^ 1,)) + pack[41:]
    output = io.BytesIO()
    with pytest.raises(CorruptData, match="could not read blob"):
        dump(repository, "/", output)
    assert not output.getvalue().endswith(bytes(1024))
