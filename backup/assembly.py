"""Builds the trees of a new snapshot out of a walk, the parent snapshot and what the crew read.

Regular files go to the crew by folders; nobody looks at them here, and content is never read here but for finding the
cut points of big files. A folder that holds only files comes back as the id of its tree. The tree of any other is made
here when its last entry is there, so that memory holds only folders under way.
"""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backup.chunker import Chunker
from backup.crew import Crew
from backup.errors import CorruptData, FileMissing, Interrupted
from backup.pack import BlobKind, blob_id
from backup.portions import (
    READ_ATTEMPTS,
    FileRead,
    IsKnown,
    Moment,
    Portion,
    PortionRead,
    encode_file,
    encode_status,
    open_to_read,
)
from backup.repository import Repository
from backup.sealing import ExtentRead, Job, ReadExtent, ReadFiles, SaveTrees, Tally
from backup.snapshot import Snapshot, SnapshotSummary
from backup.sources.base import Capture, Enter, Files, Leaf, Problem, Stream, Xattrs
from backup.sources.files import describe, read_xattrs
from backup.sources.streams import made_up
from backup.streams import Lot, StreamFile, StreamFiles
from backup.tree import (
    TYPE_OF_FORMAT,
    encode_name,
    encode_rest,
    encode_tree,
    raw_bytes,
    split_tree,
    subtree_of,
)

