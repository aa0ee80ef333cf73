"""Says who needs a damaged pack: which snapshots, and for which files.

Walks past what it cannot read: a tree in a damaged pack is itself something that is needed from it, and what lies below
is not known. Writes nothing, proves nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final

from backup.errors import CorruptData, StorageError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.tree import Node, as_text, parse_tree

_NAMED: Final = 3
"""Snapshots and files that are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Need:
    """Who needs one pack."""

    snapshots: tuple[str, ...] = ()
    """Short ids, oldest first."""
    paths: tuple[str, ...] = ()
    """Of files, and of folders whose tree is in the pack; each once, in order."""

    def __str__(self) -> str:
        return f"needed by {_some(self.snapshots, 'more snapshots')} for {_some(self.paths, 'more paths')}"


def needs_of(repository: Repository, packs: Collection[str]) -> dict[str, Need]:
    """Say for each pack who needs it. A blob that also lies in a sound pack needs none. The index must be loaded."""
    if not packs:
        return {}
    found: dict[str, dict[bytes, int]] = {pack: {} for pack in sorted(packs)}
    damaged: list[CorruptData] = []
    snapshots = repository.snapshots(on_damage=damaged.append)
    for path, kind, blob, owners in _walk(repository, [snapshot.tree for snapshot in snapshots]):
        holders = {location.pack for location in repository.index.lookup_all(kind, blob)}
        if holders and holders <= found.keys():
            for pack in holders:
                found[pack][path] = found[pack].get(path, 0) | owners
    ids = [snapshot.short_id for snapshot in snapshots]
    return {pack: _need(places, ids) for pack, places in found.items()}


def _need(places: dict[bytes, int], ids: list[str]) -> Need:
    owners = reduce(or_, places.values(), 0)
    return Need(
        tuple(name for number, name in enumerate(ids) if owners >> number & 1),
        tuple(as_text(path or b"/") for path in sorted(places)),
    )


def _walk(repository: Repository, roots: list[bytes]) -> Iterator[tuple[bytes, BlobKind, bytes, int]]:
    """Give (path, kind, blob, which roots as bits) for every blob that the roots lead to, level by level."""
    level: dict[bytes, dict[bytes, int]] = {}
    for number, root in enumerate(roots):
        _add(level, root, b"", 1 << number)
    while level:
        below: dict[bytes, dict[bytes, int]] = {}
        for tree, places in level.items():
            nodes = _read(repository, tree)
            for path, owners in places.items():
                yield path, BlobKind.TREE, tree, owners
                for node in nodes:
                    here = path + b"/" + node.name
                    for blob in node.content or ():
                        yield here, BlobKind.DATA, blob, owners
                    if node.subtree:
                        _add(below, node.subtree, here, owners)
        level = below


def _add(level: dict[bytes, dict[bytes, int]], tree: bytes, path: bytes, owners: int) -> None:
    places = level.setdefault(tree, {})
    places[path] = places.get(path, 0) | owners


def _read(repository: Repository, tree: bytes) -> list[Node]:
    try:
        return parse_tree(repository.load_blob(BlobKind.TREE, tree))
    except (CorruptData, StorageError):
        return []


def _some(names: Sequence[str], more: str) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} {more}" if rest > 0 else "")
