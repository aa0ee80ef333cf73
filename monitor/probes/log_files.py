"""Reads the lines that were written to log files since the last look, over whatever becomes of the files meanwhile.

A file is known by its inode and by a hash of its beginning. When a path has another file than last time (renamed and
made anew), or its file began anew (copied and truncated), the rest of the old one is read first, wherever it is now in
the same folder: under another name, or compressed. Lines are cut at ``LONGEST_LINE_BYTES``; one without an end yet is
left for the next look. What stood in a file before the first look is not read.
"""

import bz2
import glob
import gzip
import hashlib
import lzma
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

LONGEST_LINE_BYTES = 64 * 1024
_HEAD_BYTES = 512
_CHUNK_BYTES = 256 * 1024
_COMPRESSED: Mapping[str, Callable[[str], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BAD = (OSError, EOFError, lzma.LZMAError, ValueError)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read. ``head``: hash of its first ``head_length`` bytes."""

    device: int
    inode: int
    offset: int
    head: str
    head_length: int
    in_long_line: bool = False
    """The line at ``offset`` was given already, up to the cap; the rest of it is passed over."""


class LogFiles:
    """Follows all files that ``patterns`` match. ``places`` is what :attr:`memory` gave after an earlier look."""

    def __init__(self, patterns: list[str], places: Mapping[str, Any] | None = None) -> None:
        self._patterns = patterns
        self._first_look = places is None
        self._places = {path: Place(**place) for path, place in (places or {}).items()}
        self.unreadable: dict[str, str] = {}
        """Path -> why, of the last look."""
        self.found = 0

    @property
    def memory(self) -> dict[str, Any]:
        """Return the places as values for JSON."""
        return {path: asdict(place) for path, place in self._places.items()}

    def lines(self, deadline: float) -> Iterator[tuple[str, bytes]]:
        """Yield path and line of everything new. What is left at the deadline (monotonic) waits for the next look."""
        paths = sorted({path for pattern in self._patterns for path in glob.iglob(pattern, recursive=True)})
        self.unreadable, self.found = {}, len(paths)
        for path in paths:
            try:
                yield from ((path, line) for line in self._of(path, deadline))
            except _BAD as error:
                self.unreadable[path] = (getattr(error, "strerror", None) or str(error)).lower()
        self._places = {path: place for path, place in self._places.items() if path in paths or self._may_return(path)}
        self._first_look = False

    def _of(self, path: str, deadline: float) -> Iterator[bytes]:
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            if not os.path.isfile(path):
                return
            last = self._places.get(path)
            if last is None:
                start = about.st_size if self._first_look else 0
                self._places[path] = _place(file, about, start)
            elif not _is_same(file, about, last):
                for line, after in _rest_of_old(path, last, deadline):
                    self._places[path] = after
                    yield line
                if time.monotonic() >= deadline:
                    return  # the old one goes on at the next look
                self._places[path] = _place(file, about, 0)
            elif about.st_size > last.offset or last.head_length < _HEAD_BYTES:
                self._places[path] = replace(_place(file, about, last.offset), in_long_line=last.in_long_line)
            for new, offset, in_long_line in _lines_from(file, self._places[path], deadline):
                self._places[path] = replace(self._places[path], offset=offset, in_long_line=in_long_line)
                if new is not None:
                    yield new

    def _may_return(self, path: str) -> bool:
        """Whether a path that is gone may be in the middle of a rotation: its folder is there."""
        return os.path.isdir(os.path.dirname(path)) and len(self._places) < 1000


def _place(file: IO[bytes], about: os.stat_result, offset: int) -> Place:
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    return Place(about.st_dev, about.st_ino, offset, hashlib.sha256(head).hexdigest(), len(head))


def _is_same(file: IO[bytes], about: os.stat_result, last: Place) -> bool:
    same_file = (about.st_dev, about.st_ino) == (last.device, last.inode)
    return same_file and about.st_size >= last.offset and _begins_as(file, last)


def _begins_as(file: IO[bytes], last: Place) -> bool:
    file.seek(0)
    head = file.read(last.head_length)
    return len(head) == last.head_length and hashlib.sha256(head).hexdigest() == last.head


def _rest_of_old(path: str, last: Place, deadline: float) -> Iterator[tuple[bytes, Place]]:
    """Yield the lines of the file that stood at ``path`` until it was rotated away, from where it was left."""
    folder, name = os.path.split(path)
    try:
        others = [entry for entry in os.scandir(folder or ".") if entry.name.startswith(name) and entry.name != name]
    except OSError:
        return
    others.sort(key=lambda entry: (entry.inode() != last.inode, entry.name))
    for other in others:
        opener: Callable[[str], Any] = _COMPRESSED.get(os.path.splitext(other.name)[1], _open_plain)
        try:
            with opener(other.path) as file:
                if last.head_length == 0 or not _begins_as(file, last):
                    continue
                file.seek(last.offset)
                for line, offset, in_long_line in _lines_from(file, last, deadline, ended=True):
                    after = replace(last, offset=offset, in_long_line=in_long_line)
                    if line is not None:
                        yield line, after
                return
        except _BAD:
            continue


def _lines_from(
    file: IO[bytes], place: Place, deadline: float, *, ended: bool = False
) -> Iterator[tuple[bytes | None, int, bool]]:
    """Yield each line, the offset after it, and whether that is within a line that is too long. A line is None where
    only the rest of a long one was passed over. ``ended``: nobody writes on, so the last line needs no end.
    """
    file.seek(place.offset)
    pending, offset, skipping = b"", place.offset, place.in_long_line
    while time.monotonic() < deadline:
        chunk = file.read(_CHUNK_BYTES)
        if not chunk:
            if ended and pending:
                yield pending, offset + len(pending), False
            return
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            offset += len(line) + 1
            yield None if skipping else line[:LONGEST_LINE_BYTES].rstrip(b"\r"), offset, False
            skipping = False
        if skipping or len(pending) > LONGEST_LINE_BYTES:
            offset += len(pending)
            yield None if skipping else pending[:LONGEST_LINE_BYTES], offset, True
            pending, skipping = b"", True


def _open_plain(path: str) -> IO[bytes]:
    return open(path, "rb")
