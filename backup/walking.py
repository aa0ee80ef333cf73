"""Walks through the trees of snapshots: to one path, or through many snapshots at once.

Reads trees and nothing else, and judges nothing: what a name or a node is worth is for the caller to say. A tree that
several snapshots share at one path is read and given once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from backup.errors import SnapshotMissing
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.tree import Node, parse_tree, raw_bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a snapshot and what is there."""

    path: bytes
    """Absolute within the snapshot, without a slash at its end; empty for the root."""
    node: Node | None
    """None for the root, which has no node of its own."""
    tree: bytes | None
    """The folder's tree; None for anything but a folder."""


def split_reference(text: str) -> tuple[str, str]:
    """Split ``SNAPSHOT:SUBFOLDER`` as restic writes it; the subfolder is ``/`` when none is named."""
    reference, _, folder = text.partition(":")
    return reference, folder or "/"


def locate(repository: Repository, snapshot: Snapshot, path: str) -> Place:
    """Find a path in a snapshot. The index must be loaded.

    Raises SnapshotMissing when there is no such path, CorruptData, StorageError.
    """
    here, node, tree = b"", None, snapshot.tree or None
    for part in (part for part in raw_bytes(path).split(b"/") if part):
        nodes = load_tree(repository, tree) if tree else []
        node = next((node for node in nodes if node.name == part), None)
        if node is None:
            raise SnapshotMissing(
                f"could not find /{path.strip('/')} in snapshot {snapshot.short_id}: it has no such path",
                hint=f"`keepwatch ls {snapshot.short_id}` shows all there is",
            )
        here, tree = here + b"/" + part, node.subtree
    return Place(here, node, tree)


def load_tree(repository: Repository, name: bytes) -> list[Node]:
    """Read one tree. Raises CorruptData, StorageError."""
    return parse_tree(repository.load_blob(BlobKind.TREE, name))


def load_trees(repository: Repository, names: Iterable[bytes]) -> dict[bytes, list[Node]]:
    """Read several trees with few and long reads. Raises CorruptData, StorageError."""
    return {name: parse_tree(content) for name, content in repository.load_blobs(BlobKind.TREE, names)}


def walk_together(repository: Repository, roots: Sequence[bytes]) -> Iterator[tuple[bytes, Node, int]]:
    """Give (absolute path, node, which roots) for every entry below several root trees, level by level.

    The third is a set of bits: bit n stands for ``roots[n]``. An entry comes once for each tree that holds it at its
    path, however many of the roots lead there. Raises CorruptData, StorageError.
    """
    level: dict[bytes, dict[bytes, int]] = {}
    for number, root in enumerate(roots):
        paths = level.setdefault(root, {})
        paths[b""] = paths.get(b"", 0) | 1 << number
    while level:
        below: dict[bytes, dict[bytes, int]] = {}
        for name, content in repository.load_blobs(BlobKind.TREE, level):
            nodes = parse_tree(content)
            for path, owners in level[name].items():
                for node in nodes:
                    here = path + b"/" + node.name
                    yield here, node, owners
                    if node.subtree:
                        paths = below.setdefault(node.subtree, {})
                        paths[here] = paths.get(here, 0) | owners
        level = below
