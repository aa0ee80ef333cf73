"""Packs: files of about 16 MiB that hold many sealed blobs and, at their end, the sealed header that names them.

::

    blob | blob | ... | sealed header | length of the sealed header, 4 bytes little-endian

The format is restic's (doc/design.rst, "Pack Format"). A pack holds blobs of one kind only. A builder opens and hashes
again everything it sealed before it gives a pack away, so that a flipped bit in this machine's memory is found before
the only good copy is gone. It stores nothing and knows no index; it is made to run in worker processes, which put the
pack and send the small `PackRecord` home.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import zstandard

from backup.around_cache import aligned_memory
from backup.crypto import OVERHEAD_BYTES, MasterKey, Sealer
from backup.errors import CorruptData
from backup.storage.base import Buffer

TARGET_BYTES: Final = 16 * 2**20
HEADER_MOST_BYTES: Final = 16 * 2**20
LENGTH_BYTES: Final = 4
SMALLEST_PACK_BYTES: Final = 37 + OVERHEAD_BYTES + LENGTH_BYTES

_PLAIN: Final = struct.Struct("<BI32s")
_COMPRESSED: Final = struct.Struct("<BII32s")
PLAIN_ENTRY_BYTES: Final = _PLAIN.size
COMPRESSED_ENTRY_BYTES: Final = _COMPRESSED.size
"""What an entry takes in the header."""
_LENGTH: Final = struct.Struct("<I")
_ROOM_BYTES: Final = 9 * 2**20
"""What a pack may take beyond its target without moving: the largest piece of a file, and a header."""
_COMPRESSED_TYPE: Final = 2
_BATCH_BYTES: Final = 128 << 10
_BATCH_BLOBS: Final = 256

Plain = bytes | memoryview
"""A plaintext, perhaps in memory that is used again."""


class BlobKind(IntEnum):
    """What a blob is; the number is the type byte of an uncompressed blob in a pack header."""

    DATA = 0
    TREE = 1


_KINDS: Final = {int(kind): kind for kind in BlobKind}
"""Five times as fast as calling the enumeration."""


class BlobEntry(NamedTuple):
    """One blob of a pack. A named tuple: one run makes a million of them, and a dataclass costs four times as much."""

    kind: BlobKind
    id: bytes
    """SHA-256 of the plaintext."""
    offset: int
    length: int
    """Sealed bytes in the pack."""
    uncompressed_length: int
    """Bytes before compression; 0 when the blob is stored as it is."""

    @property
    def plain_length(self) -> int:
        """Bytes of the plaintext."""
        return self.uncompressed_length or self.length - OVERHEAD_BYTES

    @property
    def header_length(self) -> int:
        """Bytes that this entry takes in the header."""
        return _COMPRESSED.size if self.uncompressed_length else _PLAIN.size


@dataclass(frozen=True, slots=True)
class PackRecord:
    """What the index needs to know of a stored pack: its name and its plain header, about 40 bytes a blob."""

    id: str
    header: bytes

    def entries(self) -> list[BlobEntry]:
        """Give the blobs in the order in which they lie. Raises CorruptData."""
        return parse_header(self.header)


@dataclass(frozen=True, slots=True)
class FinishedPack:
    """A whole pack, ready to be put under ``id``."""

    id: str
    content: memoryview
    header: bytes

    @property
    def record(self) -> PackRecord:
        """The part that is to be sent to whoever keeps the index."""
        return PackRecord(self.id, self.header)


def blob_id(plaintext: Buffer) -> bytes:
    """Name a blob: SHA-256 of its plaintext."""
    return hashlib.sha256(plaintext).digest()


def batches(entries: Sequence[BlobEntry]) -> Iterator[Sequence[BlobEntry]]:
    """Split blobs into runs that are best opened together: small ones by the hundred, large ones alone."""
    start = size = 0
    for end, entry in enumerate(entries):
        length = entry.plain_length
        if end > start and (size + length > _BATCH_BYTES or end - start >= _BATCH_BLOBS):
            yield entries[start:end]
            start, size = end, 0
        size += length
    if start < len(entries):
        yield entries[start:]


def _equal(one: Buffer, other: Buffer) -> bool:
    """Compare as bytes: views are compared item by item, which takes sixty times as long."""
    here, there = (bytes(part) if isinstance(part, memoryview) else part for part in (one, other))
    return here == there


def pack_size(entries: Iterable[BlobEntry]) -> int:
    """Compute the exact size of a pack with these entries: blobs, header, its sealing and its length."""
    return blobs_size(entries) + OVERHEAD_BYTES + LENGTH_BYTES


def blobs_size(entries: Iterable[BlobEntry]) -> int:
    """Add up what these blobs and their entries in the header take."""
    # each of the millions in an index passes here: unpacking takes a third of what a property and two names took
    plain, compressed = _PLAIN.size, _COMPRESSED.size
    return sum([length + (compressed if expanded else plain) for _, _, _, length, expanded in entries])


def parse_header(header: bytes) -> list[BlobEntry]:
    """Read a plain header. Raises CorruptData when a type is unknown or the last entry is torn."""
    entries, position, offset = [], 0, 0
    try:
        while position < len(header):
            kind = header[position]
            if kind >= _COMPRESSED_TYPE:
                kind, length, plain_length, name = _COMPRESSED.unpack_from(header, position)
                position += _COMPRESSED.size
                kind -= _COMPRESSED_TYPE
                if not plain_length:
                    raise CorruptData("could not read a pack header: a compressed blob of no bytes")
            else:
                kind, length, name = _PLAIN.unpack_from(header, position)
                position += _PLAIN.size
                plain_length = 0
            entries.append(BlobEntry(_KINDS[kind], name, offset, length, plain_length))
            offset += length
    except (struct.error, KeyError) as error:
        raise CorruptData(f"could not read a pack header: {error}") from error
    return entries


def format_header(entries: Iterable[BlobEntry]) -> bytes:
    """Write the plain header of a pack with these entries, which lie in this order without gaps."""
    return b"".join(
        _COMPRESSED.pack(_COMPRESSED_TYPE + entry.kind, entry.length, entry.uncompressed_length, entry.id)
        if entry.uncompressed_length
        else _PLAIN.pack(entry.kind, entry.length, entry.id)
        for entry in entries
    )


def split_pack(content: bytes) -> tuple[memoryview, memoryview]:
    """Split a whole pack into its blobs and its sealed header. Raises CorruptData when the length cannot be right."""
    if len(content) < SMALLEST_PACK_BYTES:
        raise CorruptData(f"could not read a pack of {len(content)} bytes: too short")
    (length,) = _LENGTH.unpack_from(content, len(content) - LENGTH_BYTES)
    end = len(content) - LENGTH_BYTES
    if not OVERHEAD_BYTES < length <= min(end, HEADER_MOST_BYTES + OVERHEAD_BYTES):
        raise CorruptData(f"could not read a pack of {len(content)} bytes: it claims a header of {length} bytes")
    view = memoryview(content)
    return view[: end - length], view[end - length : end]


class BlobCodec:
    """Compresses and seals single blobs, and back. Keeps contexts, so each thread needs its own.

    A blob that compression does not make smaller is stored as it is: readers then save the attempt to expand it.
    """

    def __init__(self, key: MasterKey, *, level: int = 3) -> None:
        self._sealer = Sealer(key)
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._decompressor = zstandard.ZstdDecompressor()

    def encode_into(self, plaintexts: Sequence[Buffer], room: memoryview) -> list[tuple[int, int]]:
        """Seal one behind the other into ``room``, which has 32 bytes more for each than the plaintext.

        Gives of each the sealed length and the uncompressed length, which is 0 when the blob was not compressed.
        """
        compress = self._compressor.compress
        units: list[Buffer] = []
        lengths = []
        for plaintext in plaintexts:
            smaller = compress(plaintext)
            if len(smaller) < len(plaintext):
                units.append(smaller)
                lengths.append((len(smaller) + OVERHEAD_BYTES, len(plaintext)))
            else:
                units.append(plaintext)
                lengths.append((len(plaintext) + OVERHEAD_BYTES, 0))
        self._sealer.seal_into(units, room)
        return lengths

    def decode(self, sealed: Buffer, name: bytes, uncompressed_length: int) -> bytes:
        """Open a blob and prove that it is the one named. Raises CorruptData."""
        try:
            (plain,) = self.expand([sealed], [uncompressed_length])
        except CorruptData as error:
            raise CorruptData(f"could not read blob {name.hex()[:8]}: {error}", name=name.hex()) from error
        if blob_id(plain) != name:
            reason = "the content does not match the name"
            raise CorruptData(f"could not read blob {name.hex()[:8]}: {reason}", name=name.hex())
        return bytes(plain)

    def decode_all(self, sealed: Sequence[Buffer], entries: Sequence[BlobEntry]) -> list[bytes]:
        """As `decode`, many at once, which is much faster for small ones. The error names the first that is wrong."""
        return [bytes(plain) for plain in self._prove(sealed, entries)]

    def prove_all(self, sealed: Sequence[Buffer], entries: Sequence[BlobEntry]) -> None:
        """As `decode_all`, when nobody wants the plaintexts."""
        self._prove(sealed, entries)

    def _prove(self, sealed: Sequence[Buffer], entries: Sequence[BlobEntry]) -> Sequence[Plain]:
        try:
            plains = self.expand(sealed, [entry.uncompressed_length for entry in entries])
            if [blob_id(plain) for plain in plains] == [entry.id for entry in entries]:
                return plains
        except CorruptData:  # one by one, it is found out which
            pass
        pairs = zip(sealed, entries, strict=True)
        return [self.decode(unit, entry.id, entry.uncompressed_length) for unit, entry in pairs]

    def expand(self, sealed: Sequence[Buffer], uncompressed_lengths: Sequence[int]) -> list[Plain]:
        """Open blobs without knowing their names, in memory that the next call may write over. Raises CorruptData."""
        decompress, content_size = self._decompressor.decompress, zstandard.frame_content_size
        plains: list[Plain] = []
        try:
            for opened, length in zip(self._sealer.open_here(sealed), uncompressed_lengths, strict=True):
                if not length:
                    plains.append(opened)
                elif content_size(opened) in (length, -1):
                    plains.append(decompress(opened, max_output_size=length))
                else:
                    raise CorruptData("its length is not the one that the index gives")
        except zstandard.ZstdError as error:
            raise CorruptData(str(error)) from error
        return plains

    def open_header(self, sealed: Buffer) -> bytes:
        """Open a sealed pack header, for `parse_header`. Raises CorruptData."""
        return self._sealer.open(sealed)

    def seal_header(self, header: bytes) -> bytes:
        """Seal a plain pack header and prove that it opens."""
        sealed = self._sealer.seal(header)
        if self._sealer.open(sealed) != header:
            raise CorruptData("could not finish a pack: its header does not open as it was; suspect the memory")
        return sealed


class PackBuilder:
    """Collects blobs of one kind until a pack is full. Not for several threads at once."""

    def __init__(
        self, key: MasterKey, kind: BlobKind, *, level: int = 3, target_bytes: int = TARGET_BYTES
    ) -> None:
        self.kind = kind
        self._codec = BlobCodec(key, level=level)
        self._target_bytes = target_bytes
        self._clear()

    def _clear(self) -> None:
        self._header = bytearray()
        self._content = memoryview(b"")
        self._hash = hashlib.sha256()
        self.count = 0
        """Blobs so far."""
        self.size = 0
        """Bytes of sealed blobs so far."""

    @property
    def full(self) -> bool:
        """Whether the pack has reached its target size, or its header the most it may have."""
        return self.size >= self._target_bytes or len(self._header) >= HEADER_MOST_BYTES - 2 * _COMPRESSED.size

    def add(self, name: bytes, plaintext: Buffer) -> int:
        """Compress, seal and prove one blob; gives its sealed bytes.

        Raises CorruptData when the plaintext is not the one named or does not come back from what was sealed.
        """
        ((_, length),) = self.add_unnamed([plaintext], lambda found: found == name)
        if not length:
            reason = "the content does not match the name"
            raise CorruptData(f"could not seal blob {name.hex()[:8]}: {reason}", name=name.hex())
        return length

    def add_unnamed(self, plaintexts: Sequence[Buffer], is_wanted: Callable[[bytes], bool]) -> list[tuple[bytes, int]]:
        """Compress, seal and prove blobs, name each by what came back, keep it if ``is_wanted`` says so of the name.

        One hash instead of two, for blobs that are probably new; and small ones are best brought by the hundred. Gives
        of each its name, and the sealed bytes or 0. Raises CorruptData when what comes back is not the plaintext.
        """
        lengths, names = self._seal(plaintexts)
        begin = at = self.size
        added = []
        for name, (length, uncompressed_length) in zip(names, lengths, strict=True):
            wanted = is_wanted(name)
            if wanted:
                if at != self.size:  # one before it was not wanted
                    self._content[self.size : self.size + length] = self._content[at : at + length]
                self._enter(name, length, uncompressed_length)
            added.append((name, length if wanted else 0))
            at += length
        self._hash.update(self._content[begin : self.size])
        return added

    def _seal(self, plaintexts: Sequence[Buffer]) -> tuple[list[tuple[int, int]], list[bytes]]:
        """Seal and prove behind what is counted; gives the lengths as `BlobCodec.encode_into`, and the names."""
        room = self._room(sum(map(len, plaintexts)) + OVERHEAD_BYTES * len(plaintexts))
        lengths = self._codec.encode_into(plaintexts, room)
        units, start = [], 0
        for length, _ in lengths:
            units.append(room[start : start + length])
            start += length
        try:
            plains = self._codec.expand(units, [uncompressed_length for _, uncompressed_length in lengths])
        except CorruptData as error:
            raise CorruptData(f"could not seal a blob: {error}; suspect the memory") from error
        if not all(map(_equal, plains, plaintexts)):
            raise CorruptData("could not seal a blob: it does not come back; suspect the memory")
        return lengths, [blob_id(plain) for plain in plains]

    def add_sealed(self, entries: Sequence[BlobEntry], sealed: Sequence[Buffer]) -> None:
        """Take blobs over from another pack of the same repository, after proving them. Raises CorruptData."""
        begin = self.size
        room = self._room(sum(entry.length for entry in entries))
        units, start = [], 0
        for unit in sealed:
            end = start + len(unit)
            room[start:end] = unit
            units.append(room[start:end])
            start = end
        self._codec.prove_all(units, entries)
        for entry in entries:
            self._enter(entry.id, entry.length, entry.uncompressed_length)
        self._hash.update(self._content[begin : self.size])

    def _room(self, size: int) -> memoryview:
        """Give the memory behind the last blob, ``size`` bytes at least."""
        if self.size + size > len(self._content):
            room = max(self.size + size, self._target_bytes) + _ROOM_BYTES
            larger = aligned_memory(room, filled=self._target_bytes)
            larger[: self.size] = self._content[: self.size]
            self._content = larger
        return self._content[self.size :]

    def _enter(self, name: bytes, length: int, uncompressed_length: int) -> None:
        """Count the blob that lies at the end of what is counted."""
        if uncompressed_length:
            self._header += _COMPRESSED.pack(_COMPRESSED_TYPE + self.kind, length, uncompressed_length, name)
        else:
            self._header += _PLAIN.pack(self.kind, length, name)
        self.count += 1
        self.size += length

    def finish(self) -> FinishedPack:
        """Close the pack and begin an empty one. Raises ValueError when there is no blob."""
        if not self.count:
            raise ValueError("a pack without blobs")
        header = bytes(self._header)
        end = self._codec.seal_header(header)
        end += _LENGTH.pack(len(end))
        self._room(len(end))[: len(end)] = end
        self._hash.update(end)
        finished = FinishedPack(self._hash.hexdigest(), self._content[: self.size + len(end)].toreadonly(), header)
        self._clear()
        return finished
