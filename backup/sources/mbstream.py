"""Takes the stream of mariadb-backup apart as it flows by, into files one after the other.

The format is xbstream (extra/mariabackup/xbstream_read.cc): chunks of any file, in any order of files; each names its
file, its place in it and its checksum. While the data files go by one after the other, chunks of the redo log come in
between: whatever is not the file under way is put aside until its end.
"""

import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backup.errors import SourceError
from backup.sources.streams import PART_BYTES

_MAGIC = b"XBSTCK01"
_HEAD = struct.Struct("<8sBcI")
_BODY = struct.Struct("<QQI")
_LONGEST_NAME = 4096
_MAY_BE_IGNORED = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the stream; its parts must be taken before the next one is asked for."""

    name: str
    parts: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: str
    ends: bool
    offset: int = 0
    data: bytes = b""


class MbStream:
    """Reads the files of one stream. ``aside`` is a folder for what comes out of turn."""

    def __init__(self, content: Iterable[bytes], aside: Path) -> None:
        self._content = iter(content)
        self._buffer = bytearray()
        self._aside = aside
        self._put_aside: dict[str, tuple[BinaryIO, int]] = {}
        self._done: list[str] = []
        self._chunks = self._read()

    def members(self) -> Iterator[Member]:
        """Give every file once. Raises SourceError when the stream is damaged or ends in the middle."""
        try:
            for chunk in self._chunks:
                # the redo log is open from the first to the last
                if chunk.name in self._put_aside or chunk.name.endswith("ib_logfile0"):
                    self._put(chunk)
                else:
                    yield Member(chunk.name, self._parts(chunk))
                yield from self._finished()
            if self._put_aside:
                raise SourceError(f"could not read the physical copy: {min(self._put_aside)} ends in the middle")
        finally:
            for file, _ in self._put_aside.values():
                file.close()

    def _parts(self, chunk: _Chunk) -> Iterator[bytes]:
        """Give a file as its chunks come; those of others are put aside."""
        name, at = chunk.name, 0
        following: _Chunk | None = chunk
        while following is not None:
            if following.name != name:
                self._put(following)
            elif following.ends:
                return
            else:
                at = _require_next(following, at)
                yield following.data
            following = next(self._chunks, None)
        raise SourceError(f"could not read the physical copy: {name} ends in the middle")

    def _put(self, chunk: _Chunk) -> None:
        if chunk.name not in self._put_aside:
            self._put_aside[chunk.name] = (tempfile.TemporaryFile(dir=self._aside), 0)  # noqa: SIM115 - given on
        file, at = self._put_aside[chunk.name]
        if chunk.ends:
            self._done.append(chunk.name)
            return
        file.write(chunk.data)
        self._put_aside[chunk.name] = (file, _require_next(chunk, at))

    def _finished(self) -> Iterator[Member]:
        """Give what was put aside and is complete now."""
        while self._done:
            name = self._done.pop(0)
            file, _ = self._put_aside.pop(name)
            with file:
                file.seek(0)
                yield Member(name, iter(lambda file=file: file.read(PART_BYTES), b""))  # type: ignore[misc]

    def _read(self) -> Iterator[_Chunk]:
        while head := self._take(_HEAD.size, may_end=True):
            magic, flags, kind, length = _HEAD.unpack(head)
            if magic != _MAGIC or length > _LONGEST_NAME:
                raise SourceError("could not read the physical copy: the stream is damaged")
            name = self._take(length).decode("utf-8", "surrogateescape")
            if kind == b"E":
                yield _Chunk(name, ends=True)
            elif kind == b"P":
                size, offset, checksum = _BODY.unpack(self._take(_BODY.size))
                data = self._take(size)
                if zlib.crc32(data) != checksum:
                    raise SourceError(f"could not read the physical copy: {name} fails its checksum")
                yield _Chunk(name, ends=False, offset=offset, data=data)
            elif not flags & _MAY_BE_IGNORED:
                raise SourceError(f"could not read the physical copy: chunks of kind {kind!r} are not known")

    def _take(self, count: int, *, may_end: bool = False) -> bytes:
        while len(self._buffer) < count:
            part = next(self._content, None)
            if part is None:
                if may_end and not self._buffer:
                    return b""
                raise SourceError("could not read the physical copy: it ends in the middle")
            self._buffer += part
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _require_next(chunk: _Chunk, at: int) -> int:
    if chunk.offset != at:
        raise SourceError(f"could not read the physical copy: a part of {chunk.name} is missing at {at}")
    return at + len(chunk.data)
