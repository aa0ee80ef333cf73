"""What a source may know of the snapshot before: its files, and their pieces, by path.

Reads trees and pieces as they are asked for; the nodes of one folder are kept, since files come folder by folder.
"""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from backup.errors import SnapshotMissing
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.base import SavedFile
from backup.tree import content_of, encode_name, parse_node, split_tree, subtree_of
from backup.walking import locate

_CONTENT = '"content":['
"""Part of the node of a file that has any."""


@dataclass(slots=True)
class EarlierSnapshot:
    """A snapshot of a repository whose index is loaded."""

    repository: Repository
    snapshot: Snapshot
    _folder: str = field(default="", init=False)
    _nodes: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        """Its short id."""
        return self.snapshot.short_id

    def is_whole(self, path: str) -> bool:
        """Whether the index knows all pieces of all files below a folder, which must be there."""
        known = self.repository.index.contains
        waiting = [self._tree(path)]
        while waiting:
            tree = waiting.pop()
            if tree is None or not known(BlobKind.TREE, tree):
                return False
            for node in self._nodes_of(tree).values():
                if subtree := subtree_of(node):
                    waiting.append(subtree)
                elif _CONTENT in node and not all(known(BlobKind.DATA, piece) for piece in content_of(node)):
                    return False
        return True

    def find(self, path: str) -> SavedFile | None:
        """Find a file."""
        folder, name = posixpath.split(path)
        if folder != self._folder:
            tree = self._tree(folder)
            self._folder, self._nodes = folder, self._nodes_of(tree) if tree else {}
        encoded = self._nodes.get(encode_name(name))
        if encoded is None:
            return None
        node = parse_node(encoded)
        return SavedFile(node.size, node.content or ())

    def read(self, pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Give the pieces, pack by pack."""
        return self.repository.load_blobs(BlobKind.DATA, pieces)

    def _tree(self, folder: str) -> bytes | None:
        try:
            return locate(self.repository, self.snapshot, folder).tree
        except SnapshotMissing:
            return None

    def _nodes_of(self, tree: bytes) -> dict[str, str]:
        return split_tree(self.repository.load_blob(BlobKind.TREE, tree))
