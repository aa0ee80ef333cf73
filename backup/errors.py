"""Everything that can go wrong in this room, as one tree, so that a caller catches exactly as much as it can judge.

::

    BackupError                     1   what was being done, to what, why it failed; `hint` says what to do about it
    ├── RepositoryMissing          10   there is no repository at this place
    ├── RepositoryLocked           11   another program holds a lock, or ours was lost
    ├── WrongPassword              12   no key of the repository opens with this password
    ├── UnsupportedRepository       1   a format version or a feature that this program must not touch
    ├── SnapshotMissing             1   no snapshot, or more than one, answers to the name
    ├── StorageError                1   the medium refused; `permanent` says whether trying again can help
    │   ├── CutOff                  1   an answer ended early; `content` is what came of it
    │   ├── FileMissing             1   the named file is not there
    │   └── StorageFull             1   no space or quota left
    ├── CorruptData                 4   stored bytes are not what was written; `name` is the file or blob
    ├── SourceError                 1   what should be backed up cannot be read
    ├── RestoreError                1   what should be written back cannot be written
    │   └── LogIncomplete           4   a record of an archived log is missing on the way to where a recovery should go
    ├── ApplicationError            4   restored data that their own application cannot run on, or will not answer from
    ├── CatalogError                1   the catalog of runs cannot be read or written (backup/catalog.py)
    └── Interrupted               130   asked to stop; what is stored so far is consistent

The number is the exit status of a command that ends with this error. Bugs are not in this tree: they keep Python's own
exceptions and their tracebacks.
"""

# ruff: noqa: N818 - the names say what is the case, and the tree says that it is an error

from typing import ClassVar


class BackupError(Exception):
    """The root: a failure that an operator can understand. The message is lower case without a full stop."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        """What the operator can do now; empty when there is nothing better than the message."""


class RepositoryMissing(BackupError):
    """No repository where one was expected."""

    exit_code = 10


class RepositoryLocked(BackupError):
    """A lock of somebody else conflicts with ours, or ours could not be kept fresh."""

    exit_code = 11


class WrongPassword(BackupError):
    """No key file opens with the given password."""

    exit_code = 12


class UnsupportedRepository(BackupError):
    """A repository of a version or kind that must not be touched this way."""


class SnapshotMissing(BackupError):
    """No snapshot, or more than one, answers to a name."""


class StorageError(BackupError):
    """The storage failed. ``permanent`` errors stay when the same call is repeated."""

    def __init__(self, message: str, *, permanent: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.permanent = permanent


class CutOff(StorageError):
    """The answer ended early. ``content`` is what came: so many right bytes from where the reading began."""

    def __init__(self, message: str, content: bytes, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.content = content


class FileMissing(StorageError):
    """The file asked for is not in the storage."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, permanent=True, hint=hint)


class StorageFull(StorageError):
    """No space, inode or quota is left."""

    def __init__(self, message: str, *, hint: str = "free space there, or forget and prune") -> None:
        super().__init__(message, permanent=True, hint=hint)


class CorruptData(BackupError):
    """Stored bytes that fail their check. ``name`` is the file, blob or path that is damaged."""

    exit_code = 4

    def __init__(
        self, message: str, *, name: str = "", hint: str = "run `keepwatch verify --read-data` for the whole extent"
    ) -> None:
        super().__init__(message, hint=hint)
        self.name = name


class SourceError(BackupError):
    """Something to be backed up cannot be read."""


class RestoreError(BackupError):
    """Something to be restored cannot be written."""


class LogIncomplete(RestoreError):
    """A record of an archived log is missing, so that what was written after it cannot be had back."""

    exit_code = 4


class ApplicationError(BackupError):
    """Data came back that their application does not start on, or cannot be asked about."""

    exit_code = 4


class Interrupted(BackupError):
    """Asked to stop. Nothing stored is inconsistent; the next run resumes."""

    exit_code = 130
