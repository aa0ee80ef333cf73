"""What only the folder has: layout, modes, crashes, a disk that is not mounted, a disk that is full."""

import errno
import os
import stat
from pathlib import Path

import pytest

from backup.errors import FileMissing, StorageError, StorageFull
from backup.storage.base import CONFIG_NAME, FileKind, StoredFile
from backup.storage.local import LocalStorage
from backup.storage.open import open_storage

NAME = "ab" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    LocalStorage(tmp_path / "repository").create()
    return tmp_path / "repository"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_layout_is_restics(root: Path) -> None:
    storage = LocalStorage(root)
    for kind in (FileKind.KEY, FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOT, FileKind.LOCK):
        storage.put(kind, NAME, b"x")
    storage.put(FileKind.CONFIG, CONFIG_NAME, b"x")
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    folders = ("keys", "data/ab", "index", "snapshots", "locks")
    assert files == {"config"} | {f"{folder}/{NAME}" for folder in folders}
    assert len(list((root / "data").iterdir())) == 256


def test_only_the_owner_may_read_and_nobody_may_write(root: Path) -> None:
    LocalStorage(root).put(FileKind.KEY, NAME, b"x")
    assert mode(root / "keys" / NAME) == 0o400
    assert mode(root) == mode(root / "keys") == mode(root / "data/00") == 0o700


def test_a_group_that_may_read_the_config_may_read_the_rest(root: Path) -> None:
    LocalStorage(root).put(FileKind.CONFIG, CONFIG_NAME, b"x")
    (root / "config").chmod(0o440)
    LocalStorage(root).put(FileKind.KEY, NAME, b"x")
    assert mode(root / "keys" / NAME) == 0o440


def test_a_missing_shard_is_made(root: Path) -> None:
    (root / "data/ab").rmdir()
    LocalStorage(root).put(FileKind.DATA, NAME, b"x")
    assert (root / "data/ab" / NAME).read_bytes() == b"x"


def test_a_repository_on_a_disk_that_is_not_mounted_is_not_made_anew(root: Path) -> None:
    storage = LocalStorage(root)
    for folder in sorted(root.rglob("*"), reverse=True):
        folder.rmdir()
    for kind in (FileKind.DATA, FileKind.LOCK):
        with pytest.raises(StorageError, match="no such file") as refused:
            storage.put(kind, NAME, b"x")
        assert "mounted" in refused.value.hint
    with pytest.raises(FileMissing):
        list(storage.list(FileKind.SNAPSHOT))
    assert list(root.iterdir()) == []


def test_leftovers_of_a_dead_writer_and_strange_files_are_not_listed(root: Path) -> None:
    (root / "data/ab" / f"{NAME}-tmp-123").write_bytes(b"half")
    (root / "data/cd" / NAME).write_bytes(b"in the wrong shard")
    (root / "data/stray").write_bytes(b"x")
    (root / "snapshots/README").write_bytes(b"x")
    storage = LocalStorage(root)
    assert list(storage.list(FileKind.DATA)) == list(storage.list(FileKind.SNAPSHOT)) == []
    storage.put(FileKind.DATA, NAME, b"whole")
    assert list(storage.list(FileKind.DATA)) == [StoredFile(NAME, 5)]


@pytest.mark.parametrize("call", ["writev", "fsync", "rename"])
def test_a_write_that_fails_anywhere_leaves_nothing_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageFull, match="no space left") as full:
        LocalStorage(root).put(FileKind.DATA, NAME, b"content")
    assert full.value.permanent
    assert list((root / "data/ab").iterdir()) == []


def test_bytes_and_folder_are_synced_before_put_returns_and_the_bytes_before_the_rename(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def note_rename(old: str, new: str) -> None:
        calls.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    LocalStorage(root).put(FileKind.DATA, NAME, b"content")
    assert calls == ["file", "rename", "folder"]


def test_short_writes_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: whole(descriptor, [buffers[0][:3]]))
    LocalStorage(root).put(FileKind.DATA, NAME, [b"content", b"and more"])
    assert (root / "data/ab" / NAME).read_bytes() == b"contentand more"


@pytest.mark.parametrize(("number", "permanent"), [(errno.EIO, False), (errno.EACCES, True), (errno.EROFS, True)])
def test_errors_know_whether_trying_again_can_help(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, permanent: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as failed:
        LocalStorage(root).put(FileKind.DATA, NAME, b"content")
    assert failed.value.permanent is permanent


def test_a_file_system_without_fsync_is_tolerated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "fsync", fail)
    LocalStorage(root).put(FileKind.DATA, NAME, b"content")
    assert LocalStorage(root).get(FileKind.DATA, NAME) == b"content"


@pytest.mark.parametrize("url", ["/srv/x", "local:/srv/x"])
def test_a_url_without_a_scheme_is_a_path(url: str) -> None:
    assert repr(open_storage(url)) == "LocalStorage('/srv/x')"


def test_an_unknown_scheme_is_an_error_and_not_a_folder() -> None:
    with pytest.raises(StorageError, match="no storage of this kind") as refused:
        open_storage("swift:container:/path")
    assert refused.value.permanent


def test_of_many_deleted_files_each_folder_is_synced_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, synced = LocalStorage(root), []
    names = [f"{shard}{number:062x}" for shard in ("aa", "bb") for number in range(5)]
    for name in names:
        storage.put(FileKind.DATA, name, b"x")
    sync = os.fsync

    def note_sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}")[-2:])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note_sync)
    storage.delete_all(FileKind.DATA, [*names, "cc" * 32])
    assert list(storage.list(FileKind.DATA)) == []
    assert sorted(synced) == ["aa", "bb"]
