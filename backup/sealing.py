"""The work on content: read, hash, skip what is known, compress, seal, put whole packs.

A bench does jobs one after the other and knows nothing of processes: :mod:`backup.crew` runs one in each worker
process, or a single one in its own for small runs. Neither trees, nor the index, nor the snapshot are its business; it
hands back encoded file nodes and the records of the packs that are safely stored.
"""

import grp
import os
import pwd
import stat
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from backup.chunker import MIN_BYTES, Chunker
from backup.claims import Claims
from backup.crypto import MasterKey
from backup.pack import BlobKind, FinishedPack, PackBuilder, PackRecord, blob_id
from backup.sources.base import Xattrs
from backup.sources.files import describe, open_path, read_xattrs
from backup.storage.base import FileKind, Storage
from backup.tree import encode_head, encode_name, encode_owner, encode_rest, go_mode

READ_ATTEMPTS = 3
"""How often a file that changes while it is read is read, before the last result is taken and marked."""
_PACKS_IN_FLIGHT = 2
"""Finished packs that may wait for the storage while the bench goes on."""

IsKnown = Callable[[BlobKind, bytes], bool]
"""Whether a blob is in the repository."""


class Moment(NamedTuple):
    """What tells that a file has not changed between two looks."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Moment":
        """Take it from a stat."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True, slots=True)
class ReadFiles:
    """Job: read these files whole. Result: a :class:`FileRead` for each."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadExtent:
    """Job: save the consecutive chunks of a big file that the archiver cut. Result: an :class:`ExtentRead`."""

    path: str
    moment: Moment
    offset: int
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SaveTrees:
    """Job: save these trees, which are new. Result: None."""

    trees: tuple[tuple[bytes, bytes], ...]
    """Id and content."""


Job = ReadFiles | ReadExtent | SaveTrees


class FileRead(NamedTuple):
    """What became of one file."""

    node: str | None
    """The encoded node; None when the file could not be read."""
    size: int
    problem: str
    """Why it is missing or not as one moment saw it; empty when all is well."""
    rereads: int


class ExtentRead(NamedTuple):
    """What became of one extent."""

    ids: tuple[bytes, ...]
    problem: str
    """Empty when all is well."""


@dataclass(slots=True)
class Tally:
    """How much was saved."""

    data_blobs: int = 0
    tree_blobs: int = 0
    bytes_added: int = 0
    """Plaintext of new blobs."""
    bytes_stored: int = 0
    """The same, compressed and sealed."""

    def add(self, other: "Tally") -> None:
        """Sum up."""
        self.data_blobs += other.data_blobs
        self.tree_blobs += other.tree_blobs
        self.bytes_added += other.bytes_added
        self.bytes_stored += other.bytes_stored


@dataclass(frozen=True, slots=True)
class Saved:
    """A bench's report: packs that became durable, and what was saved, since the last one."""

    packs: list[PackRecord]
    tally: Tally


