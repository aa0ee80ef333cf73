"""Moves blobs out of packs into new ones, sealed as they are: the part of a prune that worker processes do.

Every blob is proven on its way. A pack is told of when it is durable; the old ones are not touched here, and neither
is the index.
"""

from backup.crypto import MasterKey
from backup.errors import CorruptData
from backup.pack import BlobKind, PackBuilder, PackRecord, batches
from backup.putting import Putting
from backup.reader import PackRead
from backup.storage.base import FileKind, Storage
from backup.storage.reading_ahead import Read, expect

_PACKS_IN_FLIGHT = 1


class MovingBench:
    """Does the moving of one process, pack by pack."""

    def __init__(self, storage: Storage, key: MasterKey) -> None:
        self._storage = storage
        self._builders = {kind: PackBuilder(key, kind) for kind in BlobKind}
        self._putting = Putting(storage, at_once=_PACKS_IN_FLIGHT)

    def expect(self, job: PackRead) -> None:
        """Have the pack come."""
        expect(self._storage, [whole(job)])

    def do(self, job: PackRead) -> None:
        """Move what is wanted of one pack. Raises CorruptData, naming the pack, when any of it is damaged."""
        content = memoryview(self._storage.get(*whole(job)))
        for kind in BlobKind:  # packs of old programs may hold both
            builder = self._builders[kind]
            for batch in batches([entry for entry in job.entries if entry.kind is kind]):
                try:
                    builder.add_sealed(batch, [content[entry.offset :][: entry.length] for entry in batch])
                except CorruptData as error:
                    raise CorruptData(f"could not rewrite pack {job.pack[:8]}: {error}", name=job.pack) from error
                if builder.full:
                    self._putting.put(builder.finish())

    def report(self) -> list[PackRecord]:
        """Give the packs that became durable since the last call."""
        return self._putting.stored()

    def finish(self) -> None:
        """Put the packs begun and wait until all are durable."""
        self._putting.finish(self._builders.values())

    def close(self) -> None:
        """End the thread."""
        self._putting.close()


def whole(job: PackRead) -> Read:
    """Name what moving will ask the storage for. All of the pack: little of it is not wanted, or it would not pay."""
    return Read(FileKind.DATA, job.pack)
