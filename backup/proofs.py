"""Reading whole packs and proving every byte of them, in worker processes where there is much to read.

Proof of one pack: its SHA-256 is its name, its header is what the index says, and each blob opens, expands and hashes
to its id. Everything wrong in a pack is reported, not only the first thing. What it found means nothing here: `verify`
decides.
"""

import hashlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Final

from backup.crypto import MasterKey
from backup.errors import BackupError, CorruptData, FileMissing, StorageError
from backup.pack import BlobCodec, parse_header, split_pack
from backup.storage.base import FileKind, Storage

_ATTEMPTS: Final = 2
"""A pack that fails is read once more, in case it was the way here that flipped the bit."""
_WORTH_PROCESSES_BYTES: Final = 64 * 2**20
_IN_FLIGHT: Final = 3
"""Tasks a worker has waiting, so that it never waits for us."""


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
    workers = min(os.cpu_count() or 1, 8)
    if workers == 1 or total_bytes < _WORTH_PROCESSES_BYTES:
        prover = _Prover(storage, key)
        yield from map(prover.prove, tasks)
        return
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(storage, key))
    under_way: deque[Future[PackProof]] = deque()
    try:
        with warnings.catch_warnings():
            # the only other thread of a job renews the repository's lock and holds nothing that a worker needs
            warnings.simplefilter("ignore", DeprecationWarning)
            for task in tasks:
                under_way.append(pool.submit(_prove_in_worker, task))
                if len(under_way) >= workers * _IN_FLIGHT:
                    yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        message = "could not go on reading packs: a worker process was killed"
        raise BackupError(message, hint="see the system's log") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Prover:
    def __init__(self, storage: Storage, key: MasterKey) -> None:
        self._storage = storage
        self._codec = BlobCodec(key)

    def prove(self, task: PackTask) -> PackProof:
        """Read a pack, twice when the first time shows a defect; a defect must show both times to count."""
        defects: tuple[tuple[str, str, str], ...] = ()
        for _ in range(_ATTEMPTS):
            defects = tuple(self._defects(task))
            if not defects:
                break
        return PackProof(task.pack, task.size, defects)

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
            if self._codec.open_header(sealed_header) != parse_header(task.header):
                yield "pack-header", name, "its header names other blobs than the index does"
        except CorruptData as error:
            yield "pack-header", name, str(error)
            blobs = memoryview(content)
        for entry in parse_header(task.header):
            try:
                sealed = blobs[entry.offset : entry.offset + entry.length]
                self._codec.decode(sealed, entry.id, entry.uncompressed_length)
            except CorruptData as error:
                message = f"{error}, in pack {task.pack} at byte {entry.offset}"
                yield "blob-damaged", f"blob {entry.id.hex()}", message


_prover: _Prover


def _begin_worker(storage: Storage, key: MasterKey) -> None:
    global _prover  # the executor offers no other place to keep what a worker needs for every task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all of us, and the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    _prover = _Prover(storage, key)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _prove_in_worker(task: PackTask) -> PackProof:
    return _prover.prove(task)
