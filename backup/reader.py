"""Reading many blobs: which packs to open, in which ranges, and every blob proven on the way.

A `BlobReader` and the `PackRead`s it is given can be sent to worker processes; neither knows the index. It never gives
out a blob whose hash it has not checked.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from backup.crypto import MasterKey
from backup.errors import CorruptData
from backup.index import Index
from backup.pack import BlobCodec, BlobEntry, BlobKind, batches
from backup.storage.base import Buffer, FileKind, Storage
from backup.storage.reading_ahead import Read, announced

_GAP_BYTES: Final = 512 * 1024
"""Reading this much for nothing costs less than asking again."""
_RANGE_BYTES: Final = 4 * 2**20
"""No range grows beyond this, except for a single blob: what is read ahead in one process is a few of them."""


@dataclass(frozen=True, slots=True)
class PackRead:
    """Blobs wanted from one pack, by rising offset."""

    pack: str
    entries: tuple[BlobEntry, ...]


def plan_reads(index: Index, kind: BlobKind, names: Iterable[bytes]) -> list[PackRead]:
    """Group blobs by pack, each blob once, packs in the order in which they are first needed.

    Raises CorruptData, naming the blob, when one is in no pack.
    """
    wanted: dict[str, dict[bytes, BlobEntry]] = {}
    for name in names:
        location = index.lookup(kind, name)
        if location is None:
            raise missing_blob(name)
        pack, offset, length, plain = location
        wanted.setdefault(pack, {})[name] = BlobEntry(kind, name, offset, length, plain)
    return [
        PackRead(pack, tuple(sorted(entries.values(), key=lambda entry: entry.offset)))
        for pack, entries in wanted.items()
    ]


def missing_blob(name: bytes) -> CorruptData:
    """Make the error for a blob that no pack has."""
    return CorruptData(f"could not read blob {name.hex()[:8]}: no pack has it", name=name.hex())


class BlobReader:
    """Reads blobs from packs. Keeps cipher contexts, so each thread needs its own."""

    def __init__(self, storage: Storage, key: MasterKey) -> None:
        self._storage = storage
        self._codec = BlobCodec(key)

    def read(self, wanted: PackRead) -> Iterator[tuple[bytes, bytes]]:
        """Give (id, plaintext) of every blob, by rising offset. Raises CorruptData, naming the pack; StorageError.

        Small blobs are opened by the hundred: of those around a damaged one, none may be given.
        """
        for group in announced(self._storage, _ranges(wanted.entries), lambda group: [_read(wanted.pack, group)]):
            read = _read(wanted.pack, group)
            start, content = read.offset, memoryview(self._storage.get(*read))
            for batch in batches(group):
                sealed = [content[entry.offset - start :][: entry.length] for entry in batch]
                yield from zip([entry.id for entry in batch], self._decode(sealed, batch, wanted.pack), strict=True)

    def read_one(self, pack: str, entry: BlobEntry) -> bytes:
        """Read a single blob. Raises as `read` does."""
        content = self._storage.get(FileKind.DATA, pack, entry.offset, entry.length)
        return self._decode([content], [entry], pack)[0]

    def _decode(self, sealed: Sequence[Buffer], entries: Sequence[BlobEntry], pack: str) -> list[bytes]:
        try:
            return self._codec.decode_all(sealed, entries)
        except CorruptData as error:
            raise CorruptData(f"{error}, in pack {pack[:8]}", name=error.name) from error


def reads(wanted: PackRead) -> Iterator[Read]:
    """Name what reading these blobs will ask the storage for."""
    return (_read(wanted.pack, group) for group in _ranges(wanted.entries))


def _read(pack: str, group: Sequence[BlobEntry]) -> Read:
    start = group[0].offset
    return Read(FileKind.DATA, pack, start, group[-1].offset + group[-1].length - start)


def _ranges(entries: Sequence[BlobEntry]) -> Iterator[list[BlobEntry]]:
    group: list[BlobEntry] = []
    for entry in entries:
        if group:
            end = group[-1].offset + group[-1].length
            if entry.offset - end > _GAP_BYTES or entry.offset + entry.length - group[0].offset > _RANGE_BYTES:
                yield group
                group = []
        group.append(entry)
    if group:
        yield group
