"""Faults for drills to find: damage that exists only in the drill's own view of a storage.

A drill that cannot fail proves nothing. Each plant wraps the storage and changes what is read from it; what it has to
write for that stays in memory: the repository itself is not touched. Every plant can say whether a failure names it,
since a drill that failed for another reason did not find it.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from zstandard import ZstdCompressor

from backup.crypto import OVERHEAD_BYTES, Sealer
from backup.errors import FileMissing, StorageError
from backup.index import PackListing, format_index
from backup.pack import BlobKind, PackBuilder, blob_id
from backup.repository import Repository
from backup.snapshot import format_snapshot
from backup.storage.base import Buffer, FileKind, Storage, StorageProperties, StoredFile
from backup.tree import as_text, encode_node, encode_tree
from backup.unpacked import UnpackedFiles
from backup.walking import load_tree

FLIPPED_BIT = "flipped-bit"
MISSING_PACK = "missing-pack"
MISSING_INDEX = "missing-index"
WRONG_PASSWORD = "wrong-password"  # noqa: S105 - the name of a fault
SWAPPED_BLOB = "swapped-blob"
TRUNCATED_DUMP = "truncated-dump"
EMPTY_SOURCE = "empty-source"
STALE_SOURCE = "stale-source"
NO_SCRATCH = "no-scratch-space"
MISSING_WAL = "missing-wal-segment"
DROPPED_TABLE = "dropped-table"
FEWER_ROWS = "fewer-rows"
PLANTS = (
    FLIPPED_BIT, MISSING_PACK, MISSING_INDEX, SWAPPED_BLOB, WRONG_PASSWORD, TRUNCATED_DUMP, EMPTY_SOURCE, STALE_SOURCE,
    NO_SCRATCH, MISSING_WAL, DROPPED_TABLE, FEWER_ROWS,
)  # fmt: skip
IN_PACKS = (FLIPPED_BIT, MISSING_PACK, SWAPPED_BLOB)
IN_APPLICATION = (DROPPED_TABLE, FEWER_ROWS)
PLACES = {
    MISSING_WAL: "it belongs into --level point-in-time of a database whose log is archived",
    DROPPED_TABLE: "it belongs into --level application of a database",
    FEWER_ROWS: "it belongs into --level application of a database",
}
"""Where a fault belongs that the level `restore` has no place for."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault that was planted."""

    fault: str
    description: str
    """Where it is, for the report."""
    trace: str
    """What a failure that found it says."""


class FaultyView:
    """A storage seen through a fault. Locks pass through; what else is put can be seen here only, and nothing goes."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._hidden: tuple[FileKind, str] | None = None
        self._changed: tuple[str, int, bytes] | None = None
        self._beside: dict[tuple[FileKind, str], bytes] = {}

    def hide(self, kind: FileKind, name: str) -> None:
        """Act as if this file did not exist."""
        self._hidden = (kind, name)

    def change(self, pack: str, offset: int, content: bytes) -> None:
        """Act as if the pack held this from ``offset`` on."""
        self._changed = (pack, offset, content)

    @property
    def properties(self) -> StorageProperties:
        """Those of the storage."""
        return self._inner.properties

    def create(self) -> None:
        """Refused."""
        raise StorageError("refused to write to a repository through a planted fault", permanent=True)

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """Pass locks on, keep all else to ourselves."""
        if kind is FileKind.LOCK:
            self._inner.put(kind, name, content)
        else:
            whole = isinstance(content, bytes | bytearray | memoryview)
            self._beside[kind, name] = bytes(content) if whole else b"".join(content)  # type: ignore[arg-type]

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read, with the fault."""
        self._look_for(kind, name)
        if (own := self._beside.get((kind, name))) is not None:
            return own[offset:] if length is None else own[offset : offset + length]
        content = self._inner.get(kind, name, offset, length)
        if kind is FileKind.DATA and self._changed is not None and name == self._changed[0]:
            _, at, planted = self._changed
            first, end = max(at, offset), min(at + len(planted), offset + len(content))
            if first < end:
                return content[: first - offset] + planted[first - at : end - at] + content[end - offset :]
        return content

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """List, without what is hidden, with what is here only."""
        yield from (StoredFile(name, len(own)) for (of, name), own in self._beside.items() if of is kind)
        yield from (file for file in self._inner.list(kind) if (kind, file.name) != self._hidden)

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """Look up, unless it is hidden."""
        self._look_for(kind, name)
        own = self._beside.get((kind, name))
        return self._inner.stat(kind, name) if own is None else StoredFile(name, len(own))

    def delete(self, kind: FileKind, name: str) -> None:
        """Pass locks on, refuse all else."""
        if kind is not FileKind.LOCK:
            raise StorageError("refused to delete from a repository through a planted fault", permanent=True)
        self._inner.delete(kind, name)

    def _look_for(self, kind: FileKind, name: str) -> None:
        if (kind, name) == self._hidden:
            raise FileMissing(f"could not read {kind} {name[:8]}: no such file (a planted fault)")


