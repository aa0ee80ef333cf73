"""Finds things in snapshots: entries by path, time, size and type, or whatever holds a blob or a pack.

Many snapshots are searched in one walk that reads each shared tree once. It answers from trees and the index; no
content is read, and what is not in a snapshot is not found, whether or not its data are still stored.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from pathspec import GitIgnoreSpec

from backup.errors import BackupError
from backup.listing import Entry, entry_of
from backup.pack import BlobCodec, BlobEntry, BlobKind, parse_header, split_pack
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from backup.tree import Node, as_text
from backup.walking import walk_together

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID_DIGITS: Final = 64
_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries are wanted: those that match any of the patterns and all of the limits."""

    patterns: tuple[re.Pattern[str], ...] = ()
    """Searched in the path without its first slash; folders have a slash at the end. None: every path."""
    newer_than: datetime | None = None
    older_than: datetime | None = None
    """Both of the modification time, and both inclusive."""
    min_bytes: int | None = None
    max_bytes: int | None = None
    """A limit of size leaves out everything that is not a file."""
    types: frozenset[str] = frozenset()
    """restic's words: file, dir, symlink, dev, chardev, fifo. None: every type."""

    def matches(self, path: bytes, node: Node) -> bool:
        """Whether a node at an absolute path is wanted."""
        if self.types and node.type not in self.types:
            return False
        if self.min_bytes is not None or self.max_bytes is not None:
            most = self.max_bytes if self.max_bytes is not None else node.size
            if node.type != "file" or not (self.min_bytes or 0) <= node.size <= most:
                return False
        if self.newer_than is not None and node.mtime_ns < _nanoseconds(self.newer_than):
            return False
        if self.older_than is not None and node.mtime_ns > _nanoseconds(self.older_than):
            return False
        if not self.patterns:
            return True
        text = as_text(path[1:] + b"/" if node.type == "dir" else path[1:])
        return any(pattern.search(text) for pattern in self.patterns)


