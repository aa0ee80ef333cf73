"""Writes entries of a snapshot into a folder: the part of a restore that worker processes do.

Where there is a file already, the rule decides whether it is left alone, and only the blobs that differ are written. A
file whose content cannot be read whole is removed again: half a file that looks like a whole one is worse than none.
What can be written where is the business of `backup.target`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from backup.around_cache import Gathering
from backup.errors import CorruptData, StorageError
from backup.overwriting import Overwrite, Verdict, judge, matches_blob
from backup.pack import BlobKind
from backup.reader import BlobReader, reads
from backup.repository import Repository
from backup.sources.base import Problem
from backup.sources.files import describe
from backup.storage.reading_ahead import announced, expect
from backup.target import HOLE, Target, apply_metadata, drop_other_xattrs, make_special, parts, write_at
from backup.tree import Node, as_text, parse_tree

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
    compare: bool = False
    """Whether the file was there before, so that only what differs is to be written."""


WriteJob = WriteLeaves | WriteBlobs


@dataclass(slots=True)
class Written:
    """What became of a job."""

    leaves: int = 0
    bytes: int = 0
    unchanged: int = 0
    """Of the leaves, those whose content was there already."""
    left_alone: int = 0
    """Of the leaves, those that the rule forbids to touch."""
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
    reused: bool = False
    """Whether the file was there before and is written in place."""
    touched: bool = False
    """Whether anything was written."""
    waited: bool = False
    """Whether any blob had to come."""

    @property
    def path(self) -> bytes:
        return os.path.join(self.folder, self.node.name)


class WritingBench:
    """Does the writing of one process, into the folder ``target``. Without a rule nothing is there already."""

    def __init__(
        self,
        repository: Repository,
        target: str,
        *,
        sparse: bool,
        overwrite: Overwrite | None = None,
        read_next: bool = False,
    ) -> None:
        self._repository = repository
        self._reader = BlobReader(repository.storage, repository.key)
        self._target = Target(target)
        self._sparse = sparse
        self._overwrite = overwrite
        self._trees: dict[bytes, list[Node]] = {}
        self._read_next = read_next
        self._gathering: Gathering | None = None

    def expect(self, job: WriteJob) -> None:
        """Have the blobs of a big file come; which ones small files need is known when their trees are read."""
        if isinstance(job, WriteBlobs) and not job.compare:
            names = dict.fromkeys(name for _, name in job.blobs)
            known = [name for name in names if self._repository.index.contains(BlobKind.DATA, name)]
            for wanted in self._repository.plan_reads(BlobKind.DATA, known):
                expect(self._repository.storage, reads(wanted))

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
        if self._gathering is not None:
            self._gathering.close()
        self._target.close()

    def _write_leaves(self, job: WriteLeaves, written: Written) -> None:
        files: list[_File] = []
        wanted: dict[bytes, list[tuple[_File, int]]] = {}
        for portion in job.portions:
            nodes = self._tree(portion.tree)
            for position in portion.leaves:
                node = nodes[position]
                verdict = self._judge(portion.folder, node)
                if verdict is Verdict.LEAVE:
                    written.leaves += 1
                    written.left_alone += 1
                elif node.type == "file":
                    file = _File(portion.folder, node)
                    files.append(file)
                    self._reuse(file, verdict)
                    self._want(file, wanted, trusted=verdict is Verdict.TRUST and file.reused)
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
            if not file.waited:
                self._complete(file, written)

    def _judge(self, folder: bytes, node: Node) -> Verdict:
        if self._overwrite is None:
            return Verdict.CREATE
        try:
            return judge(self._overwrite, node, self._target.status(folder, node.name))
        except OSError:
            return Verdict.CREATE  # which will fail for the same reason, and say so

    def _reuse(self, file: _File, verdict: Verdict) -> None:
        """Open what is there; where that cannot be done, the file is made anew."""
        if verdict is not Verdict.CREATE:
            with suppress(OSError):
                to_write = verdict is Verdict.COMPARE
                file.descriptor = self._target.open_there(file.folder, file.node.name, to_write=to_write)
                file.reused = True

    def _want(self, file: _File, wanted: dict[bytes, list[tuple[_File, int]]], *, trusted: bool) -> None:
        offset = 0
        for name in () if trusted else file.node.content or ():
            location = self._repository.index.lookup(BlobKind.DATA, name)
            length = plain_length(location.length, location.uncompressed_length) if location else 0
            if not (file.reused and location and matches_blob(file.descriptor, offset, length, name)):
                wanted.setdefault(name, []).append((file, offset))
                file.missing += 1
            offset += length
        if offset != file.node.size and not trusted:
            file.failure = f"its blobs hold {offset} bytes, and its metadata say {file.node.size}"
        file.waited = file.missing > 0

    def _blobs(self, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | str]]:
        """Give each blob, or the reason why it cannot be had."""
        index, known = self._repository.index, []
        for name in names:
            if index.contains(BlobKind.DATA, name):
                known.append(name)
            else:
                yield name, f"blob {name.hex()[:8]} is in no pack that an index names"
        for wanted in announced(self._repository.storage, self._repository.plan_reads(BlobKind.DATA, known), reads):
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
            file.touched = True
            write_at(file.descriptor, plain, offset, sparse=self._sparse and not file.reused)
        except OSError as error:
            file.failure = describe(error)

    def _complete(self, file: _File, written: Written) -> None:
        try:
            if not file.failure:
                if file.descriptor < 0:
                    file.descriptor = self._target.create(file.folder, file.node.name)
                if file.reused:
                    fit(file.descriptor, file.node)
                elif self._sparse and file.node.size >= len(HOLE):
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
            if file.descriptor >= 0 and (file.touched or not file.reused):
                self._target.remove(file.folder, file.node.name)
        else:
            written.leaves += 1
            written.unchanged += file.reused and not file.touched

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
        try:
            descriptor = self._target.reopen(job.path, to_read=job.compare)
        except OSError as error:
            written.problems.append(Problem(as_text(job.path), describe(error)))
            return
        gathering = self._gathering = self._gathering or Gathering(read_next=self._read_next)
        gathering.begin(descriptor)
        try:
            for offset, name in job.blobs:
                if not (job.compare and self._is_there(descriptor, offset, name)):
                    places.setdefault(name, []).append(offset)
            for name, plain in self._blobs(places):
                if isinstance(plain, str):
                    written.problems.append(Problem(as_text(job.path), plain))
                    return
                for offset in places[name]:
                    for start, part in parts(plain, sparse=self._sparse and not job.compare):
                        gathering.write(part, offset + start)
                    written.bytes += len(plain)
            gathering.flush()
        except OSError as error:
            written.problems.append(Problem(as_text(job.path), describe(error)))
        finally:
            gathering.begin(-1)
            os.close(descriptor)

    def _is_there(self, descriptor: int, offset: int, name: bytes) -> bool:
        location = self._repository.index.lookup(BlobKind.DATA, name)
        if location is None:
            return False
        return matches_blob(descriptor, offset, plain_length(location.length, location.uncompressed_length), name)

    def _tree(self, name: bytes) -> list[Node]:
        nodes = self._trees.get(name)
        if nodes is None:
            if len(self._trees) >= _TREES_KEPT:
                self._trees.clear()
            nodes = self._trees[name] = parse_tree(self._repository.load_blob(BlobKind.TREE, name))
        return nodes


def fit(descriptor: int, node: Node) -> None:
    """Take away what a file that was there has beyond its node. Raises OSError."""
    if os.fstat(descriptor).st_size != node.size:
        os.ftruncate(descriptor, node.size)
    drop_other_xattrs(descriptor, node)


def plain_length(length: int, uncompressed_length: int) -> int:
    """Bytes of a blob's plaintext, from what the index says."""
    return uncompressed_length or length - 32


def unsafe_name(name: bytes, seen: Sequence[bytes] | set[bytes]) -> str:
    """Say why a name must not be written; empty when it is a plain name of its own."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return "its name is not a plain name; the tree was made to write outside the target"
    return "there are two of that name in one folder" if name in seen else ""
