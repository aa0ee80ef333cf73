"""A repository in a folder of a mounted file system, laid out as restic's local backend does (layout "default").

Outside ``create`` it refuses to make a folder but a missing shard: when ``data/`` itself is gone, the disk under the
repository is not mounted, and a backup into the empty mount point would fill the wrong disk and call it a success.
"""

import errno
import os
import secrets
import stat as modes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from backup.around_cache import write_around
from backup.errors import FileMissing, StorageError, StorageFull
from backup.storage.base import (
    CONFIG_NAME,
    Buffer,
    FileKind,
    StorageProperties,
    StoredFile,
    as_buffers,
    is_file_name,
)
from backup.storage.reading_ahead import Read

_FOLDER: Final = {
    FileKind.KEY: "keys",
    FileKind.DATA: "data",
    FileKind.INDEX: "index",
    FileKind.SNAPSHOT: "snapshots",
    FileKind.LOCK: "locks",
}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_PERMANENT: Final = {errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_NO_FSYNC: Final = {errno.ENOTSUP, errno.EINVAL}  # what FUSE and some network file systems answer
_WRITEV_MOST: Final = 1024  # IOV_MAX on every Unix we know


class LocalStorage:
    """Storage in the folder ``root``."""

    def __init__(self, root: Path | str) -> None:
        self._root = os.fspath(root)

    def __repr__(self) -> str:
        return f"LocalStorage({self._root!r})"

    @property
    def properties(self) -> StorageProperties:
        """The folder and the bytes that this user may still fill."""
        try:
            figures = os.statvfs(self._root)
        except OSError as error:
            raise _failure("look at", self._root, error) from error
        return StorageProperties(self._root, figures.f_bavail * figures.f_frsize)

    def create(self) -> None:
        """Make the root, the five folders and the 256 shards, readable by their owner only."""
        try:
            Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in _FOLDER.values():
                Path(self._root, folder).mkdir(mode=0o700, exist_ok=True)
            for shard in range(256):
                Path(self._root, "data", f"{shard:02x}").mkdir(mode=0o700, exist_ok=True)
            _sync_folder(os.path.join(self._root, "data"))
            _sync_folder(self._root)
            _sync_folder(os.path.dirname(os.path.abspath(self._root)))
        except OSError as error:
            raise _failure("make a repository in", self._root, error) from error

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """Write beside the place, sync, rename, sync the folder; then take the write permission away."""
        path = self._path(kind, name)
        buffers = as_buffers(content)
        try:
            if os.path.exists(path):
                self._refuse_other(path, buffers)
                return
            self._write(kind, path, buffers)
        except OSError as error:
            raise _failure("write", path, error) from error

    def _write(self, kind: FileKind, path: str, buffers: Sequence[Buffer]) -> None:
        folder = os.path.dirname(path)
        temporary = f"{path}-tmp-{secrets.token_hex(8)}"
        shared = self._group_may_read()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            if kind is not FileKind.DATA:
                raise
            with suppress(FileExistsError):
                os.mkdir(folder, 0o750 if shared else 0o700)
            _sync_folder(os.path.dirname(folder))
            descriptor = os.open(temporary, flags, 0o600)
        try:
            try:
                _write_all(descriptor, buffers)
                _sync(descriptor)
                os.fchmod(descriptor, 0o440 if shared else 0o400)
            finally:
                os.close(descriptor)
            os.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)

    @staticmethod
    def _refuse_other(path: str, buffers: Sequence[Buffer]) -> None:
        with open(path, "rb") as file:
            same = os.fstat(file.fileno()).st_size == sum(map(len, buffers))
            same = same and all(file.read(len(buffer)) == buffer for buffer in buffers)
        if not same:
            raise StorageError(
                f"refused to write {path}: it is there already with other bytes",
                permanent=True,
                hint="the stored file may be damaged; run `keepwatch verify --read-data`",
            )

    def _group_may_read(self) -> bool:
        """Whether the owner opened the repository to a group, which restic tells by the mode of ``config``."""
        try:
            return bool(os.stat(os.path.join(self._root, CONFIG_NAME)).st_mode & modes.S_IRGRP)
        except FileNotFoundError:
            return False

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read from one open descriptor, so that a delete meanwhile cannot tear the answer."""
        path = self._path(kind, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                missing = os.fstat(descriptor).st_size - offset if length is None else length
                parts = []
                while missing > 0 and (part := os.pread(descriptor, missing, offset)):
                    parts.append(part)
                    offset += len(part)
                    missing -= len(part)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _failure("read", path, error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def expect(self, read: Read) -> bool:
        """See Expecting: the system begins to read it into its cache, without anybody waiting."""
        if not read.is_small:
            with suppress(OSError):
                descriptor = os.open(self._path(read.kind, read.name), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.posix_fadvise(descriptor, read.offset, read.length or 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)
        return True

    def forget(self, reads: Iterable[Read]) -> None:
        """See Expecting: the system forgets by itself."""

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """Walk the kind's folder, for packs its shards; names that are not 64 hex digits are nobody's files."""
        if kind is FileKind.CONFIG:
            with suppress(FileMissing):
                yield self.stat(kind, CONFIG_NAME)
            return
        folder = os.path.join(self._root, _FOLDER[kind])
        try:
            if kind is FileKind.DATA:
                with os.scandir(folder) as entries:
                    shards = [entry.path for entry in entries if len(entry.name) == 2 and entry.is_dir()]
                for shard in shards:
                    yield from _files_in(shard, prefix=shard[-2:])
            else:
                yield from _files_in(folder)
        except OSError as error:
            raise _failure("list", folder, error) from error

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """Ask the file system."""
        path = self._path(kind, name)
        try:
            return StoredFile(name, os.stat(path).st_size)
        except OSError as error:
            raise _failure("look at", path, error) from error

    def delete(self, kind: FileKind, name: str) -> None:
        """Unlink and sync the folder."""
        path = self._path(kind, name)
        try:
            os.unlink(path)
            _sync_folder(os.path.dirname(path))
        except OSError as error:
            raise _failure("delete", path, error) from error

    def delete_all(self, kind: FileKind, names: Sequence[str]) -> None:
        """Unlink all, then sync each folder once."""
        folders = set()
        for name in names:
            path = self._path(kind, name)
            try:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                    folders.add(os.path.dirname(path))
            except OSError as error:
                raise _failure("delete", path, error) from error
        for folder in folders:
            try:
                _sync_folder(folder)
            except OSError as error:
                raise _failure("delete files in", folder, error) from error

    def _path(self, kind: FileKind, name: str) -> str:
        if not is_file_name(kind, name):
            raise ValueError(f"{name!r} does not name a {kind} file")
        if kind is FileKind.CONFIG:
            return os.path.join(self._root, CONFIG_NAME)
        if kind is FileKind.DATA:
            return os.path.join(self._root, "data", name[:2], name)
        return os.path.join(self._root, _FOLDER[kind], name)


def _files_in(folder: str, prefix: str = "") -> Iterator[StoredFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_file_name(FileKind.DATA, entry.name) and entry.name.startswith(prefix):
                try:
                    yield StoredFile(entry.name, entry.stat().st_size)
                except FileNotFoundError:  # deleted since the folder was read
                    continue


def _write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    if len(buffers) == 1:
        content = memoryview(buffers[0])
        buffers = [content[write_around(descriptor, content, 0) :]]
        # what was written by offset did not move the descriptor's
        os.lseek(descriptor, len(content) - len(buffers[0]), os.SEEK_SET)
    for start in range(0, len(buffers), _WRITEV_MOST):
        batch = [memoryview(buffer) for buffer in buffers[start : start + _WRITEV_MOST] if len(buffer)]
        while batch:
            written = os.writev(descriptor, batch)
            while batch and written >= len(batch[0]):
                written -= len(batch[0])
                del batch[0]
            if written:
                batch[0] = batch[0][written:]


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _failure(doing: str, path: str, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFull(f"could not {doing} {path}: {reason.lower()}")
    if error.errno == errno.ENOENT:
        hint = "if the whole folder is gone, is the disk mounted?"
        return FileMissing(f"could not {doing} {path}: no such file", hint=hint)
    permanent = error.errno in _PERMANENT
    hint = "run as the owner of the repository, or mount it writable; to read only, --no-lock" if permanent else ""
    return StorageError(f"could not {doing} {path}: {reason.lower()}", permanent=permanent, hint=hint)
