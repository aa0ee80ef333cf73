"""Keeps a parsed index between runs: what takes four seconds to read for a million blobs is taken over in a tenth.

Index files never change and are named by what they hold, so an index made of some of them is good for as long as all of
these are there; later ones are added to it. What is kept is the memory of :class:`~backup.index.Index` as it is, in a
file of :mod:`backup.kept`, which says who may not go by it.
"""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from backup.index import Index
from backup.kept import keep, leave_aside, recall

_MAGIC: Final = b"keepwatch index 1 " + sys.byteorder[:1].encode() + b"\n"
_WORTH_WRITING: Final = 0.05
"""Written anew when this share of the blobs is not in it; until then, the files that are missing in it are read."""


class IndexCache:
    """The kept index of one repository, by its id, in ``folder``, which is made when something is kept."""

    def __init__(self, folder: Path, repository_id: str) -> None:
        self._path = folder / f"index-{repository_id}"
        self._names: frozenset[str] = frozenset()
        self._blobs = 0

    def recall(self, names: Collection[str]) -> tuple[Index, frozenset[str]]:
        """Give an index of some of these index files, and which; an empty one when nothing kept is of use."""
        kept = recall(self._path, _MAGIC)
        if kept is None or not kept.index_files <= set(names):  # a prune wrote other files
            return Index(), frozenset()
        try:
            index = Index.of_parts(kept.parts)
        except ValueError as error:
            leave_aside(self._path, error)
            return Index(), frozenset()
        self._names, self._blobs = kept.index_files, len(index)
        return index, kept.index_files

    def keep(self, index: Index, names: Collection[str]) -> None:
        """Keep an index that is the union of these index files, if it is worth writing; a failure is only logged."""
        held = self._names <= set(names)
        if not held or len(index) - self._blobs > len(index) * _WORTH_WRITING:
            keep(self._path, _MAGIC, names, index.parts())
