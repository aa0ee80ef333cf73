"""Keeps a parsed index between runs: what takes four seconds to read for a million blobs is taken over in a tenth.

Index files never change and are named by what they hold, so an index made of some of them is good for as long as all of
these are there; later ones are added to it. What is kept is the memory of :class:`~backup.index.Index` as it is, in a
file that only its owner may read, and that proves itself by a hash. It is a convenience of this machine: whatever is
wrong with it, it is left aside, and the storage is read. Nothing that judges a repository or deletes from it (verify,
prune, drills, full backups) may go by it.

::

    magic | SHA-256 of the rest | length of the header, 8 bytes little-endian | header, JSON | the parts of the index
"""

import hashlib
import logging
import mmap
import os
import secrets
import struct
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from backup.index import Index

log = logging.getLogger(__name__)

_MAGIC: Final = b"keepwatch index 1 " + sys.byteorder[:1].encode() + b"\n"
_HASH_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<Q")
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
        try:
            index, held = _read(self._path)
        except FileNotFoundError:
            return Index(), frozenset()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("kept index left aside", extra={"path": str(self._path), "reason": str(error)})
            return Index(), frozenset()
        if not held <= set(names):  # a prune wrote other files
            return Index(), frozenset()
        self._names, self._blobs = held, len(index)
        return index, held

    def keep(self, index: Index, names: Collection[str]) -> None:
        """Keep an index that is the union of these index files, if it is worth writing; a failure is only logged."""
        held = self._names <= set(names)
        if held and len(index) - self._blobs <= len(index) * _WORTH_WRITING:
            return
        temporary = self._path.with_name(f"{self._path.name}-tmp-{secrets.token_hex(4)}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _write(temporary, index, names)
                os.replace(temporary, self._path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            log.warning("index not kept", extra={"path": str(self._path), "reason": str(error)})


def _write(path: Path, index: Index, names: Collection[str]) -> None:
    parts = index.parts()
    header = orjson.dumps({"names": sorted(names), "sizes": [len(part) for part in parts]})
    pieces: list[bytes | memoryview] = [_LENGTH.pack(len(header)), header, *parts]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # not synced: what a power cut tears, the hash tells
        file.writelines([_MAGIC, digest.digest(), *pieces])


def _read(path: Path) -> tuple[Index, frozenset[str]]:
    """Raises OSError, ValueError, KeyError or TypeError for what is no whole cache of this version."""
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return _parse(view)


def _parse(view: memoryview) -> tuple[Index, frozenset[str]]:
    start = len(_MAGIC) + _HASH_BYTES
    if view[: len(_MAGIC)] != _MAGIC:
        raise ValueError("another version wrote it")
    with view[start:] as rest:
        if hashlib.sha256(rest).digest() != view[len(_MAGIC) : start]:
            raise ValueError("it is damaged")
    (length,) = _LENGTH.unpack_from(view, start)
    start += _LENGTH.size
    header = orjson.loads(bytes(view[start : start + length]))
    start += length
    parts = []
    for size in header["sizes"]:
        parts.append(view[start : start + size])
        start += size
    try:
        return Index.of_parts(parts), frozenset(header["names"])
    finally:
        for part in parts:
            part.release()
