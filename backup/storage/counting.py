"""Counts what a storage is asked: operations, failures, operations tried again, and bytes, for all processes of a run.

A meter is made before workers are forked; what they do counts with their parent's. It refuses to cost anything: a
worker that dies while it counts holds nobody up for longer than a second, and then one operation is missing.

An operation is one call of the seam. On S3 the ``put`` of a pack is two requests, one of which looks whether the name
is free; a listing is one for each page.
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from multiprocessing import get_context
from typing import Final, Protocol, TypeVar, runtime_checkable

from backup.errors import CutOff, FileMissing, StorageError
from backup.storage.base import (
    Buffer,
    FileKind,
    Paged,
    Retaining,
    Storage,
    StorageProperties,
    StoredFile,
    Sweeping,
    as_buffers,
)

OPERATIONS: Final = ("put", "get", "list", "stat", "delete", "retain")
FIGURES: Final = ("requests", "request_errors", "request_retries", "request_bytes")
"""What is counted of each operation; bytes are of contents, sent by ``put`` and received by ``get``."""
_WAIT_SECONDS: Final = 1.0
T = TypeVar("T")


class Meter:
    """Counts of one storage, shared with every process that is forked later. Pickled, it begins anew."""

    def __init__(self) -> None:
        self._lock = get_context("fork").Lock()
        self._cells = memoryview(mmap.mmap(-1, 8 * len(OPERATIONS) * len(FIGURES))).cast("Q")

    def __reduce__(self) -> tuple[type["Meter"], tuple[()]]:
        return Meter, ()

    def add(self, operation: str, *, errors: int = 0, retries: int = 0, count: int = 0) -> None:
        """Count one operation, or with ``retries`` that it is tried again. ``count`` is of bytes."""
        first = OPERATIONS.index(operation) * len(FIGURES)
        taken = self._lock.acquire(timeout=_WAIT_SECONDS)
        try:
            for cell, more in enumerate((0 if retries else 1, errors, retries, count), first):
                self._cells[cell] += more
        finally:
            if taken:
                self._lock.release()

    def figures(self) -> dict[str, float]:
        """Give what was counted as a run's figures, ``requests_put`` and so on, of the operations that there were."""
        figures: dict[str, float] = {}
        for number, operation in enumerate(OPERATIONS):
            counts = self._cells[number * len(FIGURES) : (number + 1) * len(FIGURES)].tolist()
            if counts[0]:
                figures |= {f"{name}_{operation}": count for name, count in zip(FIGURES, counts, strict=True)}
        return figures


@runtime_checkable
class Metered(Protocol):
    """A storage that counts."""

    @property
    def meter(self) -> Meter:
        """What was counted so far."""
        ...


class Remote(Storage, Paged, Sweeping, Retaining, Protocol):
    """What can be counted: a storage that lists by pages, removes many at once and can retain."""


class Counting:
    """A storage that counts what it is asked. A missing file is an answer and no failure."""

    def __init__(self, storage: Remote) -> None:
        self._storage = storage
        self.meter = Meter()

    def __repr__(self) -> str:
        return f"Counting({self._storage!r})"

    @property
    def properties(self) -> StorageProperties:
        """See Storage."""
        return self._storage.properties

    def create(self) -> None:
        """See Storage; done once in a repository's life, and not counted."""
        self._storage.create()

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """See Storage."""
        size = sum(map(len, as_buffers(content)))
        self._count("put", lambda: self._storage.put(kind, name, content), lambda _: size)

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage."""
        return self._count("get", lambda: self._storage.get(kind, name, offset, length), len)

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """See Storage."""
        token, more = "", True
        while more:
            page, token = self.list_page(kind, token)
            yield from page
            more = bool(token)

    def list_page(self, kind: FileKind, token: str) -> tuple[Sequence[StoredFile], str]:
        """See Paged."""
        return self._count("list", lambda: self._storage.list_page(kind, token))

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """See Storage."""
        return self._count("stat", lambda: self._storage.stat(kind, name))

    def delete(self, kind: FileKind, name: str) -> None:
        """See Storage."""
        self._count("delete", lambda: self._storage.delete(kind, name))

    def delete_all(self, kind: FileKind, names: Sequence[str]) -> None:
        """See Sweeping; counts once."""
        self._count("delete", lambda: self._storage.delete_all(kind, names))

    def retain(self, kind: FileKind, name: str, until: datetime) -> None:
        """See Retaining."""
        self._count("retain", lambda: self._storage.retain(kind, name, until))

    def _count(self, operation: str, act: Callable[[], T], size: Callable[[T], int] = lambda _: 0) -> T:
        try:
            result = act()
        except FileMissing:
            self.meter.add(operation)
            raise
        except StorageError as error:
            self.meter.add(operation, errors=1, count=len(error.content) if isinstance(error, CutOff) else 0)
            raise
        self.meter.add(operation, count=size(result))
        return result
