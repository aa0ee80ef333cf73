"""The work on content: read, hash, skip what is known, compress, seal, put whole packs.

A bench does jobs one after the other and knows nothing of processes: :mod:`backup.crew` runs one in each worker
process, or a single one in its own for small runs. Neither the index nor the snapshot is its business; it hands back
encoded nodes, the ids of trees that were complete, and the records of the packs that are safely stored.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backup.claims import Claims
from backup.crypto import MasterKey
from backup.pack import BlobKind, PackBuilder, PackRecord, blob_id
from backup.portions import Content, Moment, Portion, PortionReader, Surroundings, open_to_read
from backup.putting import Putting
from backup.sources.files import describe
from backup.storage.base import Storage
from backup.warming import Warming

_PACKS_IN_FLIGHT = 2
"""Finished packs that may wait for the storage while the bench goes on."""

_EXPECT_NEW_AFTER = 8
"""So many new pieces of files in a row, and the next is taken for new, too, until one is not."""


@dataclass(frozen=True, slots=True)
class ReadFiles:
    """Job: read these files. Result: a :class:`~backup.portions.PortionRead` for each portion."""

    portions: tuple[Portion, ...]


@dataclass(frozen=True, slots=True)
class ReadExtent:
    """Job: save the consecutive chunks of a big file that the archiver cut. Result: an :class:`ExtentRead`."""

    path: str
    moment: Moment
    offset: int
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SavePieces:
    """Job: save these pieces of streams. Result: their ids, a tuple."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SaveTrees:
    """Job: save these trees, which are new. Result: None."""

    trees: tuple[tuple[bytes, bytes], ...]
    """Id and content."""


Job = ReadFiles | ReadExtent | SavePieces | SaveTrees


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
    """Does the jobs of one process."""

    def __init__(self, key: MasterKey, storage: Storage, claims: Claims, surroundings: Surroundings) -> None:
        self._tally = Tally()
        self._is_known = surroundings.is_known
        self._claims = claims
        self._reader = PortionReader(surroundings, self._save, self._save_tree)
        self._warming = Warming(trusts_parent=surroundings.trusts_parent)
        self._builders = {kind: PackBuilder(key, kind) for kind in BlobKind}
        self._putting = Putting(storage, at_once=_PACKS_IN_FLIGHT)
        self._new_in_a_row = 0

    def expect(self, job: Job) -> None:
        """Have small files come; big ones the system reads ahead by itself."""
        if isinstance(job, ReadFiles):
            self._warming.expect(job.portions)

    def do(self, job: Job) -> object:
        """Do one job. Raises BackupError when the repository cannot take it."""
        match job:
            case ReadFiles():
                read = self._reader.read(job.portions)
                self._warming.looked_back()
                return read
            case ReadExtent():
                return self._read_extent(job)
            case SavePieces():
                return tuple(self._save([piece])[0] for piece in job.pieces)
            case SaveTrees():
                for name, content in job.trees:
                    self._save_tree(name, content)
                return None

    def report(self) -> Saved:
        """Give what became durable and what was saved since the last call. Raises StorageError of a pack."""
        tally, self._tally = self._tally, Tally()
        return Saved(self._putting.stored(), tally)

    def finish(self) -> None:
        """Put the packs begun and wait until all are durable."""
        self._putting.finish(self._builders.values())

    def close(self) -> None:
        """End the threads; what they are putting is put."""
        self._putting.close()

    # ---- blobs and packs

    def _save(self, contents: Sequence[Content]) -> list[bytes]:
        if self._new_in_a_row < _EXPECT_NEW_AFTER:
            return [self._save_one(content) for content in contents]
        # seal first and ask later: where all is new, as in a first backup, that saves one of two hashes
        saved = self._builders[BlobKind.DATA].add_unnamed(contents, self._is_new)
        for content, (_, stored) in zip(contents, saved, strict=True):
            if stored:
                self._tally.data_blobs += 1
                self._tally.bytes_added += len(content)
                self._tally.bytes_stored += stored
        self._put_full(BlobKind.DATA)
        return [name for name, _ in saved]

    def _save_one(self, content: Content) -> bytes:
        name = blob_id(content)
        if self._is_new(name):
            self._add(BlobKind.DATA, name, content)
            self._tally.data_blobs += 1
        return name

    def _is_new(self, name: bytes) -> bool:
        new = not self._is_known(BlobKind.DATA, name) and self._claims.claim(name)
        self._new_in_a_row = self._new_in_a_row + 1 if new else 0
        return new

    def _save_tree(self, name: bytes, content: bytes) -> None:
        # a tree and a file may have the same bytes: they are claimed apart
        if self._claims.claim(name[::-1]):
            self._add(BlobKind.TREE, name, content)
            self._tally.tree_blobs += 1

    def _add(self, kind: BlobKind, name: bytes, content: Content) -> None:
        self._tally.bytes_stored += self._builders[kind].add(name, content)
        self._tally.bytes_added += len(content)
        self._put_full(kind)

    def _put_full(self, kind: BlobKind) -> None:
        builder = self._builders[kind]
        if builder.full:
            self._putting.put(builder.finish())

    # ---- big files

    def _read_extent(self, job: ReadExtent) -> ExtentRead:
        ids, offset = [], job.offset
        try:
            descriptor = open_to_read(job.path)
            try:
                for length in job.lengths:
                    content = os.pread(descriptor, length, offset)
                    if len(content) != length:
                        return ExtentRead((), "it changed while it was read")
                    ids += self._save([content])
                    offset += length
                same = Moment.of(os.fstat(descriptor)) == job.moment
            finally:
                os.close(descriptor)
        except OSError as error:
            return ExtentRead((), describe(error))
        return ExtentRead(tuple(ids), "" if same else "it changed while it was read")
