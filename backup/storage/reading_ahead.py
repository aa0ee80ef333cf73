"""Reading before it is asked for: the wrapper around a storage where each question takes a network's round trip.

Two kinds of it. What is *announced* (`announced`, for loops; `expect`, for whoever knows more) is on its way while
the caller works on what came before. And a *small read* of a pack is answered out of a window around it: trees of
neighbouring folders lie side by side, and a walk asks for them one by one.

It refuses to keep what is doubted: who asks twice for the same bytes gets them from the storage the second time. It
holds a bounded number of answers, and threads of its own in each process.
"""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from threading import Lock
from typing import Final, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from backup.errors import StorageError
from backup.storage.base import Buffer, FileKind, Retaining, Storage, StorageProperties, StoredFile, delete_all
from backup.storage.counting import Meter, Metered

T = TypeVar("T")

AHEAD: Final = 4
"""Reads on their way at once in a process, besides the one that is waited for."""
_MOST_BYTES: Final = 16 << 20
"""Announced and not asked for yet, in one process."""
_EXPECTED_BYTES: Final = {FileKind.DATA: 16 << 20, FileKind.INDEX: 4 << 20}
"""What a whole file of a kind is taken for; others are small."""
_WINDOW_BYTES: Final = 512 << 10
"""Reading this much for nothing costs less than asking again."""
_SMALL_BYTES: Final = 128 << 10
_WINDOWS: Final = 16


class Read(NamedTuple):
    """The arguments of a `Storage.get`."""

    kind: FileKind
    name: str
    offset: int = 0
    length: int | None = None

    @property
    def bytes(self) -> int:
        """About how many will come."""
        return _EXPECTED_BYTES.get(self.kind, _SMALL_BYTES) if self.length is None else self.length

    @property
    def is_small(self) -> bool:
        """Whether it is answered out of a window."""
        return self.kind is FileKind.DATA and self.length is not None and 0 < self.length <= _SMALL_BYTES


@runtime_checkable
class Expecting(Protocol):
    """A storage that can have a read come before it is asked for."""

    def expect(self, read: Read) -> bool:
        """Begin a read that will be asked for, and must be forgotten if it is not; False when there is no room now.

        Must not raise: what is wrong is told when the read is asked for.
        """
        ...

    def forget(self, reads: Iterable[Read]) -> None:
        """Let go of what was announced and never asked for."""
        ...


class _Window(NamedTuple):
    content: bytes
    given: set[int]
    """Offsets that were answered out of it."""


