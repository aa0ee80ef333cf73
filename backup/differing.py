"""Says how two snapshots differ: what was added, removed or changed, and by how many bytes.

Trees with equal ids are equal all the way down and are not read. Of metadata only that counts which a restore brings
back; inodes, devices and change times differ between any two copies and say nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from backup.crypto import OVERHEAD_BYTES
from backup.pack import BlobKind
from backup.repository import Repository
from backup.tree import Node, as_text
from backup.walking import Place, load_trees

_PAIRS_AT_ONCE: Final = 256
_FIELDS: Final = (
    ("mode", "mode"), ("mtime_ns", "mtime"), ("uid", "uid"), ("gid", "gid"), ("user", "user"), ("group", "group"),
    ("xattrs", "xattrs"), ("linktarget", "linktarget"), ("device", "device"),
)  # fmt: skip


class ChangeKind(StrEnum):
    """What happened to a path; the values are restic's signs."""

    ADDED = "+"
    REMOVED = "-"
    CONTENT = "M"
    METADATA = "U"
    TYPE = "T"
    ROT = "?"
    """Other content under metadata that have not changed at all, change time included: suspect the disk."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs."""

    kind: ChangeKind
    path: str
    """Absolute within the snapshot; a folder has a slash at its end."""
    old_bytes: int
    new_bytes: int
    """Sizes of the file before and after; 0 for anything else."""
    fields: tuple[str, ...] = ()
    """Which metadata changed, also when the content did."""


@dataclass(slots=True)
class Sums:
    """How much differs. Bytes are those of plaintext."""

    files_added: int = 0
    files_removed: int = 0
    files_changed: int = 0
    folders_added: int = 0
    folders_removed: int = 0
    others_added: int = 0
    others_removed: int = 0
    metadata_changed: int = 0
    types_changed: int = 0
    bytes_added: int = 0
    """Sizes of added files, and of changed files the blobs that are new in them."""
    bytes_removed: int = 0
    """The same the other way round."""

    def count(self, kind: ChangeKind, node: Node) -> None:
        """Count one entry that came, went or changed."""
        match kind:
            case ChangeKind.ADDED | ChangeKind.REMOVED:
                what = {"file": "files", "dir": "folders"}.get(node.type, "others")
                how = "added" if kind is ChangeKind.ADDED else "removed"
                name = f"{what}_{how}"
                setattr(self, name, getattr(self, name) + 1)
            case ChangeKind.CONTENT | ChangeKind.ROT:
                self.files_changed += 1
            case ChangeKind.METADATA:
                self.metadata_changed += 1
            case ChangeKind.TYPE:
                self.types_changed += 1


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes by path, and their sums."""

    changes: tuple[Change, ...]
    sums: Sums


class _Pair(NamedTuple):
    """Two folders of one path; an id is None where there is none."""

    path: bytes
    old: bytes | None
    new: bytes | None


def diff(repository: Repository, old: Place, new: Place, *, metadata: bool = True) -> Difference:
    """Compare two places of one repository, such as `locate` gives them. The index must be loaded.

    With ``metadata`` false, entries that differ in nothing else are left out. Raises CorruptData, StorageError.
    """
    comparison = _Comparison(repository, metadata=metadata)
    if old.tree is None and new.tree is None and old.node is not None and new.node is not None:
        comparison.compare(b"/" + new.node.name, old.node, new.node)
    else:
        comparison.walk(old.tree, new.tree)
    changes = sorted(comparison.changes, key=lambda item: item[0].split(b"/"))
    return Difference(tuple(change for _, change in changes), comparison.sums)


class _Comparison:
    def __init__(self, repository: Repository, *, metadata: bool) -> None:
        self.changes: list[tuple[bytes, Change]] = []
        self.sums = Sums()
        self._repository = repository
        self._metadata = metadata
        self._waiting: list[_Pair] = []

    def walk(self, old: bytes | None, new: bytes | None) -> None:
        """Compare two trees and all below."""
        self._enter(b"", old, new)
        while self._waiting:
            batch, self._waiting = self._waiting[-_PAIRS_AT_ONCE:], self._waiting[:-_PAIRS_AT_ONCE]
            wanted = dict.fromkeys(name for pair in batch for name in (pair.old, pair.new) if name is not None)
            trees = load_trees(self._repository, wanted)
            for path, old_tree, new_tree in batch:
                self._compare_folders(
                    path, trees[old_tree] if old_tree else (), trees[new_tree] if new_tree else ()
                )

    def compare(self, path: bytes, old: Node, new: Node) -> None:
        """Compare two entries of one name."""
        if old.type != new.type:
            self._note(ChangeKind.TYPE, path, old, new)
            self._resize(old, new)
        elif old.content != new.content:
            self._note(ChangeKind.ROT if _same_moment(old, new) else ChangeKind.CONTENT, path, old, new)
            self._resize(old, new)
        elif self._metadata and _changed_fields(old, new):
            self._note(ChangeKind.METADATA, path, old, new)
        self._enter(path, old.subtree, new.subtree)

    def _enter(self, path: bytes, old: bytes | None, new: bytes | None) -> None:
        if old != new:
            self._waiting.append(_Pair(path, old, new))

    def _compare_folders(self, path: bytes, old: Iterable[Node], new: Iterable[Node]) -> None:
        before = {node.name: node for node in old}
        after = {node.name: node for node in new}
        for name in before.keys() | after.keys():
            here = path + b"/" + name
            was, now = before.get(name), after.get(name)
            if was is not None and now is not None:
                self.compare(here, was, now)
            elif now is not None:
                self._note(ChangeKind.ADDED, here, None, now)
                self.sums.bytes_added += _size(now)
                self._enter(here, None, now.subtree)
            elif was is not None:
                self._note(ChangeKind.REMOVED, here, was, None)
                self.sums.bytes_removed += _size(was)
                self._enter(here, was.subtree, None)

    def _note(self, kind: ChangeKind, path: bytes, old: Node | None, new: Node | None) -> None:
        node = new or old
        assert node is not None
        self.sums.count(kind, node)
        text = as_text(path + b"/" if node.type == "dir" else path)
        fields = _changed_fields(old, new) if old is not None and new is not None else ()
        self.changes.append((path, Change(kind, text, _size(old), _size(new), fields)))

    def _resize(self, old: Node, new: Node) -> None:
        """Sum what only one of two versions holds."""
        before, after = set(old.content or ()), set(new.content or ())
        self.sums.bytes_added += sum(map(self._blob_bytes, after - before))
        self.sums.bytes_removed += sum(map(self._blob_bytes, before - after))

    def _blob_bytes(self, name: bytes) -> int:
        """Look a blob's size up; one that no index has counts nothing here, and `verify` tells of it."""
        location = self._repository.index.lookup(BlobKind.DATA, name)
        if location is None:
            return 0
        return location.uncompressed_length or location.length - OVERHEAD_BYTES


def _size(node: Node | None) -> int:
    return node.size if node is not None and node.type == "file" else 0


def _same_moment(old: Node, new: Node) -> bool:
    return old.inode != 0 and old._replace(content=None) == new._replace(content=None)


def _changed_fields(old: Node, new: Node) -> tuple[str, ...]:
    return tuple(name for attribute, name in _FIELDS if getattr(old, attribute) != getattr(new, attribute))
