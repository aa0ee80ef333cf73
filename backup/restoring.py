"""Writes entries of a snapshot into a folder: the part of a restore that worker processes do.

Nothing is ever written outside the target, whatever a tree says: folders are opened one component at a time from the
target's own descriptor without following a link, and names that are no plain names were refused before. A file whose
content cannot be read whole is removed again: half a file that looks like a whole one is worse than none.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from backup.errors import CorruptData, StorageError
from backup.pack import BlobKind
from backup.reader import BlobReader
from backup.repository import Repository
from backup.sources.base import Problem
from backup.sources.files import describe
from backup.tree import Node, as_text, parse_tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLE = bytes(64 << 10)
"""Runs of zeros of at least this size, at multiples of it, become holes."""
_ROOT_ONLY = ("security.", "trusted.", "system.")
"""Extended attributes that only root may set; for anybody else their loss is a matter of course."""
_TREES_KEPT = 4


@dataclass(frozen=True, slots=True)
class Portion:
    """Some leaves of one folder."""

    folder: bytes
    """Relative to the target; empty for the target itself."""
    tree: bytes
    leaves: tuple[int, ...]
    """Positions in the tree."""


@dataclass(frozen=True, slots=True)
class WriteLeaves:
    """Job: write these leaves with content and metadata. Result: :class:`Written`."""

    portions: tuple[Portion, ...]


@dataclass(frozen=True, slots=True)
class WriteBlobs:
    """Job: write blobs into a big file that is there already. Result: :class:`Written`, without counting the file."""

    path: bytes
    blobs: tuple[tuple[int, bytes], ...]
    """Offset and id."""


WriteJob = WriteLeaves | WriteBlobs


@dataclass(slots=True)
class Written:
    """What became of a job."""

    leaves: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _File:
    """A file that is being written."""

    folder: bytes
    node: Node
    descriptor: int = -1
    missing: int = 0
    """Blobs still to come."""
    failure: str = ""

    @property
    def path(self) -> bytes:
        return os.path.join(self.folder, self.node.name)


class WritingBench:
    """Does the writing of one process, into the folder ``target``."""

    def __init__(self, repository: Repository, target: str, *, sparse: bool) -> None:
        self._repository = repository
        self._reader = BlobReader(repository.storage, repository.key)
        self._target = Target(target)
        self._sparse = sparse
        self._trees: dict[bytes, list[Node]] = {}

    def do(self, job: WriteJob) -> Written:
        """Do one job; what fails is in the result."""
        written = Written()
        if isinstance(job, WriteBlobs):
            self._write_blobs(job, written)
        else:
            self._write_leaves(job, written)
        return written

    def finish(self) -> None:
        """Nothing is left open."""

    def report(self) -> None:
        """Results say it all."""

    def close(self) -> None:
        """Let go of the target."""
        self._target.close()

    def _write_leaves(self, job: WriteLeaves, written: Written) -> None:
        files: list[_File] = []
        wanted: dict[bytes, list[tuple[_File, int]]] = {}
        for portion in job.portions:
            nodes = self._tree(portion.tree)
            for position in portion.leaves:
                node = nodes[position]
                if node.type == "file":
                    file = _File(portion.folder, node)
                    files.append(file)
                    self._want(file, wanted)
                else:
                    self._write_special(portion.folder, node, written)
        for name, plain in self._blobs(wanted):
            places = wanted[name]
            for file, offset in places:
                if isinstance(plain, str):
                    file.failure = file.failure or plain
                else:
                    self._put(file, plain, offset)
                    written.bytes += len(plain)
                file.missing -= 1
                if not file.missing:
                    self._complete(file, written)
        for file in files:
            if not file.node.content:
                self._complete(file, written)

    def _want(self, file: _File, wanted: dict[bytes, list[tuple[_File, int]]]) -> None:
        offset = 0
        for name in file.node.content or ():
            wanted.setdefault(name, []).append((file, offset))
            file.missing += 1
            location = self._repository.index.lookup(BlobKind.DATA, name)
            offset += plain_length(location.length, location.uncompressed_length) if location else 0
        if offset != file.node.size:
            file.failure = f"its blobs hold {offset} bytes, and its metadata say {file.node.size}"

    def _blobs(self, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | str]]:
        """Give each blob, or the reason why it cannot be had."""
        index, known = self._repository.index, []
        for name in names:
            if index.contains(BlobKind.DATA, name):
                known.append(name)
            else:
                yield name, f"blob {name.hex()[:8]} is in no pack that an index names"
        for wanted in self._repository.plan_reads(BlobKind.DATA, known):
            done: set[bytes] = set()
            try:
                for name, plain in self._reader.read(wanted):
                    done.add(name)
                    yield name, plain
            except (CorruptData, StorageError):
                for entry in wanted.entries:
                    if entry.id not in done:
                        yield entry.id, self._blob_alone(entry.id, wanted.pack)

    def _blob_alone(self, name: bytes, pack: str) -> bytes | str:
        """Try a blob by itself, in every pack that has it."""
        try:
            return self._repository.load_blob(BlobKind.DATA, name)
        except (CorruptData, StorageError) as error:
            return f"blob {name.hex()[:8]} of pack {pack[:8]}: {error}"

    def _put(self, file: _File, plain: bytes, offset: int) -> None:
        if file.failure:
            return
        try:
            if file.descriptor < 0:
                file.descriptor = self._target.create(file.folder, file.node.name)
            write_at(file.descriptor, plain, offset, sparse=self._sparse)
        except OSError as error:
            file.failure = describe(error)

    def _complete(self, file: _File, written: Written) -> None:
        try:
            if not file.failure:
                if file.descriptor < 0:
                    file.descriptor = self._target.create(file.folder, file.node.name)
                if self._sparse and file.node.size >= len(_HOLE):
                    os.ftruncate(file.descriptor, file.node.size)
                file.failure = apply_metadata(file.descriptor, file.node)
                if file.failure:
                    written.problems.append(Problem(as_text(file.path), file.failure))
                    file.failure = ""
        except OSError as error:
            file.failure = describe(error)
        if file.descriptor >= 0:
            os.close(file.descriptor)
        if file.failure:
            written.problems.append(Problem(as_text(file.path), file.failure))
            if file.descriptor >= 0:
                self._target.remove(file.folder, file.node.name)
        else:
            written.leaves += 1

    def _write_special(self, folder: bytes, node: Node, written: Written) -> None:
        try:
            with self._target.folder(folder) as descriptor:
                problem = make_special(descriptor, node)
        except OSError as error:
            written.problems.append(Problem(as_text(os.path.join(folder, node.name)), describe(error)))
            return
        if problem:
            written.problems.append(Problem(as_text(os.path.join(folder, node.name)), problem))
        written.leaves += 1

    def _write_blobs(self, job: WriteBlobs, written: Written) -> None:
        places: dict[bytes, list[int]] = {}
        for offset, name in job.blobs:
            places.setdefault(name, []).append(offset)
        try:
            descriptor = self._target.reopen(job.path)
        except OSError as error:
            written.problems.append(Problem(as_text(job.path), describe(error)))
            return
        try:
            for name, plain in self._blobs(places):
                if isinstance(plain, str):
                    written.problems.append(Problem(as_text(job.path), plain))
                    return
                for offset in places[name]:
                    write_at(descriptor, plain, offset, sparse=self._sparse)
                    written.bytes += len(plain)
        except OSError as error:
            written.problems.append(Problem(as_text(job.path), describe(error)))
        finally:
            os.close(descriptor)

    def _tree(self, name: bytes) -> list[Node]:
        nodes = self._trees.get(name)
        if nodes is None:
            if len(self._trees) >= _TREES_KEPT:
                self._trees.clear()
            nodes = self._trees[name] = parse_tree(self._repository.load_blob(BlobKind.TREE, name))
        return nodes


class Target:
    """The folder that everything is written below."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Let go of it."""
        self._forget()
        os.close(self._root)

    @contextmanager
    def folder(self, path: bytes) -> Iterator[int]:
        """Lend the descriptor of a folder below; it is kept for the next call. Raises OSError, also at any link."""
        if self._last is None or self._last[0] != path:
            self._forget()
            self._last = (path, self._open(path))
        yield self._last[1]

    def make_folder(self, path: bytes) -> None:
        """Make a folder whose parent is there; one that exists is fine, anything else of that name is an OSError."""
        above, name = os.path.split(path)
        with self.folder(above) as descriptor:
            try:
                os.mkdir(name, 0o700, dir_fd=descriptor)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    raise

    def create(self, folder: bytes, name: bytes) -> int:
        """Make an empty file in place of whatever but a folder has the name. Raises OSError."""
        with self.folder(folder) as descriptor:
            try:
                return os.open(name, _NEW, 0o600, dir_fd=descriptor)
            except FileExistsError:
                os.unlink(name, dir_fd=descriptor)
                return os.open(name, _NEW, 0o600, dir_fd=descriptor)

    def reopen(self, path: bytes) -> int:
        """Open a file that :meth:`create` made. Raises OSError."""
        folder, name = os.path.split(path)
        with self.folder(folder) as descriptor:
            return os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)

    def remove(self, folder: bytes, name: bytes) -> None:
        """Remove a file that came out wrong."""
        with suppress(OSError), self.folder(folder) as descriptor:
            os.unlink(name, dir_fd=descriptor)

    def link(self, first: bytes, other: bytes) -> None:
        """Make ``other`` a hard link to ``first``. Raises OSError."""
        above, name = os.path.split(first)
        descriptor = self._open(above)
        try:
            folder, other_name = os.path.split(other)
            with self.folder(folder) as beside:
                with suppress(FileNotFoundError):
                    os.unlink(other_name, dir_fd=beside)
                os.link(name, other_name, src_dir_fd=descriptor, dst_dir_fd=beside, follow_symlinks=False)
        finally:
            os.close(descriptor)

    def finish_folder(self, path: bytes, node: Node) -> str:
        """Give a folder its metadata; returns what could not be set. Raises OSError."""
        with self.folder(path) as descriptor:
            problem = apply_metadata(descriptor, node)
        self._forget()
        return problem

    def _open(self, path: bytes) -> int:
        descriptor = os.dup(self._root)
        for part in path.split(b"/") if path else ():
            above = descriptor
            try:
                descriptor = os.open(part, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
        return descriptor

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None


def plain_length(length: int, uncompressed_length: int) -> int:
    """Bytes of a blob's plaintext, from what the index says."""
    return uncompressed_length or length - 32


def write_at(descriptor: int, content: bytes, offset: int, *, sparse: bool) -> None:
    """Write all of ``content``; where it is zeros for long enough, leave a hole. Raises OSError."""
    if not sparse or _HOLE not in content:
        _write_all(descriptor, memoryview(content), offset)
        return
    view, start = memoryview(content), 0
    for position in range(0, len(content), len(_HOLE)):
        if content[position : position + len(_HOLE)] == _HOLE:
            _write_all(descriptor, view[start:position], offset + start)
            start = position + len(_HOLE)
    _write_all(descriptor, view[start:], offset + start)


def _write_all(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def apply_metadata(where: int | str, node: Node) -> str:
    """Set owner, attributes, mode and times of an open file or of a path; returns what could not be set.

    Order matters: a change of owner clears setuid and capabilities, a mode can take the right to set attributes away,
    and the times come last. Raises OSError.
    """
    failed = []
    if os.geteuid() == 0:
        os.chown(where, node.uid, node.gid)
    else:
        with suppress(PermissionError):
            os.chown(where, -1, node.gid)
    for name, value in node.xattrs:
        try:
            os.setxattr(where, name, value)
        except OSError as error:
            if os.geteuid() == 0 or not name.startswith(_ROOT_ONLY):
                failed.append(f"its attribute {name} could not be set: {describe(error)}")
    os.chmod(where, node.permissions)
    os.utime(where, ns=(node.atime_ns, node.mtime_ns))
    return "; ".join(failed)


def make_special(folder: int, node: Node) -> str:
    """Make a symbolic link, FIFO or device; returns what could not be set. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(node.name, dir_fd=folder)
    if node.type == "symlink":
        os.symlink(node.linktarget, node.name, dir_fd=folder)
        return _finish_link(folder, node)
    if node.type == "fifo":
        os.mkfifo(node.name, 0o600, dir_fd=folder)
    elif node.type in ("dev", "chardev"):
        kind = stat.S_IFBLK if node.type == "dev" else stat.S_IFCHR
        os.mknod(node.name, kind | 0o600, node.device, dir_fd=folder)
    else:
        raise OSError(errno.EINVAL, f"it is of type {node.type}, which cannot be restored")
    # only a descriptor that names and does not open it can be trusted to be what was just made
    descriptor = os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return apply_metadata(f"/proc/self/fd/{descriptor}", node)
    finally:
        os.close(descriptor)


def _finish_link(folder: int, node: Node) -> str:
    failed = []
    if os.geteuid() == 0:
        os.chown(node.name, node.uid, node.gid, dir_fd=folder, follow_symlinks=False)
    for name, value in node.xattrs:
        try:
            os.setxattr(f"/proc/self/fd/{folder}/{as_text(node.name)}", name, value, follow_symlinks=False)
        except OSError as error:
            if os.geteuid() == 0:
                failed.append(f"its attribute {name} could not be set: {describe(error)}")
    os.utime(node.name, ns=(node.atime_ns, node.mtime_ns), dir_fd=folder, follow_symlinks=False)
    return "; ".join(failed)


def unsafe_name(name: bytes, seen: Sequence[bytes] | set[bytes]) -> str:
    """Say why a name must not be written; empty when it is a plain name of its own."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return "its name is not a plain name; the tree was made to write outside the target"
    return "there are two of that name in one folder" if name in seen else ""