def plant_in_index(view: FaultyView, repository: Repository, root_tree: bytes) -> Planted:
    """Hide the index file that knows where the snapshot's root tree is. Call it before the index is loaded.

    Raises ValueError when no index file does.
    """
    for file in list(repository.storage.list(FileKind.INDEX)):
        for listing in repository.load_index_file(file.name):
            if any(entry.kind is BlobKind.TREE and entry.id == root_tree for entry in listing.entries):
                view.hide(FileKind.INDEX, file.name)
                return Planted(MISSING_INDEX, f"index {file.name[:8]} is missing", root_tree.hex()[:8])
    raise ValueError("no index file names the snapshot's root tree")


def plant_in_pack(view: FaultyView, fault: str, repository: Repository, blobs: Sequence[bytes]) -> Planted:
    """Damage the pack of one of the snapshot's data blobs, one that is stored only once. Needs the index.

    Raises ValueError when there is no such blob: the snapshot has no content, or every blob twice.
    """
    for blob in blobs:
        places = repository.index.lookup_all(BlobKind.DATA, blob)
        if len(places) != 1:
            continue
        pack, offset, length, plain_length = places[0]
        if fault == MISSING_PACK:
            view.hide(FileKind.DATA, pack)
            return Planted(fault, f"pack {pack[:8]} is missing", pack[:8])
        if fault == SWAPPED_BLOB:
            payload = _another(length - OVERHEAD_BYTES, compressed=bool(plain_length))
            view.change(pack, offset, Sealer(repository.key).seal(payload))
            return Planted(fault, f"blob {blob.hex()[:8]} of pack {pack[:8]} has another blob's content", pack[:8])
        middle = offset + length // 2
        (byte,) = view.get(FileKind.DATA, pack, middle, 1)
        view.change(pack, middle, bytes((byte ^ 1,)))
        return Planted(fault, f"one bit of byte {middle} of pack {pack[:8]} is flipped", pack[:8])
    raise ValueError("the snapshot has no content that is stored just once")


def plant_in_log(view: FaultyView, repository: Repository, snapshot_id: str, name: str) -> Planted:
    """Show the snapshot that holds a log without one of its files, as if that had never been archived."""
    repository.load_index()
    snapshot = repository.load_snapshot(snapshot_id)
    trees = PackBuilder(repository.key, BlobKind.TREE)

    def store(nodes: Iterable[str]) -> bytes:
        tree = encode_tree(nodes)
        trees.add(blob_id(tree), tree)
        return blob_id(tree)

    roots = list[str]()
    for folder in load_tree(repository, snapshot.tree):
        files = load_tree(repository, folder.subtree or b"")
        left = store(encode_node(file) for file in files if as_text(file.name) != name)
        roots.append(encode_node(folder._replace(subtree=left)))
    root = store(roots)
    pack, files_of_view = trees.finish(), UnpackedFiles(view, repository.key)
    view.put(FileKind.DATA, pack.id, pack.content)
    files_of_view.save(FileKind.INDEX, format_index([PackListing(pack.id, pack.record.entries())]))
    files_of_view.save(FileKind.SNAPSHOT, format_snapshot(replace(snapshot, id="", tree=root)))
    view.hide(FileKind.SNAPSHOT, snapshot_id)
    repository.load_index()
    return Planted(MISSING_WAL, f"log record {name} is missing", name)


def _another(length: int, *, compressed: bool) -> bytes:
    """Make content that is as sound as a blob's and not it: ``length`` bytes as they lie in a pack, before sealing."""
    noise = random.Random(length).randbytes(length)  # noqa: S311 - any other content will do
    if not compressed:
        return noise
    compressor = ZstdCompressor(level=1, write_content_size=False)
    size = length
    while size > 0 and (excess := len(frame := compressor.compress(noise[:size])) - length):
        size -= excess
    return frame if size > 0 else noise  # a frame shorter than its own header is no frame: noise is as wrong
