"""Remembers what the files of a folder looked like when its tree was made, so that a folder in which nothing changed
costs one look at each file, and neither a tree from the storage nor a line of JSON.

A fingerprint is a hash over names, modes, owners, sizes, times, inodes and devices: all that an incremental run goes by
when it takes a file's content over from the parent snapshot. Equal fingerprints mean that the old tree would come out
again. That its blobs are still there follows from the index files: none of those of that time is gone. It holds for
folders of nothing but files; of others, the parent snapshot's tree is read. Kept in a file of :mod:`backup.kept`, 48
bytes a folder.
"""

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter
from os import fsencode, stat_result
from pathlib import Path
from typing import Final

from backup.kept import keep, recall

_MAGIC: Final = b"keepwatch folders 1\n"
_ID_BYTES: Final = 32
_BYTES: Final = 16
_RECORD_BYTES: Final = _ID_BYTES + _BYTES
_LOOK: Final = attrgetter(
    "st_mode", "st_uid", "st_gid", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev"
)
_PACK: Final = struct.Struct("<IIIQQqqQQ").pack


def fingerprint(
    names: Sequence[str], statuses: Iterable[stat_result], owner: Callable[[int, int], str]
) -> bytes:
    """Give the fingerprint, 16 bytes, of files in their order; ``owner`` tells how a tree writes user and group."""
    looks = [_LOOK(status) for status in statuses]
    owners = sorted({look[1:3] for look in looks})
    digest = hashlib.sha256(fsencode("\0".join([*names, "", *(owner(*pair) for pair in owners)])))
    digest.update(b"".join([_PACK(*look) for look in looks]))
    return digest.digest()[:_BYTES]


class Fingerprints:
    """The fingerprints of the folders that one source has, in the file ``path``; None remembers nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._records = memoryview(b"")

    @classmethod
    def of_job(cls, folder: Path, repository_id: str, job: str) -> "Fingerprints":
        """Give those of a job's folders in one repository, kept below ``folder``, which is made when it is needed."""
        return cls(folder / f"folders-{repository_id}-{hashlib.sha256(job.encode()).hexdigest()[:16]}")

    def recall(self, index_files: Collection[str]) -> None:
        """Take what was kept, if it is good for a repository with these index files. Do it before a fork."""
        self._records = memoryview(b"")
        kept = recall(self._path, _MAGIC) if self._path else None
        if kept is not None and kept.index_files <= set(index_files):
            (self._records,) = kept.parts

    def of(self, tree: bytes) -> bytes | None:
        """Give the fingerprint of the folder that a tree was made of, when it is known."""
        records = self._records
        count = len(records) // _RECORD_BYTES

        def name(number: int) -> bytes:
            at = number * _RECORD_BYTES
            return bytes(records[at : at + _ID_BYTES])

        number = bisect_left(range(count), tree, key=name)
        if number == count or name(number) != tree:
            return None
        return bytes(records[number * _RECORD_BYTES + _ID_BYTES :][:_BYTES])

    def keep(self, found: Iterable[tuple[bytes, bytes]], index_files: Collection[str]) -> None:
        """Keep these, (tree, fingerprint), for the next run and nothing else; a failure is only logged."""
        if self._path:
            records = {tree: tree + mark for tree, mark in found}
            keep(self._path, _MAGIC, index_files, [b"".join(sorted(records.values()))])
