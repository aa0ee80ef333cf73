"""Packs on their way to the storage while their maker goes on with the next.

It holds few at once, and tells of a pack only when the storage says that it is durable.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from backup.pack import FinishedPack, PackBuilder, PackRecord
from backup.storage.base import FileKind, Storage


class Putting:
    """Puts packs in threads of its own, up to ``at_once`` of them at a time. For one thread to give to."""

    def __init__(self, storage: Storage, *, at_once: int) -> None:
        self._storage = storage
        self._at_once = at_once
        self._putter = ThreadPoolExecutor(at_once, thread_name_prefix="put")
        self._under_way: deque[tuple[PackRecord, Future[None]]] = deque()
        self._stored: list[PackRecord] = []

    def put(self, pack: FinishedPack) -> None:
        """Begin to put a pack; waits for an earlier one while there are as many as may be. Raises StorageError."""
        while len(self._under_way) >= self._at_once:
            self._settle()
        future = self._putter.submit(self._storage.put, FileKind.DATA, pack.id, pack.content)
        self._under_way.append((pack.record, future))

    def stored(self) -> list[PackRecord]:
        """Give the packs that became durable since the last call, without waiting. Raises StorageError."""
        while self._under_way and self._under_way[0][1].done():
            self._settle()
        stored, self._stored = self._stored, []
        return stored

    def finish(self, builders: Iterable[PackBuilder]) -> None:
        """Put the packs begun and wait until all are durable. Raises StorageError."""
        for builder in builders:
            if builder.count:
                self.put(builder.finish())
        while self._under_way:
            self._settle()

    def close(self) -> None:
        """End the threads; what they are putting is put."""
        self._putter.shutdown(cancel_futures=True)

    def _settle(self) -> None:
        record, future = self._under_way.popleft()
        future.result()
        self._stored.append(record)