BATCH_FILES = 256
_BATCH_PORTIONS = 32
_EXTENT_BYTES = 16 << 20
_TREES_BYTES = 1 << 20
_PROGRESS_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. Totals are those of the parent snapshot, None without one."""

    files: int
    bytes: int
    path: str
    files_expected: int | None = None
    bytes_expected: int | None = None


@dataclass(slots=True)
class _Folder:
    """A directory whose tree is not complete yet."""

    path: str
    above: "_Folder | None"
    head: str
    """Its own encoded metadata; empty for the root."""
    xattrs: Xattrs
    old_tree: bytes | None
    """Its tree in the parent snapshot."""
    old_node: str | None
    old: dict[str, str] | None = None
    """The nodes of ``old_tree`` by encoded name, once they are asked for."""
    files: list[str] | None = None
    """Regular files that are not handed out yet."""
    mixed: bool = False
    """Whether it holds more than one lot of files."""
    tree: bytes | None = None
    """Its tree, when the crew made it."""
    nodes: dict[bytes, str] = field(default_factory=dict)
    made_up: "dict[str, _Folder]" = field(default_factory=dict)
    """Folders below that streams lie in, by path: open for as long as this one is."""
    awaited: int = 1
    """Files under way, folders below, and one for the walk itself."""


@dataclass(slots=True)
class _BigFile:
    """A file whose extents are under way."""

    folder: _Folder
    name: str
    attempt: int
    status: os.stat_result | None = None
    """As it was when its reading began."""
    xattrs: Xattrs = ()
    size: int = 0
    extents: list[ExtentRead | None] = field(default_factory=list)
    cut: bool = False


class Assembly:
    """The state of one run: which folders are open, what is waiting, what has been counted."""

    def __init__(
        self,
        repository: Repository,
        capture: Capture,
        crew: Crew[Job],
        parent: Snapshot | None,
        stopped: Callable[[], bool],
        progress: Callable[[Progress], None] | None,
        is_known: IsKnown,
    ) -> None:
        self.files_new = self.files_changed = self.files_unmodified = 0
        self.dirs_new = self.dirs_changed = self.dirs_unmodified = 0
        self.bytes = self.rereads = 0
        self._repository = repository
        self._capture = capture
        self._crew = crew
        self._parent = parent
        self._stopped = stopped
        self._progress = progress
        self._told_at = 0.0
        self._is_known = is_known
        self._chunker = Chunker(repository.config.chunker_polynomial)
        self._batch: list[tuple[_Folder, Portion]] = []
        self._batch_files = 0
        self._rest: list[tuple[_Folder, Portion]] = []
        """Files that a job gave back unread."""
        self._again: list[_BigFile] = []
        self._streams = StreamFiles[_Folder](self._chunker, self._submit_lot)
        self._trees: list[tuple[bytes, bytes]] = []
        self._trees_bytes = 0
        self._new_trees: set[bytes] = set()
        self.fingerprints: list[tuple[bytes, bytes]] = []
        """Trees of folders that hold files only, and how the files looked."""
        self._lost: set[bytes] = set()
        """Trees that the index names and that cannot be read: they are saved again."""
        self._root_tree = b""

    @property
    def files(self) -> int:
        """Leaves done."""
        return self.files_new + self.files_changed + self.files_unmodified

    @property
    def folders(self) -> int:
        """Directories done."""
        return self.dirs_new + self.dirs_changed + self.dirs_unmodified

    # ---- the walk

    def make_trees(self) -> bytes:
        """Walk, save everything that is new, and give the root tree's id. Raises Interrupted."""
        folder = root = _Folder("/", None, "", (), self._parent.tree if self._parent else None, None)
        for step in self._capture.walk():
            if isinstance(step, Files):
                self._hand_out(folder)
                folder.files = step.names
            elif isinstance(step, Leaf):
                self._leaf(folder, step)
            elif isinstance(step, Stream):
                self._stream(folder, step)
            elif isinstance(step, Enter):
                folder = self._enter(folder, step)
                self._breathe(step.path)
            else:
                self._hand_out(folder, whole=not folder.mixed)
                left, folder = folder, folder.above or root
                self._leave(left)
        self._hand_out(root)
        self._leave(root)
        while True:
            self._submit_batch()
            self._streams.submit()
            if not (self._crew.busy or self._rest or self._again):
                break
            self._breathe("")
            self._collect(block=True)
        self._submit_trees()
        self.settle()
        return self._root_tree

    def settle(self) -> None:
        """Wait until what was handed out is durable."""
        while self._crew.busy:
            for _ in self._crew.results(block=True):
                pass
        self._crew.finish()

    def summary(self, started_at: datetime, ended_at: datetime, tally: Tally) -> SnapshotSummary:
        """What the run did, in restic's terms."""
        return SnapshotSummary(
            backup_start=started_at,
            backup_end=ended_at,
            files_new=self.files_new,
            files_changed=self.files_changed,
            files_unmodified=self.files_unmodified,
            dirs_new=self.dirs_new,
            dirs_changed=self.dirs_changed,
            dirs_unmodified=self.dirs_unmodified,
            data_blobs=tally.data_blobs,
            tree_blobs=tally.tree_blobs,
            data_added=tally.bytes_added,
            data_added_packed=tally.bytes_stored,
            total_files_processed=self.files,
            total_bytes_processed=self.bytes,
        )

    def _enter(self, above: _Folder, step: Enter) -> _Folder:
        above.mixed = True
        json_name = encode_name(step.name)
        old_node = self._old_nodes(above).get(json_name)
        head = encode_status(json_name, "dir", step.status)
        above.awaited += 1
        old_tree = subtree_of(old_node) if old_node else None
        return _Folder(step.path, above, head, step.xattrs, old_tree, old_node)

    def _old_nodes(self, folder: _Folder) -> dict[str, str]:
        if folder.old is None:
            folder.old = {}
            if folder.old_tree is not None:
                try:
                    folder.old = split_tree(self._repository.load_blob(BlobKind.TREE, folder.old_tree))
                except (CorruptData, FileMissing):
                    self._lost.add(folder.old_tree)  # all below counts as new: the run mends what the parent lost
        return folder.old

    def _leaf(self, folder: _Folder, leaf: Leaf) -> None:
        folder.mixed = True
        name, status = leaf.name, leaf.status
        json_name = encode_name(name)
        kind = TYPE_OF_FORMAT[status.st_mode & 0o170000]
        device = status.st_rdev if kind in ("dev", "chardev") else 0
        head = encode_status(json_name, kind, status)
        node = head + encode_rest(linktarget=leaf.linktarget, xattrs=leaf.xattrs, device=device)
        self._count(self._old_nodes(folder).get(json_name), node)
        folder.nodes[raw_bytes(name)] = node

    def _stream(self, folder: _Folder, stream: Stream) -> None:
        folder = self._made_up(folder, stream.path, stream)
        folder.mixed = True
        folder.awaited += 1
        if done := self._streams.read(folder, stream):
            self._stream_read(done)

    def _made_up(self, folder: _Folder, path: str, stream: Stream) -> _Folder:
        """Return the folder that a stream lies in: the open one, or one below it, which may be new."""
        if path == folder.path:
            return folder
        above = self._made_up(folder, os.path.dirname(path), stream)
        if path not in above.made_up:
            status = made_up(stat.S_IFDIR | 0o700, datetime.fromtimestamp(stream.status.st_mtime, UTC))
            above.made_up[path] = self._enter(above, Enter(path, os.path.basename(path), status, ()))
        return above.made_up[path]

    def _leave(self, folder: _Folder) -> None:
        for below in folder.made_up.values():
            self._leave(below)
        self._arrived(folder)

    def _submit_lot(self, job: Job, lot: Lot[_Folder]) -> None:
        self._crew.submit(job, lot)
        self._breathe("")

    def _stream_read(self, file: StreamFile[_Folder]) -> None:
        node = encode_file(encode_name(file.name), file.status, file.size, file.ids, ())
        self._file_read(file.folder, file.name, FileRead(node, file.size, "", 0))

    def _count(self, old_node: str | None, node: str) -> None:
        if old_node is None:
            self.files_new += 1
        elif old_node == node:
            self.files_unmodified += 1
        else:
            self.files_changed += 1

    # ---- content

    def _hand_out(self, folder: _Folder, *, whole: bool = False) -> None:
        """Hand out the files that the walk found in a folder; ``whole`` tells that there is nothing else in it."""
        names, folder.files = folder.files, None
        if names is None:
            return
        folder.mixed = True
        whole = whole and len(names) <= BATCH_FILES
        for start in range(0, len(names), BATCH_FILES):
            self._hand_out_portion(folder, tuple(names[start : start + BATCH_FILES]), whole=whole)

    def _hand_out_portion(self, folder: _Folder, names: tuple[str, ...], *, whole: bool) -> None:
        folder.awaited += 1
        self._batch.append((folder, Portion(folder.path, names, folder.old_tree, whole)))
        self._batch_files += len(names)
        if self._batch_files >= BATCH_FILES or len(self._batch) >= _BATCH_PORTIONS:
            self._submit_batch()
            self._breathe(folder.path)

    def _submit_batch(self) -> None:
        batch, self._batch, self._batch_files = self._batch, [], 0
        if batch:
            self._crew.submit(ReadFiles(tuple(portion for _, portion in batch)), [folder for folder, _ in batch])
        rest, self._rest = self._rest, []
        for folder, portion in rest:
            self._crew.submit(ReadFiles((portion,)), [folder])
        again, self._again = self._again, []
        for big in again:
            self._cut(big)

    def _cut(self, big: _BigFile) -> None:
        """Find the chunks of a big file, hand them out by extents."""
        path = os.path.join(big.folder.path, big.name)
        try:
            descriptor = open_to_read(path)
            try:
                self._cut_open(big, path, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            big.extents.append(ExtentRead((), describe(error)))
        big.cut = True
        self._finish_big(big)

    def _cut_open(self, big: _BigFile, path: str, descriptor: int) -> None:
        big.status = status = os.fstat(descriptor)
        big.xattrs = read_xattrs(descriptor)
        moment, lengths, extent = Moment.of(status), list[int](), 0
        for length in self._chunker.cuts(lambda at, count: os.pread(descriptor, count, at), status.st_size):
            lengths.append(length)
            extent += length
            if extent >= _EXTENT_BYTES:
                # the crew reads it whole and soon; here only a part of it is looked at
                os.posix_fadvise(descriptor, big.size, extent, os.POSIX_FADV_WILLNEED)
                self._submit_extent(big, path, moment, lengths)
                lengths, extent = [], 0
        if lengths:
            self._submit_extent(big, path, moment, lengths)

    def _submit_extent(self, big: _BigFile, path: str, moment: Moment, lengths: list[int]) -> None:
        job = ReadExtent(path, moment, big.size, tuple(lengths))
        big.size += sum(lengths)
        big.extents.append(None)
        self._crew.submit(job, (big, len(big.extents) - 1))
        self._breathe(path)

    def _finish_big(self, big: _BigFile) -> None:
        done = [extent for extent in big.extents if extent is not None]
        if not big.cut or len(done) < len(big.extents):
            return
        problem = next((extent.problem for extent in done if extent.problem), "")
        if not problem and big.status and big.size != big.status.st_size:
            problem = "it changed while it was read"
        if problem and big.attempt < READ_ATTEMPTS:
            self.rereads += 1
            self._again.append(_BigFile(big.folder, big.name, big.attempt + 1))
            return
        node = None
        if big.status and not any(extent.problem and not extent.ids for extent in done):
            ids = [name for extent in done for name in extent.ids]
            node = encode_file(encode_name(big.name), big.status, big.size, ids, big.xattrs)
        self._file_read(big.folder, big.name, FileRead(node, big.size, problem, 0))

    def _collect(self, *, block: bool) -> None:
        for token, result in self._crew.results(block=block):
            match token, result:
                case list(), list():
                    for folder, read in zip(token, result, strict=True):
                        self._portion_read(folder, read)
                case Lot(), tuple():
                    for file in token.arrived(result):
                        self._stream_read(file)
                case (_BigFile() as big, int(number)), ExtentRead():
                    big.extents[number] = result
                    self._finish_big(big)

    def _portion_read(self, folder: _Folder, read: PortionRead) -> None:
        self.files_new += read.new
        self.files_changed += read.changed
        self.files_unmodified += read.unmodified
        self.bytes += read.bytes
        self.rereads += read.rereads
        self._capture.left_out += read.left_out
        self._capture.problems += read.problems
        folder.nodes.update(read.nodes)
        folder.tree = read.tree
        if read.tree is not None and read.fingerprint:
            self.fingerprints.append((read.tree, read.fingerprint))
        if read.old_tree_lost and folder.old_tree is not None:
            self._lost.add(folder.old_tree)
        middle = (len(read.rest) + 1) // 2
        for names in (read.rest[:middle], read.rest[middle:]):  # so that one folder of large files employs everybody
            if names:
                folder.awaited += 1
                self._rest.append((folder, Portion(folder.path, names, folder.old_tree, whole=False)))
        for name in read.big:
            folder.awaited += 1
            self._again.append(_BigFile(folder, name, 1))
        self._arrived(folder)

    def _file_read(self, folder: _Folder, name: str, read: FileRead) -> None:
        self.rereads += read.rereads
        if read.problem:
            self._capture.problems.append(Problem(os.path.join(folder.path, name), read.problem))
        if read.node is not None:
            self._count(self._old_nodes(folder).get(encode_name(name)), read.node)
            self.bytes += read.size
            folder.nodes[raw_bytes(name)] = read.node
        self._arrived(folder)

    # ---- trees

    def _arrived(self, folder: _Folder) -> None:
        """Something that a folder waited for is there; complete it, and those above it, when it was the last."""
        current: _Folder | None = folder
        while current is not None:
            current.awaited -= 1
            if current.awaited:
                return
            tree = current.tree or self._save_tree(encode_tree(node for _, node in sorted(current.nodes.items())))
            if current.above is None:
                self._root_tree = tree
            else:
                self._complete(current, current.above, tree)
            current = current.above

    def _complete(self, folder: _Folder, above: _Folder, tree: bytes) -> None:
        node = folder.head + encode_rest(xattrs=folder.xattrs, subtree=tree)
        if folder.old_node is None:
            self.dirs_new += 1
        elif folder.old_node == node:
            self.dirs_unmodified += 1
        else:
            self.dirs_changed += 1
        above.nodes[raw_bytes(os.path.basename(folder.path))] = node
        folder.nodes.clear()

    def _save_tree(self, content: bytes) -> bytes:
        name = blob_id(content)
        known = name not in self._lost and self._is_known(BlobKind.TREE, name)
        if not known and name not in self._new_trees:
            self._new_trees.add(name)
            self._trees.append((name, content))
            self._trees_bytes += len(content)
            if self._trees_bytes >= _TREES_BYTES:
                self._submit_trees()
        return name

    def _submit_trees(self) -> None:
        if self._trees:
            self._crew.submit(SaveTrees(tuple(self._trees)), None)
            self._trees, self._trees_bytes = [], 0

    # ---- in between

    def _breathe(self, path: str) -> None:
        """Take results in, tell the progress, and see whether to stop. Raises Interrupted."""
        self._collect(block=False)
        if self._stopped():
            raise Interrupted("the backup was stopped before its snapshot", hint="the next run goes on from here")
        if self._progress is None:
            return
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_EVERY_SECONDS:
            self._told_at = now
            expected = self._parent.summary if self._parent else None
            self._progress(
                Progress(
                    self.files,
                    self.bytes,
                    path,
                    expected.total_files_processed if expected else None,
                    expected.total_bytes_processed if expected else None,
                )
            )
