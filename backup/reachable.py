"""Which blobs the snapshots refer to: the marking half of prune.

Trees are read level by level and pack by pack, each once; of their JSON only ids are looked at. It refuses to go on
without a blob that is referred to, since whatever a lost tree refers to would look like waste; and it deletes nothing.
"""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import orjson

from backup.errors import CorruptData
from backup.index import Index
from backup.pack import BlobKind
from backup.reader import missing_blob
from backup.repository import Repository

_TREES_AT_ONCE = 4096
_MET_MOST = 1 << 17
"""Ids remembered as text, about 20 MiB: a folder differs little from snapshot to snapshot, and so do its blobs."""
_ID = 32
_HEX = 64
_BEGINNINGS = {b'["', b"[]", b"nu"}
"""Of what a node has for content in canonical JSON: ids, none, null."""


def mark_reachable(
    repository: Repository,
    roots: Iterable[bytes],
    usable: Callable[[int], bool] = lambda _record: True,
    *,
    marks: bytearray | None = None,
) -> bytearray:
    """Mark what these root trees need: one byte for each record of the loaded index, 1 for the copy that is to stay.

    Of several copies the first is marked whose record number is ``usable``. Given ``marks`` are added to; what is
    marked there, with any number but 0, is not looked at again. Raises CorruptData, naming the blob, when there is no
    copy; StorageError.
    """
    index = repository.index
    marks = bytearray(len(index)) if marks is None else marks
    level = [root for root in dict.fromkeys(roots) if _mark(index, marks, BlobKind.TREE, root, usable)]
    met: set[bytes] = set()
    while level:
        below: list[bytes] = []
        for start in range(0, len(level), _TREES_AT_ONCE):
            for name, content in repository.load_blobs(BlobKind.TREE, level[start : start + _TREES_AT_ONCE]):
                found = references(content, name)
                fresh = found.data.difference(met)
                for blob in _names(fresh, name):
                    _mark(index, marks, BlobKind.DATA, blob, usable)
                below += [
                    tree for tree in _names(found.trees, name) if _mark(index, marks, BlobKind.TREE, tree, usable)
                ]
                met |= fresh
                if len(met) > _MET_MOST:
                    met.clear()
        level = below
    return marks


def _mark(index: Index, marks: bytearray, kind: BlobKind, name: bytes, usable: Callable[[int], bool]) -> bool:
    """Mark one copy; False when one is marked already."""
    choice = -1
    for record in index.numbers(kind, name):
        if marks[record]:
            return False
        if choice < 0 and usable(record):
            choice = record
    if choice < 0:
        raise missing_blob(name)
    marks[choice] = 1
    return True


class References(NamedTuple):
    """The blobs that a tree refers to, by their names in hex."""

    data: set[bytes]
    trees: list[bytes]


def references(tree: bytes, name: bytes) -> References:
    """Give every blob that a tree refers to. Raises CorruptData.

    Trees as restic and this program write them are not parsed, which would be most of a prune: in their JSON a quote
    inside a string is escaped, so that what looks like one of these keys is one.
    """
    found = _quick_references(tree)
    if found is not None:
        return found
    data, trees = set[bytes](), list[bytes]()
    try:
        for node in orjson.loads(tree)["nodes"] or ():
            data.update(content.encode() for content in node.get("content") or ())
            if subtree := node.get("subtree"):
                trees.append(subtree.encode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(name, error) from error
    return References(data, trees)


def _quick_references(tree: bytes) -> References | None:
    """As `references`; None for a tree that anybody could have written otherwise than in the form known here."""
    if not (tree.startswith(b'{"nodes":[') and tree.endswith(b"]}\n")) or (b"\\" in tree and b"\\u" in tree):
        return None
    _, *contents = tree.split(b'"content":')
    if tree.count(b'"content"') != len(contents) or not {behind[:2] for behind in contents} <= _BEGINNINGS:
        return None
    subtrees: list[bytes] = []
    if b'"subtree"' in tree:
        _, *subtrees = tree.split(b'"subtree":"')
        if tree.count(b'"subtree"') != len(subtrees):
            return None
    data = {behind[2 : _HEX + 2] for behind in contents if behind[_HEX + 2 : _HEX + 4] == b'"]'}
    if len(data) < len(contents):  # there are some with several blobs, or with none
        for behind in contents:
            if behind.startswith(b'["'):
                data.update(behind[2 : behind.find(b'"]')].split(b'","'))
    return References(data, [behind[:_HEX] for behind in subtrees]) if set(map(len, data)) <= {_HEX} else None


def _names(ids: Collection[bytes], tree: bytes) -> list[bytes]:
    """Turn ids from hex into names. Raises CorruptData, naming the tree, when one is none."""
    try:
        names = bytes.fromhex(b"".join(ids).decode())
    except ValueError as error:
        raise _unreadable(tree, error) from error
    if set(map(len, ids)) - {_HEX} or len(names) != _ID * len(ids):
        raise _unreadable(tree, ValueError("it refers to something that is no id"))
    return [names[at : at + _ID] for at in range(0, len(names), _ID)]


def _unreadable(tree: bytes, error: Exception) -> CorruptData:
    return CorruptData(f"could not read tree {tree.hex()[:8]}: {error}", name=tree.hex())
