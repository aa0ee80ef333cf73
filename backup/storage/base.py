"""The seam between a repository and the medium under it: six kinds of files, put whole, never changed, listed, deleted.

It refuses to know what is in a file: naming, encryption and order of writing belong to the repository. Retrying,
limiting and counting are wrappers of the same seam, so that a medium has one job.

What every storage guarantees:

* A file appears whole or not at all: no reader ever sees a part of it, whenever the writer dies.
* When ``put`` returns, the bytes and the directory entry survive a power cut.
* A file never changes: putting the same name with other bytes is refused, with the same bytes it does nothing.
* ``list`` gives every file whose ``put`` returned before the call, and nothing that is not a file of that kind:
  leftovers of dead writers are invisible.
* Every error is a `StorageError` that knows whether trying again can help.
* Instances can be pickled and cost nothing to open again in a worker process. They may be used by several threads.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from backup.errors import FileMissing

Buffer = bytes | bytearray | memoryview


class FileKind(StrEnum):
    """What a file is to the repository; each kind has a place of its own in the layout."""

    CONFIG = "config"
    KEY = "key"
    DATA = "data"
    """A pack."""
    INDEX = "index"
    SNAPSHOT = "snapshot"
    LOCK = "lock"


CONFIG_NAME = "config"
"""The name of the only file of kind CONFIG; all others are named by 64 lower-case hex digits."""

_HEX_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as the storage lists it."""

    name: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class StorageProperties:
    """What can be said of a storage as a whole."""

    location: str
    """Where it is, for people; carries no secret."""
    free_bytes: int | None
    """Space that may still be filled; None where the medium does not say."""


class Storage(Protocol):
    """A medium. See the module's list of guarantees; they hold for every method."""

    @property
    def properties(self) -> StorageProperties:
        """Where it is and what is free now. Raises StorageError when it cannot be reached."""
        ...

    def create(self) -> None:
        """Make the folders that the layout needs; those that exist are left alone. Raises StorageError."""
        ...

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """Store ``content`` (or the concatenation of several buffers) durably under ``name``.

        Raises StorageFull, or StorageError: permanent when ``name`` already holds other bytes.
        """
        ...

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read ``length`` bytes from ``offset`` (all to the end when None); fewer only where the file ends earlier.

        Raises FileMissing or StorageError.
        """
        ...

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """Give every file of a kind, in no order. Raises StorageError."""
        ...

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """Look one file up. Raises FileMissing or StorageError."""
        ...

    def delete(self, kind: FileKind, name: str) -> None:
        """Remove one file; durable on return. Raises FileMissing or StorageError."""
        ...


@runtime_checkable
class Paged(Protocol):
    """A storage that lists page by page, so that a wrapper can ask for one page again rather than for all of them."""

    def list_page(self, kind: FileKind, token: str) -> tuple[Sequence[StoredFile], str]:
        """Give the page that ``token`` names (the first for an empty one) and the next one's token, empty at the end.

        Raises StorageError.
        """
        ...


@runtime_checkable
class Retaining(Protocol):
    """A storage that can refuse to delete a file before a moment (S3 calls it Object Lock)."""

    def retain(self, kind: FileKind, name: str, until: datetime) -> None:
        """Keep a file from being deleted until a moment (aware UTC); never shortens what it had.

        Raises FileMissing or StorageError.
        """
        ...


@runtime_checkable
class Sweeping(Protocol):
    """A storage that can remove many files with few requests."""

    def delete_all(self, kind: FileKind, names: Sequence[str]) -> None:
        """Remove those that are there; durable on return. Raises StorageError, when some of them may be gone."""
        ...


def delete_all(storage: Storage, kind: FileKind, names: Sequence[str]) -> None:
    """Remove those of these files that are there, in as few requests as the storage can. Raises StorageError."""
    if isinstance(storage, Sweeping):
        storage.delete_all(kind, names)
        return
    for name in names:
        with suppress(FileMissing):
            storage.delete(kind, name)


def is_file_name(kind: FileKind, name: str) -> bool:
    """Whether ``name`` can name a file of this kind; other names found in a listing are no files of ours."""
    return name == CONFIG_NAME if kind is FileKind.CONFIG else _HEX_NAME.fullmatch(name) is not None


def as_buffers(content: Buffer | Sequence[Buffer]) -> Sequence[Buffer]:
    """Give ``put``'s content as a sequence of buffers."""
    return (content,) if isinstance(content, bytes | bytearray | memoryview) else content
