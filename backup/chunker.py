"""Cuts files into chunks where their content says so, so that an insertion changes one chunk and not all that follow.

Cut points depend on the repository's secret polynomial: with public cut points the lengths of chunks would tell which
well-known files a repository holds. The bytes go through a permutation derived from the secret, which makes a keyed
table of the gear hash that fastcdc uses. Any cut is legal in restic's format; files up to 512 KiB are one chunk here
and there, and are deduplicated with restic's. Behind a cut, a MiB is neither looked at nor read for the next one.

The cut points are part of every repository's future: changing anything here costs one full upload of big files.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

MIN_BYTES = 1 << 20
MAX_BYTES = 8 << 20
_WINDOW_BYTES = 32 << 10
"""How much is looked at in one step; the translated copy should stay in the nearest cache."""
_WARM_UP_BYTES = 64 + 32
"""fastcdc skips 64 bytes at least, and its hash forgets a byte after 32 more; windows overlap by this much."""
_AVERAGE_BYTES = 1 << 18
"""fastcdc's parameter; a cut comes on average 2 * _AVERAGE_BYTES behind the minimum: 1.5 MiB chunks."""
_BUFFER_BYTES = 3 * MAX_BYTES

ReadAt = Callable[[int, int], bytes]
"""Gives up to so many bytes from an offset, as ``os.pread`` with its arguments turned round; fewer only at the end."""
ReadInto = Callable[[memoryview], int]
"""Fills a part of the given buffer and returns how many bytes; 0 at the end, as ``RawIOBase.readinto``."""


class Chunker:
    """Cuts with the key of one repository. Holds a buffer once used for a big file: one chunker a thread."""

    def __init__(self, polynomial: int) -> None:
        self._permutation = _permutation(polynomial)
        self._buffer: bytearray | None = None

    def cuts(self, read: ReadAt, size: int) -> Iterator[int]:
        """Yield the lengths of the chunks of ``size`` bytes, reading only what has to be looked at."""
        start = 0
        while start < size:
            length = self._first_cut(read, start, min(size - start, MAX_BYTES))
            yield length
            start += length

    def _first_cut(self, read: ReadAt, first: int, size: int) -> int:
        """Return the length of the chunk that begins at ``first``, where ``size`` bytes may belong to it."""
        start = MIN_BYTES - _WARM_UP_BYTES
        while start + _WARM_UP_BYTES < size:
            end = min(start + _WINDOW_BYTES, size)
            view = read(first + start, end - start).translate(self._permutation)
            if len(view) < _WARM_UP_BYTES:  # the file has shrunk
                break
            cut = next(_fastcdc(view, min_size=64, avg_size=_AVERAGE_BYTES, max_size=MAX_BYTES)).length
            if cut < len(view):
                return max(start + int(cut), MIN_BYTES)
            start = end - _WARM_UP_BYTES
        return size

    def chunks(self, readinto: ReadInto) -> Iterator[memoryview]:
        """Yield the chunks of what ``readinto`` gives. Each is valid until the next one is asked for."""
        if self._buffer is None:
            self._buffer = bytearray(_BUFFER_BYTES)
        buffer = memoryview(self._buffer)
        start = filled = 0
        at_end = False

        def look(at: int, count: int) -> bytes:
            return bytes(buffer[at : at + count])

        while True:
            if not at_end and filled - start < MAX_BYTES:
                buffer[: filled - start] = buffer[start:filled]
                start, filled = 0, filled - start
                while filled < _BUFFER_BYTES and not at_end:
                    count = readinto(buffer[filled:])
                    filled += count
                    at_end = count == 0
            if start == filled:
                return
            length = self._first_cut(look, start, min(filled - start, MAX_BYTES))
            yield buffer[start : start + length]
            start += length


def _fastcdc(view: bytes, **sizes: int) -> Any:
    from fastcdc import fastcdc  # brings a command line, which a run without big files should not wait for

    return fastcdc(view, **sizes)


def _permutation(polynomial: int) -> bytes:
    stream = hashlib.shake_256(b"keepwatch cut points 1\0" + polynomial.to_bytes(8, "little")).digest(256 * 16)
    keys = [stream[at : at + 16] for at in range(0, len(stream), 16)]
    return bytes(sorted(range(256), key=keys.__getitem__))