def _nanoseconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Turn a glob into what `Query` searches with: ``*``, ``?``, ``[...]``, and ``**`` for any folders.

    Without a slash at its beginning it matches at any depth, as in restic; whatever lies below a folder that matches
    is found too. Raises BackupError when it matches nothing at all.
    """
    anchored = pattern if pattern.startswith("/") else f"**/{pattern}"
    for found in GitIgnoreSpec.from_lines([anchored]).patterns:
        if found.regex is not None and pattern.strip("/"):
            return re.compile(found.regex.pattern, re.IGNORECASE if ignore_case else 0)
    raise BackupError(f"could not search for {pattern!r}: it is not a pattern", hint="quote it: '*.pdf'")


def regex(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Turn a regular expression (Python's) into what `Query` searches with. Raises BackupError when it is not one."""
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise BackupError(f"could not search for {pattern!r}: {error}", hint="escape special characters") from error


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, and every snapshot that has it exactly so."""

    entry: Entry
    snapshots: tuple[str, ...]
    """Ids, in the order in which they were searched."""


def find(repository: Repository, snapshots: Sequence[Snapshot], query: Query) -> list[Found]:
    """Search snapshots; gives what was found by path, the older version first. The index must be loaded.

    Raises CorruptData, StorageError.
    """
    found: dict[tuple[bytes, Node], int] = {}
    for path, node, owners in walk_together(repository, [snapshot.tree for snapshot in snapshots]):
        if query.matches(path, node):
            found[path, node] = found.get((path, node), 0) | owners
    ordered = sorted(found.items(), key=lambda item: (item[0][0].split(b"/"), item[0][1].mtime_ns))
    return [Found(entry_of(path, node), _ids(snapshots, owners)) for (path, node), owners in ordered]


def _ids(snapshots: Sequence[Snapshot], owners: int) -> tuple[str, ...]:
    return tuple(snapshot.id for number, snapshot in enumerate(snapshots) if owners >> number & 1)


# ---- blobs and packs


class ObjectKind(StrEnum):
    """What a blob is, in words."""

    DATA = "data"
    TREE = "tree"


@dataclass(frozen=True, slots=True)
class Holder:
    """A path whose content, or whose list of entries, a blob is."""

    blob: str
    kind: ObjectKind
    path: str
    packs: tuple[str, ...]
    """Every pack that has the blob; empty when none does."""
    snapshots: tuple[str, ...]


def blobs_named(repository: Repository, prefix: str) -> list[tuple[BlobKind, bytes]]:
    """Give every blob of the loaded index whose id begins so. A whole id counts though no pack has it: as data.

    Raises BackupError when it is no beginning of an id, or none begins so.
    """
    _require_hex(prefix, "blob")
    if len(prefix) == _ID_DIGITS:
        name = bytes.fromhex(prefix)
        known = [kind for kind in BlobKind if repository.index.contains(kind, name)]
        return [(kind, name) for kind in known or BlobKind]
    index = repository.index
    entries = (index.entry(record) for record in range(len(index)))
    found = dict.fromkeys((entry.kind, entry.id) for entry in entries if entry.id.hex().startswith(prefix))
    if not found:
        raise BackupError(f"could not find blob {prefix}: no blob begins so", hint="ids are hexadecimal digits")
    return list(found)


def blobs_in_pack(repository: Repository, prefix: str) -> tuple[str, list[BlobEntry]]:
    """Give a pack's id and its blobs: from the index, or from its own header when the index does not know it.

    Raises BackupError when none or several begin so, CorruptData, StorageError.
    """
    _require_hex(prefix, "pack")
    index = repository.index
    known = [pack for pack, _ in index.packs()]
    names = {pack for pack in known if pack.startswith(prefix)}
    if not names:
        names = {file.name for file in repository.storage.list(FileKind.DATA) if file.name.startswith(prefix)}
    if len(names) != 1:
        reason = f"{len(names)} packs begin so" if names else "there is no such pack"
        raise BackupError(f"could not find pack {prefix}: {reason}", hint="give more of its digits")
    (name,) = names
    if name in known:
        number = known.index(name)
        return name, [index.entry(record) for record in range(len(index)) if index.pack_number(record) == number]
    _, header = split_pack(repository.storage.get(FileKind.DATA, name))
    return name, parse_header(BlobCodec(repository.key).open_header(header))


def _require_hex(prefix: str, what: str) -> None:
    if len(prefix) > _ID_DIGITS or not _HEX.fullmatch(prefix):
        raise BackupError(f"could not find {what} {prefix}: it is no id", hint="ids are 64 hexadecimal digits")


def find_holders(
    repository: Repository, snapshots: Sequence[Snapshot], blobs: Collection[tuple[BlobKind, bytes]]
) -> list[Holder]:
    """Say which paths of which snapshots need these blobs. Raises CorruptData, StorageError."""
    data = {name for kind, name in blobs if kind is BlobKind.DATA}
    trees = {name for kind, name in blobs if kind is BlobKind.TREE}
    found: dict[tuple[bytes, BlobKind, bytes], int] = {}

    def note(path: bytes, kind: BlobKind, name: bytes, owners: int) -> None:
        found[path, kind, name] = found.get((path, kind, name), 0) | owners

    for number, snapshot in enumerate(snapshots):
        if snapshot.tree in trees:
            note(b"/", BlobKind.TREE, snapshot.tree, 1 << number)
    for path, node, owners in walk_together(repository, [snapshot.tree for snapshot in snapshots]):
        if node.subtree in trees and node.subtree is not None:
            note(path, BlobKind.TREE, node.subtree, owners)
        for name in data.intersection(node.content or ()):
            note(path, BlobKind.DATA, name, owners)
    return [
        Holder(name.hex(), ObjectKind[kind.name], as_text(path), _packs_of(repository, kind, name),
               _ids(snapshots, owners))
        for (path, kind, name), owners in sorted(found.items())
    ]  # fmt: skip


def _packs_of(repository: Repository, kind: BlobKind, name: bytes) -> tuple[str, ...]:
    return tuple(location.pack for location in repository.index.lookup_all(kind, name))
