"""Which blobs the snapshots refer to: the marking half of prune.

Trees are read level by level and pack by pack, each once; of their JSON only ids are looked at. It refuses to go on
without a blob that is referred to, since whatever a lost tree refers to would look like waste; and it deletes nothing.
"""

from collections.abc import Callable, Iterable, Iterator

import orjson

from backup.errors import CorruptData
from backup.index import Index
from backup.pack import BlobKind
from backup.reader import missing_blob
from backup.repository import Repository

_TREES_AT_ONCE = 4096
_MET_MOST = 1 << 17
"""Ids remembered as text, about 15 MiB: a folder differs little from snapshot to snapshot, and so do its blobs."""


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
    met: set[str] = set()
    while level:
        below: list[bytes] = []
        for start in range(0, len(level), _TREES_AT_ONCE):
            for name, content in repository.load_blobs(BlobKind.TREE, level[start : start + _TREES_AT_ONCE]):
                for kind, child in references(content, name, met):
                    if _mark(index, marks, kind, child, usable) and kind is BlobKind.TREE:
                        below.append(child)
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


def references(tree: bytes, name: bytes, met: set[str]) -> Iterator[tuple[BlobKind, bytes]]:
    """Give every blob that a tree refers to, but for data in ``met``, where it is noted. Raises CorruptData."""
    try:
        for node in orjson.loads(tree)["nodes"] or ():
            for content in node.get("content") or ():
                if content not in met:
                    met.add(content)
                    yield BlobKind.DATA, bytes.fromhex(content)
            if subtree := node.get("subtree"):
                yield BlobKind.TREE, bytes.fromhex(subtree)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"could not read tree {name.hex()[:8]}: {error}", name=name.hex()) from error
