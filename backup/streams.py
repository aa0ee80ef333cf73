"""Streams on their way into a snapshot: cut into pieces, handed to the crew in lots, and put together as files again.

Of a stream nothing is looked at twice and nothing lies on a disk of ours: memory holds the lots under way. Whether a
stream is whole is for its source to say, by raising; here every stream that ends is a file.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from os import stat_result
from typing import Generic, TypeGuard, TypeVar

from backup.chunker import Chunker
from backup.sealing import Job, SavePieces
from backup.sources.base import Kept, Stream

_LOT_BYTES = 4 << 20

FolderT = TypeVar("FolderT")


@dataclass(slots=True)
class StreamFile(Generic[FolderT]):
    """A file that is made of a stream."""

    folder: FolderT
    name: str
    status: stat_result
    size: int = 0
    ids: list[bytes] = field(default_factory=list)
    """Of its pieces, in order; empty bytes stand for those that are under way."""
    awaited: int = 1
    """Pieces under way, and one for the stream itself."""


@dataclass(slots=True)
class Lot(Generic[FolderT]):
    """Whose the pieces of one job are."""

    places: list[tuple[StreamFile[FolderT], int]] = field(default_factory=list)

    def arrived(self, ids: Iterable[bytes]) -> Iterator[StreamFile[FolderT]]:
        """Take the ids of the pieces; give the files that are complete by them."""
        for (file, place), name in zip(self.places, ids, strict=True):
            file.ids[place] = name
            file.awaited -= 1
            if not file.awaited:
                yield file


class StreamFiles(Generic[FolderT]):
    """Cuts streams and hands them out; small files share a lot, so that a thousand of them are no thousand jobs."""

    def __init__(self, chunker: Chunker, submit: Callable[[Job, Lot[FolderT]], None]) -> None:
        self._chunker = chunker
        self._submit = submit
        self._lot = Lot[FolderT]()
        self._pieces: list[bytes] = []
        self._bytes = 0

    def read(self, folder: FolderT, stream: Stream) -> StreamFile[FolderT] | None:
        """Read a stream to its end; gives its file when no piece of it is under way any more, else a lot will.

        Raises what the stream raises, and what ``submit`` does.
        """
        file = StreamFile(folder, stream.name, stream.status)
        for piece in cut(stream, self._chunker):
            if isinstance(piece, Kept):
                file.ids.append(piece.id)
                file.size += piece.size
                continue
            self._lot.places.append((file, len(file.ids)))
            file.ids.append(b"")
            file.awaited += 1
            file.size += len(piece)
            self._pieces.append(piece)
            self._bytes += len(piece)
            if self._bytes >= _LOT_BYTES:
                self.submit()
        file.awaited -= 1
        return None if file.awaited else file

    def submit(self) -> None:
        """Hand out what has gathered."""
        if self._pieces:
            lot, pieces = self._lot, tuple(self._pieces)
            self._lot, self._pieces, self._bytes = Lot[FolderT](), [], 0
            self._submit(SavePieces(pieces), lot)


def cut(stream: Stream, chunker: Chunker) -> Iterator[bytes | Kept]:
    """Yield the pieces of a stream, in order. Only streams of pages may take over pieces."""
    if stream.page_bytes:
        yield from _pages(stream.content, stream.page_bytes)
    else:
        reader = _Reader(part for part in stream.content if _is_new(part))
        for chunk in chunker.chunks(reader.readinto):
            yield bytes(chunk)


def _is_new(part: bytes | Kept) -> TypeGuard[bytes]:
    if isinstance(part, Kept):
        raise ValueError("a piece was taken over where the content says where to cut")
    return True


def _pages(content: Iterable[bytes | Kept], page_bytes: int) -> Iterator[bytes | Kept]:
    """Cut at multiples of ``page_bytes``; the last piece may be shorter."""
    rest = bytearray()
    for part in content:
        if isinstance(part, Kept):
            if rest:
                raise ValueError("a piece was taken over in the middle of a page")
            yield part
            continue
        if not rest and len(part) == page_bytes:
            yield bytes(part)
            continue
        rest += part
        whole = len(rest) - len(rest) % page_bytes
        with memoryview(rest) as view:
            pages = [bytes(view[at : at + page_bytes]) for at in range(0, whole, page_bytes)]
        del rest[:whole]
        yield from pages
    if rest:
        yield bytes(rest)


class _Reader:
    """Parts of any length, as ``readinto`` wants them."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._part = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        while not self._part:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._part = memoryview(part)
        count = min(len(self._part), len(buffer))
        buffer[:count] = self._part[:count]
        self._part = self._part[count:]
        return count
