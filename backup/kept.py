"""Files in which this machine keeps, between runs, what it could learn again from the storage.

Each proves itself by a hash, says for which index files of the repository it is good, and may be read by its owner
only. It is a convenience: whatever is wrong with one, it is left aside with a line in the log, and a failure to write
one stops nobody. Nothing that judges a repository or deletes from it may go by such a file.

::

    magic | SHA-256 of the rest | length of the header, 8 bytes little-endian | header, JSON | parts
"""

import hashlib
import logging
import mmap
import os
import secrets
import struct
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from backup.sources.files import CACHE_SIGNATURE, CACHE_TAG

log = logging.getLogger(__name__)

_HASH_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<Q")


class Kept(NamedTuple):
    """What such a file holds."""

    index_files: frozenset[str]
    """While all of these are in the repository, every blob that was in it is in it still."""
    parts: list[memoryview]
    """Views of the file, which stays mapped for as long as one of them lives."""


def keep(path: Path, magic: bytes, index_files: Collection[str], parts: Sequence[bytes | memoryview]) -> None:
    """Write such a file in place of the one before."""
    temporary = path.with_name(f"{path.name}-tmp-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        tag = path.parent / CACHE_TAG
        if not tag.exists():
            tag.write_bytes(CACHE_SIGNATURE + b"\n")  # no backup, of ours or of others, needs what lies here
        try:
            _write(temporary, magic, index_files, parts)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        log.warning("not kept for the next run", extra={"path": str(path), "reason": str(error)})


def recall(path: Path, magic: bytes) -> Kept | None:
    """Read such a file; None when there is none that is of use."""
    try:
        with open(path, "rb") as file:
            return _parse(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), magic)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        leave_aside(path, f"{type(error).__name__}: {error}")
        return None


def leave_aside(path: Path, reason: object) -> None:
    """Note that a file is of no use."""
    log.warning("kept file left aside", extra={"path": str(path), "reason": str(reason)})


def _write(path: Path, magic: bytes, index_files: Collection[str], parts: Sequence[bytes | memoryview]) -> None:
    header = orjson.dumps({"index_files": sorted(index_files), "sizes": [len(part) for part in parts]})
    pieces: list[bytes | memoryview] = [_LENGTH.pack(len(header)), header, *parts]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # not synced: what a power cut tears, the hash tells
        file.writelines([magic, digest.digest(), *pieces])


def _parse(view: memoryview, magic: bytes) -> Kept:
    """Raises ValueError, KeyError or TypeError for what is no whole file of this kind."""
    start = len(magic) + _HASH_BYTES
    if view[: len(magic)] != magic:
        raise ValueError("another version wrote it")
    if hashlib.sha256(view[start:]).digest() != view[len(magic) : start]:
        raise ValueError("it is damaged")
    (length,) = _LENGTH.unpack_from(view, start)
    start += _LENGTH.size
    header = orjson.loads(bytes(view[start : start + length]))
    start += length
    parts = []
    for size in header["sizes"]:
        parts.append(view[start : start + size])
        start += size
    return Kept(frozenset(header["index_files"]), parts)
