"""Lists what a snapshot holds, entry by entry, without reading any content."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.tree import TYPE_OF_FORMAT, Node, as_text
from backup.walking import load_tree, locate

_FORMAT_OF_TYPE = {name: fmt for fmt, name in TYPE_OF_FORMAT.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a snapshot. ``path`` is absolute within the snapshot; ``mode`` has POSIX permission bits."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    size: int
    modified_at: datetime
    linktarget: str

    def line(self, zone: tzinfo) -> str:
        """Return it as ``ls -l`` would, with the moment in ``zone``; control characters in names are escaped."""
        mode = stat.filemode(_FORMAT_OF_TYPE.get(self.type, 0) | self.mode)
        at = self.modified_at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
        target = f" -> {printable(self.linktarget)}" if self.linktarget else ""
        owner = f"{self.user or self.uid}:{self.group or self.gid}"
        return f"{mode} {owner:17} {self.size:>12} {at} {printable(self.path)}{target}"


def walk(repository: Repository, snapshot: Snapshot, *, below: str = "/") -> Iterator[Entry]:
    """Yield every entry at or below a path, parents first, in the snapshot's order. The index must be loaded.

    Raises SnapshotMissing when the path is not in the snapshot, CorruptData, StorageError.
    """
    place = locate(repository, snapshot, below)
    if place.node is not None:
        yield entry_of(place.path, place.node)
    if place.tree is not None:
        yield from _below(repository, place.tree, place.path)


def _below(repository: Repository, tree: bytes, path: bytes) -> Iterator[Entry]:
    waiting: list[tuple[bytes, Node]] = [(path, node) for node in reversed(load_tree(repository, tree))]
    while waiting:  # a loop, since trees may be deeper than Python's stack
        folder, node = waiting.pop()
        here = folder + b"/" + node.name
        yield entry_of(here, node)
        if node.subtree is not None:
            waiting += [(here, child) for child in reversed(load_tree(repository, node.subtree))]


def entry_of(path: bytes, node: Node) -> Entry:
    """Describe a node at an absolute path."""
    modified_at = datetime.fromtimestamp(node.mtime_ns / 1e9, UTC)
    return Entry(
        as_text(path), node.type, node.permissions, node.uid, node.gid, node.user, node.group, node.size, modified_at,
        as_text(node.linktarget),
    )  # fmt: skip


def printable(text: str) -> str:
    """Escape whatever would move the cursor or is no text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
