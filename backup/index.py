"""The index: which blob lies where, for ten million blobs in under a hundred bytes each.

Records of 48 bytes lie in one bytearray in the order in which they came; an open-addressed table of 32-bit record
numbers finds them by the first bytes of the blob's id, which is a hash already. Nothing in it is a Python object a
blob, so a forked worker shares all of it for as long as nobody writes. It keeps what is not yet in an index file apart
as `pending`; reading and writing the files is the repository's business. Duplicates of a blob in several packs are
kept: prune needs to see them all.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import orjson

from backup.crypto import OVERHEAD_BYTES
from backup.errors import CorruptData
from backup.pack import LENGTH_BYTES, BlobEntry, BlobKind, PackRecord, blobs_size

FLUSH_BLOBS: Final = 50_000
"""An index file is written at this many blobs, as restic does: what makes interrupted runs resumable."""

_RECORD: Final = struct.Struct("<32sIIII")
"""Id; number of the pack, with the kind in the top bit; offset; length; uncompressed length."""
_SIZE: Final = _RECORD.size
_ID: Final = 32
_PREFIX: Final = struct.Struct("<I")
_PACK: Final = struct.Struct("<I")
_LENGTHS: Final = struct.Struct("<II")
_LENGTHS_AT: Final = _ID + 8
_KIND_BIT: Final = 1 << 31
_SMALLEST_TABLE: Final = 1 << 12
_KIND_NAMES: Final = {BlobKind.DATA: "data", BlobKind.TREE: "tree"}
_KINDS: Final = {"data": BlobKind.DATA, "tree": BlobKind.TREE}


class BlobLocation(NamedTuple):
    """Where a sealed blob lies. A named tuple for the same reason as `BlobEntry`."""

    pack: str
    offset: int
    length: int
    uncompressed_length: int


class PackListing(NamedTuple):
    """One pack as an index file lists it."""

    pack: str
    entries: list[BlobEntry]


class Index:
    """All known blobs. Look-ups from several threads are fine, additions belong to one."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._table = array("I", bytes(4 * _SMALLEST_TABLE))
        self._mask = _SMALLEST_TABLE - 1
        self._count = 0
        self._packs: list[bytes] = []
        self._pack_bytes = array("Q")
        self._pack_numbers: dict[bytes, int] = {}
        self._pending: list[PackRecord] = []
        self._pending_blobs = 0

    def __len__(self) -> int:
        """Blobs, each copy counted."""
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Bytes held by records and table, which is nearly all there is."""
        return self._records.__sizeof__() + self._table.itemsize * len(self._table) + 130 * len(self._packs)

    # ---- looking up

    def contains(self, kind: BlobKind, name: bytes) -> bool:
        """Whether a blob is stored in a pack that this index knows."""
        # as `_find`, spelled out: an unchanged file costs one of these, and calls would be half of it
        records, table, mask = self._records, self._table, self._mask
        slot = int.from_bytes(name[:4], "little") & mask
        while number := table[slot]:
            at = (number - 1) * _SIZE
            if records[at : at + _ID] == name and records[at + _ID + 3] >> 7 == kind:
                return True
            slot = (slot + 1) & mask
        return False

    def lookup(self, kind: BlobKind, name: bytes) -> BlobLocation | None:
        """Say where a blob lies; of several copies the one that became known first."""
        found = self._find(kind, name, self._slot(name))
        return None if found is None else self._location(found[0])

    def lookup_all(self, kind: BlobKind, name: bytes) -> list[BlobLocation]:
        """Say where every copy of a blob lies."""
        return [self._location(number) for number in self.numbers(kind, name)]

    def plain_length(self, kind: BlobKind, name: bytes) -> int | None:
        """Bytes of a blob's plaintext; None when it is in no pack. For adding up files, a million at a time."""
        found = self._find(kind, name, self._slot(name))
        if found is None:
            return None
        sealed, plain = _LENGTHS.unpack_from(self._records, found[0] * _SIZE + _LENGTHS_AT)
        return int(plain or sealed - OVERHEAD_BYTES)

    def numbers(self, kind: BlobKind, name: bytes) -> Iterator[int]:
        """Give the record number of every copy, below ``len(index)``: a small name for marking blobs in a bitmap."""
        slot = self._slot(name)
        while (found := self._find(kind, name, slot)) is not None:
            number, slot = found
            yield number
            slot = (slot + 1) & self._mask

    def _slot(self, name: bytes) -> int:
        return int.from_bytes(name[:4], "little") & self._mask

    def _find(self, kind: BlobKind, name: bytes, slot: int) -> tuple[int, int] | None:
        """Probe from a slot on; gives (record number, its slot)."""
        records, table, mask = self._records, self._table, self._mask
        while number := table[slot]:
            at = (number - 1) * _SIZE
            if records[at : at + _ID] == name and records[at + _ID + 3] >> 7 == kind:
                return number - 1, slot
            slot = (slot + 1) & mask
        return None

    def _location(self, number: int) -> BlobLocation:
        _, pack, offset, length, plain = _RECORD.unpack_from(self._records, number * _SIZE)
        return BlobLocation(self._packs[pack & ~_KIND_BIT].hex(), offset, length, plain)

    # ---- walking

    def packs(self) -> Iterator[tuple[str, int]]:
        """Give every pack and the exact size that its file must have."""
        for pack, size in zip(self._packs, self._pack_bytes, strict=True):
            yield pack.hex(), size

    def pack_number(self, record: int) -> int:
        """Say in which pack a record lies, as its position in `packs`."""
        return int(_PACK.unpack_from(self._records, record * _SIZE + _ID)[0]) & ~_KIND_BIT

    def entry(self, record: int) -> BlobEntry:
        """Give one record as an entry of its pack."""
        name, pack, offset, length, plain = _RECORD.unpack_from(self._records, record * _SIZE)
        return BlobEntry(BlobKind(pack >> 31), name, offset, length, plain)

    # ---- adding

    def reserve(self, blobs: int) -> None:
        """Make room in the table for that many blobs at once, which saves growing step by step."""
        slots = len(self._table)
        while slots * 3 < blobs * 4:
            slots *= 2
        if slots == len(self._table):
            return
        self._table = array("I", bytes(4 * slots))
        self._mask = slots - 1
        self._enter(0, self._count)

    def add(self, record: PackRecord) -> None:
        """Add a pack that was just stored; it is pending until it stands in an index file. Raises CorruptData."""
        entries = record.entries()
        self.add_listing(record.id, entries)
        self._pending.append(record)
        self._pending_blobs += len(entries)

    def add_listing(self, pack: str, entries: Iterable[BlobEntry]) -> None:
        """Add a pack that an index file lists. A pack listed again adds only what was not known of it."""
        key = bytes.fromhex(pack)
        number = self._pack_numbers.get(key)
        if number is None:
            number = len(self._packs)
            self._packs.append(key)
            self._pack_numbers[key] = number
            self._pack_bytes.append(OVERHEAD_BYTES + LENGTH_BYTES)
            fresh = list(entries)
        else:
            fresh = [entry for entry in entries if entry.offset not in set(self._offsets(number, entry))]
        self._pack_bytes[number] += blobs_size(fresh)
        pack_record = _RECORD.pack
        self._records += b"".join([
            pack_record(name, number | kind << 31, offset, length, plain) for kind, name, offset, length, plain in fresh
        ])
        first, self._count = self._count, self._count + len(fresh)
        if self._count * 4 > len(self._table) * 3:
            self.reserve(self._count)
        else:
            self._enter(first, self._count)

    def _offsets(self, pack_number: int, entry: BlobEntry) -> Iterator[int]:
        for record in self.numbers(entry.kind, entry.id):
            if self.pack_number(record) == pack_number:
                yield self.entry(record).offset

    def _enter(self, first: int, end: int) -> None:
        """Put records into the table, behind whatever is there already."""
        records, table, mask, prefix = self._records, self._table, self._mask, _PREFIX.unpack_from
        for number in range(first, end):
            slot = prefix(records, number * _SIZE)[0] & mask
            while table[slot]:
                slot = (slot + 1) & mask
            table[slot] = number + 1

    # ---- what no index file has yet

    @property
    def pending(self) -> tuple[PackRecord, ...]:
        """Packs that are stored but in no index file: lost to everyone else if this process dies now."""
        return tuple(self._pending)

    @property
    def pending_blobs(self) -> int:
        """Blobs in those packs."""
        return self._pending_blobs

    def mark_saved(self) -> None:
        """Note that an index file with all pending packs is durable."""
        self._pending.clear()
        self._pending_blobs = 0


