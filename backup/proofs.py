"""Reading whole packs and proving every byte of them, in worker processes where there is much to read.

Proof of one pack: its SHA-256 is its name, its header is what the index says, and each blob opens, expands and hashes
to its id. Everything wrong in a pack is reported, not only the first thing. What it found means nothing here: `verify`
decides.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from backup.crew import Crew
from backup.crypto import MasterKey
from backup.errors import CorruptData, FileMissing, StorageError
from backup.pack import BlobCodec, BlobEntry, batches, parse_header, split_pack
from backup.storage.base import FileKind, Storage
from backup.storage.reading_ahead import Read, announced, expect

_ATTEMPTS: Final = 2
"""A pack that fails is read once more, in case it was the way here that flipped the bit."""
_WORTH_PROCESSES_BYTES: Final = 64 * 2**20
_JOBS_A_WORKER: Final = 2
"""As many as a crew's worker takes without making its giver wait."""


@dataclass(frozen=True, slots=True)
class PackTask:
    """A pack to be proven; ``header`` is the plain one that follows from the index."""

    pack: str
    size: int
    header: bytes


@dataclass(frozen=True, slots=True)
class PackProof:
    """What reading a pack showed: (code, subject, message) of everything wrong, nothing when all is well."""

    pack: str
    size: int
    defects: tuple[tuple[str, str, str], ...]


def prove_packs(storage: Storage, key: MasterKey, tasks: Iterable[PackTask], total_bytes: int) -> Iterator[PackProof]:
    """Prove packs, in no order. ``total_bytes`` decides whether worker processes are worth their start.

    Raises BackupError when a worker dies.
    """
    with closing(Proving(storage, key, tasks, total_bytes)) as proving:
        yield from proving.finish()


class Proving:
    """Packs being proven while the caller does something else: `advance` now and then, `finish` at the end, `close`."""

    def __init__(self, storage: Storage, key: MasterKey, tasks: Iterable[PackTask], total_bytes: int) -> None:
        self._workers = len(os.sched_getaffinity(0)) if total_bytes >= _WORTH_PROCESSES_BYTES else 0
        # a worker is told of the next pack; without workers it is on its way while this process proves one
        self._tasks = iter(tasks) if self._workers else announced(storage, tasks, _reads)
        self._crew = Crew[PackTask](lambda: _Prover(storage, key), self._workers)
        self._under_way = 0

    def advance(self) -> Iterator[PackProof]:
        """Give what is proven by now and keep the workers busy, without waiting; without workers, do nothing."""
        if not self._workers:
            return
        yield from self._collect(block=False)
        while self._under_way < _JOBS_A_WORKER * self._workers and (task := next(self._tasks, None)):
            self._crew.submit(task, None)
            self._under_way += 1

    def finish(self) -> Iterator[PackProof]:
        """Prove what is left and give it. Raises BackupError when a worker dies."""
        for task in self._tasks:
            self._crew.submit(task, None)
            self._under_way += 1
            yield from self._collect(block=False)
        while self._crew.busy:
            yield from self._collect(block=True)

    def close(self) -> None:
        """End the workers."""
        self._crew.close()

    def _collect(self, *, block: bool) -> Iterator[PackProof]:
        for _, proof in self._crew.results(block=block):
            assert isinstance(proof, PackProof)
            self._under_way -= 1
            yield proof


def _reads(task: PackTask) -> tuple[Read, ...]:
    return (Read(FileKind.DATA, task.pack),)


class _Prover:
    """The bench at which one worker proves pack after pack."""

    def __init__(self, storage: Storage, key: MasterKey) -> None:
        self._storage = storage
        self._codec = BlobCodec(key)

    def expect(self, job: PackTask) -> None:
        """Have the pack come."""
        expect(self._storage, _reads(job))

    def do(self, job: PackTask) -> PackProof:
        """Read a pack, twice when the first time shows a defect; a defect must show both times to count."""
        defects: tuple[tuple[str, str, str], ...] = ()
        for _ in range(_ATTEMPTS):
            defects = tuple(self._defects(job))
            if not defects:
                break
        return PackProof(job.pack, job.size, defects)

    def finish(self) -> None:
        """Nothing is left open between packs."""

    def report(self) -> None:
        """All there is to say is in the proofs."""

    def close(self) -> None:
        """Nothing is held."""

    def _defects(self, task: PackTask) -> Iterator[tuple[str, str, str]]:
        name = f"pack {task.pack}"
        try:
            content = self._storage.get(FileKind.DATA, task.pack)
        except FileMissing:
            yield "pack-missing", name, "it is not in the storage"
            return
        except StorageError as error:
            yield "pack-unreadable", name, str(error)
            return
        if len(content) != task.size:
            yield "pack-size", name, f"it has {len(content)} bytes instead of {task.size}"
        if hashlib.sha256(content).hexdigest() != task.pack:
            yield "pack-hash", name, "its content does not match its name"
        try:
            blobs, sealed_header = split_pack(content)
            if self._codec.open_header(sealed_header) != task.header:
                yield "pack-header", name, "its header names other blobs than the index does"
        except CorruptData as error:
            yield "pack-header", name, str(error)
            blobs = memoryview(content)
        for batch in batches(parse_header(task.header)):
            yield from self._damaged_blobs(blobs, batch, task.pack)

    def _damaged_blobs(
        self, blobs: memoryview, batch: Sequence[BlobEntry], pack: str
    ) -> Iterator[tuple[str, str, str]]:
        try:
            self._codec.prove_all([blobs[entry.offset : entry.offset + entry.length] for entry in batch], batch)
        except CorruptData as error:
            if len(batch) > 1:  # every one that is damaged is to be told
                for entry in batch:
                    yield from self._damaged_blobs(blobs, [entry], pack)
                return
            message = f"{error}, in pack {pack} at byte {batch[0].offset}"
            yield "blob-damaged", f"blob {batch[0].id.hex()}", message
