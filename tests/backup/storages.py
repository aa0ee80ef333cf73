"""Storages for tests: one in memory that keeps the whole contract, and one that dies or fails at a chosen operation."""

from collections.abc import Callable, Iterator, Sequence

from backup.errors import FileMissing, StorageError
from backup.storage.base import (
    Buffer,
    FileKind,
    Storage,
    StorageProperties,
    StoredFile,
    as_buffers,
    is_file_name,
)


class MemoryStorage:
    """Files in a dict. ``files`` may be looked at and damaged by tests."""

    def __init__(self, files: dict[tuple[FileKind, str], bytes] | None = None) -> None:
        self.files = dict(files or {})

    @property
    def properties(self) -> StorageProperties:
        return StorageProperties("memory", None)

    def create(self) -> None:
        pass

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        data = b"".join(as_buffers(content))
        if not is_file_name(kind, name):
            raise ValueError(f"{name!r} does not name a {kind} file")
        if self.files.setdefault((kind, name), data) != data:
            raise StorageError(f"could not write {kind} {name}: it is there with other bytes", permanent=True)

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._file(kind, name)
        return data[offset:] if length is None else data[offset : offset + length]

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        found = [StoredFile(name, len(data)) for (of, name), data in self.files.items() if of is kind]
        return iter(found)

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        return StoredFile(name, len(self._file(kind, name)))

    def delete(self, kind: FileKind, name: str) -> None:
        self._file(kind, name)
        del self.files[kind, name]

    def _file(self, kind: FileKind, name: str) -> bytes:
        if not is_file_name(kind, name):
            raise ValueError(f"{name!r} does not name a {kind} file")
        try:
            return self.files[kind, name]
        except KeyError:
            raise FileMissing(f"could not read {kind} {name}: no such file") from None


def names(storage: Storage, kind: FileKind) -> list[str]:
    """Names of all files of a kind, sorted."""
    return sorted(file.name for file in storage.list(kind))


class Died(BaseException):
    """The process is dead from here on."""


Fault = Callable[[int, str, FileKind], None]


class Faulty:
    """Calls ``before(number, operation, kind)`` and ``after(...)`` around every write and delete, counted from 1.

    What they raise is what the caller sees. Reads pass unless it has died.
    """

    def __init__(self, storage: Storage, *, before: Fault | None = None, after: Fault | None = None) -> None:
        self.inner = storage
        self.writes = 0
        self.trace: list[tuple[str, FileKind]] = []
        self.dead = False
        self._before, self._after = before, after

    @classmethod
    def dying(cls, storage: Storage, number: int, *, before: bool) -> "Faulty":
        """Die before, or after, the write of this number."""

        def die(count: int, _operation: str, _kind: FileKind) -> None:
            if count == number:
                raise Died

        return cls(storage, before=die) if before else cls(storage, after=die)

    @property
    def properties(self) -> StorageProperties:
        return self.inner.properties

    def create(self) -> None:
        self.inner.create()

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        self._around("put", kind, lambda: self.inner.put(kind, name, content))

    def delete(self, kind: FileKind, name: str) -> None:
        self._around("delete", kind, lambda: self.inner.delete(kind, name))

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self._alive()
        return self.inner.get(kind, name, offset, length)

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        self._alive()
        return self.inner.list(kind)

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        self._alive()
        return self.inner.stat(kind, name)

    def _alive(self) -> None:
        if self.dead:
            raise Died

    def _around(self, operation: str, kind: FileKind, act: Callable[[], None]) -> None:
        self._alive()
        self.writes += 1
        number = self.writes
        self._fault(self._before, number, operation, kind)
        act()
        self.trace.append((operation, kind))
        self._fault(self._after, number, operation, kind)

    def _fault(self, fault: Fault | None, number: int, operation: str, kind: FileKind) -> None:
        if fault is None:
            return
        try:
            fault(number, operation, kind)
        except Died:
            self.dead = True
            raise