def format_index(listings: Iterable[PackListing]) -> bytes:
    """Write the JSON of an index file."""
    packs = [
        {"id": pack, "blobs": [_blob_document(entry) for entry in entries]} for pack, entries in listings
    ]
    return orjson.dumps({"packs": packs}) + b"\n"


def _blob_document(entry: BlobEntry) -> dict[str, str | int]:
    document: dict[str, str | int] = {
        "id": entry.id.hex(),
        "type": _KIND_NAMES[entry.kind],
        "offset": entry.offset,
        "length": entry.length,
    }
    if entry.uncompressed_length:
        document["uncompressed_length"] = entry.uncompressed_length
    return document


def parse_index(document: bytes) -> list[PackListing]:
    """Read the JSON of an index file; ``supersedes`` of old files is ignored. Raises CorruptData."""
    kinds, from_hex = _KINDS, bytes.fromhex
    try:
        return [
            PackListing(
                _pack_id(pack["id"]),
                [
                    BlobEntry(
                        kinds[blob["type"]],
                        from_hex(blob["id"]),
                        blob["offset"],
                        blob["length"],
                        blob.get("uncompressed_length", 0),
                    )
                    for blob in pack["blobs"]
                ],
            )
            for pack in orjson.loads(document)["packs"] or ()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"could not read an index: {type(error).__name__}: {error}") from error


def _pack_id(text: str) -> str:
    if len(bytes.fromhex(text)) != _ID:
        raise ValueError(f"{text!r} is no pack id")
    return text
