"""A gate before the storage: what forked workers finish waits there until their run may write.

Whoever takes a lock has to look again after a pause (:mod:`backup.lock`), and a backup that already reads meanwhile
must not write before. The gate decides nothing and is decided once.
"""

import mmap
import os
import select
from collections.abc import Iterator, Sequence

from backup.errors import RepositoryLocked
from backup.storage.base import Buffer, FileKind, Storage, StorageProperties, StoredFile

_OPEN = 1


class Gate:
    """Make it before workers are forked, and close it when they are gone."""

    def __init__(self) -> None:
        self._state = mmap.mmap(-1, 1)
        self._wake, self._waker = os.pipe()

    def decide(self, *, may_write: bool) -> None:
        """Let everybody pass, or nobody ever."""
        self._state[0] = _OPEN if may_write else 0
        os.write(self._waker, b".")  # never read, so it wakes whoever waits, and whoever comes later

    def pass_through(self) -> None:
        """Wait until it is decided. Raises RepositoryLocked when nobody may write."""
        waiting = select.poll()
        waiting.register(self._wake, select.POLLIN)
        waiting.poll()
        if self._state[0] != _OPEN:
            raise RepositoryLocked("could not store what was read: the repository could not be locked")

    def close(self) -> None:
        """Give descriptors and memory back."""
        os.close(self._wake)
        os.close(self._waker)
        self._state.close()


class Gated:
    """A storage that is written to only through a gate."""

    def __init__(self, storage: Storage, gate: Gate) -> None:
        self._storage = storage
        self._gate = gate

    @property
    def properties(self) -> StorageProperties:
        """See Storage."""
        return self._storage.properties

    def create(self) -> None:
        """See Storage."""
        self._gate.pass_through()
        self._storage.create()

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """See Storage."""
        self._gate.pass_through()
        self._storage.put(kind, name, content)

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage."""
        return self._storage.get(kind, name, offset, length)

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """See Storage."""
        return self._storage.list(kind)

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """See Storage."""
        return self._storage.stat(kind, name)

    def delete(self, kind: FileKind, name: str) -> None:
        """See Storage."""
        self._gate.pass_through()
        self._storage.delete(kind, name)