class _Held:
    """What one process has under way. Threads and locks survive no fork."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = Lock()
        self.pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="ahead")
        self.announced: dict[Read, Future[bytes]] = {}
        self.windows: OrderedDict[tuple[str, int], _Window] = OrderedDict()


class ReadingAhead:
    """A storage that reads ahead. Pickles with what it wraps."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.meter = storage.meter if isinstance(storage, Metered) else Meter()
        """What the storage below counts: requests as they were made."""
        self._held_here: _Held | None = None

    def __reduce__(self) -> tuple[type["ReadingAhead"], tuple[Storage]]:
        return ReadingAhead, (self._storage,)

    def __repr__(self) -> str:
        return f"ReadingAhead({self._storage!r})"

    def expect(self, read: Read) -> bool:
        """See Expecting."""
        if read.is_small:
            return True
        held = self._held()
        with held.lock:
            if read not in held.announced:
                if held.announced and sum(other.bytes for other in held.announced) + read.bytes > _MOST_BYTES:
                    return False
                held.announced[read] = held.pool.submit(self._storage.get, *read)
        return True

    def forget(self, reads: Iterable[Read]) -> None:
        """See Expecting."""
        held = self._held()
        with held.lock:
            for read in reads:
                if (coming := held.announced.pop(read, None)) is not None:
                    coming.cancel()

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage; gives what was announced, what a window holds, or asks."""
        held = self._held()
        read = Read(kind, name, offset, length)
        with held.lock:
            coming = held.announced.pop(read, None)
        if coming is not None:
            return coming.result()
        if read.is_small and length is not None:
            return self._from_window(held, name, offset, length)
        return self._storage.get(*read)

    def _from_window(self, held: _Held, name: str, offset: int, length: int) -> bytes:
        number = offset // _WINDOW_BYTES
        start = number * _WINDOW_BYTES
        with held.lock:
            window = held.windows.pop((name, number), None)
        if window is not None and offset in window.given:
            return self._storage.get(FileKind.DATA, name, offset, length)
        if window is None:
            # as much longer as a small read that begins at its very end needs
            window = _Window(self._storage.get(FileKind.DATA, name, start, _WINDOW_BYTES + _SMALL_BYTES), set())
        window.given.add(offset)
        with held.lock:
            held.windows[name, number] = window
            if len(held.windows) > _WINDOWS:
                held.windows.popitem(last=False)
        return window.content[offset - start : offset - start + length]

    def _held(self) -> _Held:
        held = self._held_here
        if held is None or held.process != os.getpid():
            held = self._held_here = _Held()
        return held

    # ---- as the storage below

    @property
    def properties(self) -> StorageProperties:
        """See Storage."""
        return self._storage.properties

    def create(self) -> None:
        """See Storage."""
        self._storage.create()

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """See Storage."""
        self._storage.put(kind, name, content)

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """See Storage."""
        return self._storage.list(kind)

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """See Storage."""
        return self._storage.stat(kind, name)

    def delete(self, kind: FileKind, name: str) -> None:
        """See Storage."""
        self._storage.delete(kind, name)
        self._drop({name})

    def delete_all(self, kind: FileKind, names: Sequence[str]) -> None:
        """See Sweeping."""
        delete_all(self._storage, kind, names)
        self._drop(set(names))

    def _drop(self, names: Set[str]) -> None:
        held = self._held()
        with held.lock:
            for key in [key for key in held.windows if key[0] in names]:
                del held.windows[key]

    def retain(self, kind: FileKind, name: str, until: datetime) -> None:
        """See Retaining. Raises StorageError (permanent) for a storage that cannot."""
        storage = self._storage
        if not isinstance(storage, Retaining):
            raise StorageError(f"could not retain {kind} {name[:8]}: {storage!r} has no object lock", permanent=True)
        storage.retain(kind, name, until)


def expect(storage: Storage, reads: Iterable[Read]) -> None:
    """Begin reads that will be asked for, as far as there is room and the storage can."""
    if isinstance(storage, Expecting):
        for read in reads:
            if not storage.expect(read):
                return


def announced(storage: Storage, items: Iterable[T], reads: Callable[[T], Iterable[Read]]) -> Iterator[T]:
    """Give ``items`` one by one, while what ``reads`` says of the next few is on its way, where the storage can.

    ``reads`` names exactly what will be asked for before the next item is.
    """
    if not isinstance(storage, Expecting):
        yield from items
        return
    rest = iter(items)
    ahead: deque[_Item[T]] = deque()
    try:
        while True:
            ahead.extend(_Item(item, tuple(reads(item))) for item in islice(rest, AHEAD + 1 - len(ahead)))
            if not ahead:
                return
            for item in ahead:
                if not item.begin(storage):
                    break
            yield ahead[0].value
            storage.forget(ahead.popleft().reads)
    finally:
        for item in ahead:
            storage.forget(item.reads)


@dataclass(slots=True)
class _Item(Generic[T]):
    value: T
    reads: tuple[Read, ...]
    begun: int = 0

    def begin(self, storage: Expecting) -> bool:
        """Announce what is not yet; False when there is no room for all of it."""
        while self.begun < len(self.reads) and storage.expect(self.reads[self.begun]):
            self.begun += 1
        return self.begun == len(self.reads)