class SealingBench:
    """Does the jobs of one process. ``is_known`` tells which blobs the repository has already."""

    def __init__(
        self, key: MasterKey, storage: Storage, polynomial: int, is_known: IsKnown, claims: Claims
    ) -> None:
        self._tally = Tally()
        self._storage = storage
        self._is_known = is_known
        self._claims = claims
        self._chunker = Chunker(polynomial)
        self._builders = {kind: PackBuilder(key, kind) for kind in BlobKind}
        self._putter = ThreadPoolExecutor(_PACKS_IN_FLIGHT, thread_name_prefix="put")
        self._putting: deque[tuple[PackRecord, Future[None]]] = deque()
        self._stored: list[PackRecord] = []

    def do(self, job: Job) -> object:
        """Do one job. Raises BackupError when the repository cannot take it."""
        match job:
            case ReadFiles():
                return [self._read_file(path) for path in job.paths]
            case ReadExtent():
                return self._read_extent(job)
            case SaveTrees():
                for name, content in job.trees:
                    self._add(BlobKind.TREE, name, content)
                self._tally.tree_blobs += len(job.trees)
                return None

    def report(self) -> Saved:
        """Give what became durable and what was saved since the last call. Raises StorageError of a pack."""
        while self._putting and self._putting[0][1].done():
            self._settle()
        packs, self._stored = self._stored, []
        tally, self._tally = self._tally, Tally()
        return Saved(packs, tally)

    def finish(self) -> None:
        """Put the packs begun and wait until all are durable."""
        for builder in self._builders.values():
            if builder.count:
                self._put(builder.finish())
        while self._putting:
            self._settle()

    def close(self) -> None:
        """End the threads; what they are putting is put."""
        self._putter.shutdown(cancel_futures=True)

    # ---- blobs and packs

    def _save(self, content: bytes | memoryview) -> bytes:
        name = blob_id(content)
        if not self._is_known(BlobKind.DATA, name) and self._claims.claim(name):
            self._add(BlobKind.DATA, name, content)
            self._tally.data_blobs += 1
        return name

    def _add(self, kind: BlobKind, name: bytes, content: bytes | memoryview) -> None:
        builder = self._builders[kind]
        self._tally.bytes_stored += builder.add(name, content)
        self._tally.bytes_added += len(content)
        if builder.full:
            self._put(builder.finish())

    def _put(self, pack: FinishedPack) -> None:
        while len(self._putting) >= _PACKS_IN_FLIGHT:
            self._settle()
        future = self._putter.submit(self._storage.put, FileKind.DATA, pack.id, pack.buffers)
        self._putting.append((pack.record, future))

    def _settle(self) -> None:
        record, future = self._putting.popleft()
        future.result()
        self._stored.append(record)

    # ---- files

    def _read_file(self, path: str) -> FileRead:
        rereads = 0
        while True:
            try:
                descriptor = open_to_read(path)
                try:
                    before = os.fstat(descriptor)
                    if not stat.S_ISREG(before.st_mode):
                        return FileRead(None, 0, "it is no regular file any more", rereads)
                    ids, size = self._read_content(descriptor, before.st_size)
                    xattrs = read_xattrs(descriptor)
                    after = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                return FileRead(None, 0, describe(error), rereads)
            unchanged = Moment.of(before) == Moment.of(after) and size == after.st_size
            if unchanged or rereads == READ_ATTEMPTS - 1:
                node = encode_file(os.path.basename(path), before, size, ids, xattrs)
                return FileRead(node, size, "" if unchanged else "it changed while it was read", rereads)
            rereads += 1

    def _read_content(self, descriptor: int, expected: int) -> tuple[Sequence[bytes], int]:
        if expected < MIN_BYTES:
            content = os.read(descriptor, max(expected, 4096) + 1)
            # a file that grew behind these bytes is told by its second stat; some, as in /proc, claim to be empty
            if len(content) == expected and expected:
                return (self._save(content),), expected
            if not content:
                return (), 0
            os.lseek(descriptor, 0, os.SEEK_SET)
        size, ids = 0, []
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            for chunk in self._chunker.chunks(file.readinto):
                ids.append(self._save(chunk))
                size += len(chunk)
        return ids, size

    def _read_extent(self, job: ReadExtent) -> ExtentRead:
        ids, offset = [], job.offset
        try:
            descriptor = open_to_read(job.path)
            try:
                for length in job.lengths:
                    content = os.pread(descriptor, length, offset)
                    if len(content) != length:
                        return ExtentRead((), "it changed while it was read")
                    ids.append(self._save(content))
                    offset += length
                same = Moment.of(os.fstat(descriptor)) == job.moment
            finally:
                os.close(descriptor)
        except OSError as error:
            return ExtentRead((), describe(error))
        return ExtentRead(tuple(ids), "" if same else "it changed while it was read")


def open_to_read(path: str) -> int:
    """Open a file without following a link, waiting for a FIFO's writer, or, where we may, touching its atime."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return open_path(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        return open_path(path, flags)


def encode_file(name: str, status: os.stat_result, size: int, ids: Sequence[bytes], xattrs: Xattrs) -> str:
    """Encode the node of a regular file; ``size`` is what was read."""
    return encode_status(encode_name(name), "file", status, size) + encode_rest(content=ids, xattrs=xattrs)


def encode_status(json_name: str, kind: str, status: os.stat_result, size: int = 0) -> str:
    """Encode the head of a node from what the system says of an entry."""
    return encode_head(
        json_name,
        kind,
        go_mode(status.st_mode),
        status.st_mtime_ns,
        status.st_ctime_ns,
        _owner(status.st_uid, status.st_gid),
        status.st_ino,
        status.st_dev,
        size,
        status.st_nlink,
    )


@cache
def _owner(uid: int, gid: int) -> str:
    return encode_owner(uid, gid, _name_of_user(uid), _name_of_group(gid))


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
