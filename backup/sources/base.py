"""The seam between what is backed up and the archiver.

A source walks; it does not read content, compare with earlier snapshots or know of repositories. What it cannot see
it reports as a problem and goes on: a problem makes the run partial, never wrong.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

Xattrs = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of the source that is missing from the snapshot, or in it but not as one moment saw it."""

    path: str
    reason: str
    """Lower case, without a full stop."""


class Enter(NamedTuple):
    """A directory begins; everything until its Leave lies in it. A tuple, since there are millions of steps."""

    path: str
    name: str
    status: os.stat_result
    xattrs: Xattrs


class Files(NamedTuple):
    """Regular files, each for :class:`Admission` to judge. Nobody has looked at them: whoever opens them does."""

    path: str
    """Of their directory."""
    names: list[str]


class Leaf(NamedTuple):
    """An entry that is neither a directory nor a regular file."""

    path: str
    """Of its directory."""
    name: str
    status: os.stat_result
    linktarget: bytes = b""
    xattrs: Xattrs = ()


class Kept(NamedTuple):
    """A piece of a stream that is taken over from an earlier snapshot, unread."""

    id: bytes
    size: int


class Stream(NamedTuple):
    """A file whose content a program gives, once and in order: a dump, a member of a base backup, a manifest."""

    path: str
    """Of its directory: the one that is open, or one below it that nothing enters, which is made up."""
    name: str
    status: os.stat_result
    """Mode, owner and moment; its size is what comes. :mod:`backup.sources.streams` makes one."""
    content: Iterable[bytes | Kept]
    """Parts of any length, and pieces that are taken over, between whole pages. Whatever goes wrong with the program is
    raised here, as SourceError, and ends the run without a snapshot: half a dump is none.
    """
    page_bytes: int = 0
    """Cut at multiples of this, for content whose pages stay where they are; 0 cuts where the content says so."""


class Leave(NamedTuple):
    """The innermost directory ends."""


Step = Enter | Files | Stream | Leaf | Leave


class Admission(Protocol):
    """What a source says of single files. Asked in worker processes, and so must not change."""

    def takes(self, name: str, folder: int, status: os.stat_result) -> bool:
        """Whether a file of the open ``folder`` is backed up. Raises PermissionError when this user may not read it."""
        ...

    def forgives(self, error: OSError) -> bool:
        """Whether a file that fails so is left out, and only counted, rather than reported as a problem."""
        ...


class SavedFile(NamedTuple):
    """A file of an earlier snapshot."""

    size: int
    pieces: tuple[bytes, ...]
    """Ids of its pieces, in order."""


class Earlier(Protocol):
    """The snapshot before, as far as a source may go by it."""

    @property
    def name(self) -> str:
        """What it is called, in a few letters."""
        ...

    def is_whole(self, path: str) -> bool:
        """Whether everything below a path is in the repository, by its index. Raises CorruptData, StorageError."""
        ...

    def find(self, path: str) -> SavedFile | None:
        """Find a file by its path in the snapshot. Raises CorruptData, StorageError."""
        ...

    def read(self, pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Give (id, content) of each piece once, in any order. Raises CorruptData, StorageError."""
        ...


class Capture(Protocol):
    """One look at the source."""

    problems: list[Problem]
    """Grows during the walk."""
    left_out: int
    """Entries that this user may not read, where the source was told to leave them out."""

    @property
    def manifest(self) -> Mapping[str, object]:
        """What is in it by the application's own count, once the walk is over; empty where there is no application."""
        ...

    @property
    def admission(self) -> Admission:
        """What to ask about regular files."""
        ...

    def walk(self) -> Iterator[Step]:
        """Give every entry once. Steps outside any Enter belong to the root.

        Within a directory come first the regular files, then other leaves, then the directories, each in the order of
        their raw names; streams come whenever their program gives them.
        """
        ...


class Source(Protocol):
    """Something that can be backed up."""

    @property
    def paths(self) -> tuple[str, ...]:
        """What the snapshot says it holds: absolute paths. Snapshots with the same paths are each other's parents."""
        ...

    @property
    def live_paths(self) -> tuple[str, ...]:
        """Those of them that lie on this machine's file systems, for a drill to compare with; streams do not."""
        ...

    @property
    def excludes(self) -> tuple[str, ...]:
        """The patterns left out, for the snapshot."""
        ...

    @property
    def consistency(self) -> str:
        """``crash``: files as found one after the other. ``application``: one moment that the application knows of."""
        ...

    def capture(self) -> AbstractContextManager[Capture]:
        """Prepare the source, and put everything back at the end. Raises SourceError when there is nothing."""
        ...


@runtime_checkable
class Following(Protocol):
    """A source that can go by an earlier snapshot of itself, and so read less."""

    def following(self, earlier: Earlier) -> Source:
        """Give a source whose snapshots are as complete as its own; ``earlier`` has the same paths."""
        ...
