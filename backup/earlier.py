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
from backup.tree import content_of, encode_name, parse_node, split_tree
from backup.walking import locate, walk_together


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
        try:
            tree = locate(self.repository, self.snapshot, path).tree
        except SnapshotMissing:
            return False
        known = self.repository.index.contains
        return tree is not None and all(
            known(BlobKind.DATA, piece)
            for _, node, _ in walk_together(self.repository, [tree])
            for piece in node.content or ()
        )

    def find(self, path: str) -> SavedFile | None:
        """Find a file."""
        folder, name = posixpath.split(path)
        if folder != self._folder:
            self._folder, self._nodes = folder, self._load(folder)
        encoded = self._nodes.get(encode_name(name))
        if encoded is None:
            return None
        return SavedFile(parse_node(encoded).size, tuple(content_of(encoded)))

    def read(self, pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Give the pieces, pack by pack."""
        return self.repository.load_blobs(BlobKind.DATA, pieces)

    def _load(self, folder: str) -> dict[str, str]:
        try:
            tree = locate(self.repository, self.snapshot, folder).tree
        except SnapshotMissing:
            return {}
        return split_tree(self.repository.load_blob(BlobKind.TREE, tree)) if tree else {}
