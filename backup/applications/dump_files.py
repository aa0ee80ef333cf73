"""The files of a dump, wherever they lie: restored into a folder, or still in the repository.

A load reads from here, so that what only passes through needs no room on a disk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from backup.dumping import read_file
from backup.errors import RestoreError, SnapshotMissing
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.walking import Place, load_tree, locate

_PART_BYTES = 1 << 20
_TAIL_BYTES = 4096


class DumpFiles(Protocol):
    """Files by their names. All of it raises CorruptData, StorageError, RestoreError for what cannot be read."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """Give a file's content in parts of a few MiB, from its beginning each time."""
        ...

    def tail(self, name: str) -> bytes:
        """Give the end of a file, a few KiB at least where it has as many."""
        ...


@dataclass(frozen=True, slots=True)
class RestoredFiles:
    """In a folder."""

    folder: Path

    def has(self, name: str) -> bool:
        """See DumpFiles."""
        return (self.folder / name).exists()

    def read(self, name: str) -> Iterator[bytes]:
        """See DumpFiles."""
        with self._open(name) as file:
            while part := file.read(_PART_BYTES):
                yield part

    def tail(self, name: str) -> bytes:
        """See DumpFiles."""
        with self._open(name) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read()

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        path = self.folder / name
        try:
            with path.open("rb", buffering=0) as file:
                yield file
        except OSError as error:
            raise RestoreError(f"could not read {path}: {(error.strerror or str(error)).lower()}") from None


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """In a snapshot. The repository's index must be loaded."""

    repository: Repository
    snapshot: Snapshot
    folder: str
    """The job's or the member's."""

    @property
    def size(self) -> int:
        """Of all files together."""
        tree = locate(self.repository, self.snapshot, f"/{self.folder}").tree
        return sum(node.size for node in load_tree(self.repository, tree)) if tree else 0

    def has(self, name: str) -> bool:
        """See DumpFiles."""
        try:
            return self._place(name).node is not None
        except SnapshotMissing:
            return False

    def read(self, name: str) -> Iterator[bytes]:
        """See DumpFiles."""
        return read_file(self.repository, self._place(name))

    def tail(self, name: str) -> bytes:
        """See DumpFiles."""
        node, end = self._place(name).node, b""
        for blob in reversed(node.content or () if node else ()):
            end = self.repository.load_blob(BlobKind.DATA, blob) + end
            if len(end) >= _TAIL_BYTES:
                break
        return end

    def _place(self, name: str) -> Place:
        return locate(self.repository, self.snapshot, f"/{self.folder}/{name}")
