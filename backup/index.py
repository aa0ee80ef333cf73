"""The index: which blob lies where, for ten million blobs in under a hundred bytes each.

Records of 48 bytes lie in columns (ids, packs, offsets, lengths) in the order in which they came, so that a whole pack
is entered by a few calls; an open-addressed table of 32-bit record numbers finds them by the first bytes of the blob's
id, which is a hash already. Nothing in it is a Python object a blob, so a forked worker shares all of it for as long as
nobody writes. It keeps what is not yet in an index file apart
as `pending`; reading and writing the files is the repository's business. Duplicates of a blob in several packs are
kept: prune needs to see them all.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter, eq, le
from typing import Any, Final, NamedTuple

import orjson

from backup.crypto import OVERHEAD_BYTES
from backup.errors import CorruptData
from backup.pack import COMPRESSED_ENTRY_BYTES, LENGTH_BYTES, PLAIN_ENTRY_BYTES, BlobEntry, BlobKind, PackRecord

FLUSH_BLOBS: Final = 50_000
"""An index file is written at this many blobs, as restic does: what makes interrupted runs resumable."""

_ID: Final = 32
_KIND_BIT: Final = 1 << 31
"""In the column of packs: set for trees."""
_ORDER: Final = sys.byteorder
_SMALLEST_TABLE: Final = 1 << 12
_AT_ONCE: Final = 1 << 16
"""Records entered into the table in one go."""
_KIND_NAMES: Final = {BlobKind.DATA: "data", BlobKind.TREE: "tree"}
_KINDS: Final = {"data": BlobKind.DATA, "tree": BlobKind.TREE}
_KIND_BITS: Final = {"data": 0, "tree": _KIND_BIT}


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
        self._ids = bytearray()
        self._places = array("I")
        """Number of the pack, with the kind in the top bit."""
        self._offsets, self._lengths, self._plains = array("I"), array("I"), array("I")
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
        columns = (self._ids, self._places, self._offsets, self._lengths, self._plains, self._table)
        return sum(column.__sizeof__() for column in columns) + 130 * len(self._packs)

    # ---- as a whole

    def parts(self) -> list[memoryview]:
        """Give the memory of it in bytes, for :mod:`backup.index_cache`; what is pending is not told apart."""
        columns = (self._places, self._offsets, self._lengths, self._plains, self._table, self._pack_bytes)
        return [memoryview(part).cast("B") for part in (self._ids, b"".join(self._packs), *columns)]

    @classmethod
    def of_parts(cls, parts: Sequence[memoryview]) -> "Index":
        """Make an index of the memory of another. Raises ValueError when these are not parts of one index."""
        index = cls()
        ids, packs, *columns = parts
        index._ids = bytearray(ids)
        index._packs = [bytes(packs[at : at + _ID]) for at in range(0, len(packs), _ID)]
        index._pack_numbers = {name: number for number, name in enumerate(index._packs)}
        index._table, index._pack_bytes = array("I"), array("Q")
        own = (index._places, index._offsets, index._lengths, index._plains, index._table, index._pack_bytes)
        for column, content in zip(own, columns, strict=True):
            column.frombytes(content)
        index._count, index._mask = len(index._places), len(index._table) - 1
        lengths = {len(column) for column in own[:4]}
        if lengths != {len(index._ids) // _ID} or len(index._packs) != len(index._pack_bytes):
            raise ValueError("its parts do not belong together")
        return index

    # ---- looking up

    def contains(self, kind: BlobKind, name: bytes) -> bool:
        """Whether a blob is stored in a pack that this index knows."""
        # as `_find`, spelled out: an unchanged file costs one of these, and calls would be half of it
        ids, table, mask = self._ids, self._table, self._mask
        slot = int.from_bytes(name[:4], _ORDER) & mask
        while number := table[slot]:
            at = number * _ID
            if ids[at - _ID : at] == name and self._places[number - 1] >> 31 == kind:
                return True
            slot = (slot + 1) & mask
        return False

    def lookup(self, kind: BlobKind, name: bytes) -> BlobLocation | None:
        """Say where a blob lies; of several copies the one that became known first."""
        record = self._find(kind, name)
        return None if record is None else self._location(record)

    def lookup_all(self, kind: BlobKind, name: bytes) -> list[BlobLocation]:
        """Say where every copy of a blob lies."""
        return [self._location(number) for number in self.numbers(kind, name)]

    def plain_length(self, kind: BlobKind, name: bytes) -> int | None:
        """Bytes of a blob's plaintext; None when it is in no pack. For adding up files, a million at a time."""
        record = self._find(kind, name)
        if record is None:
            return None
        return self._plains[record] or self._lengths[record] - OVERHEAD_BYTES

    def numbers(self, kind: BlobKind, name: bytes) -> list[int]:
        """Give the record number of every copy, below ``len(index)``: a small name for marking blobs in a bitmap."""
        # spelled out as in `contains`: prune asks for every blob there is
        ids, table, mask, found = self._ids, self._table, self._mask, []
        slot = int.from_bytes(name[:4], _ORDER) & mask
        while number := table[slot]:
            at = number * _ID
            if ids[at - _ID : at] == name and self._places[number - 1] >> 31 == kind:
                found.append(number - 1)
            slot = (slot + 1) & mask
        return found

    def _find(self, kind: BlobKind, name: bytes) -> int | None:
        """Give the record number of the first copy."""
        ids, table, mask = self._ids, self._table, self._mask
        slot = int.from_bytes(name[:4], _ORDER) & mask
        while number := table[slot]:
            at = number * _ID
            if ids[at - _ID : at] == name and self._places[number - 1] >> 31 == kind:
                return number - 1
            slot = (slot + 1) & mask
        return None

    def _location(self, number: int) -> BlobLocation:
        pack = self._packs[self._places[number] & ~_KIND_BIT]
        return BlobLocation(pack.hex(), self._offsets[number], self._lengths[number], self._plains[number])

    # ---- walking

    def packs(self) -> Iterator[tuple[str, int]]:
        """Give every pack and the exact size that its file must have."""
        for pack, size in zip(self._packs, self._pack_bytes, strict=True):
            yield pack.hex(), size

    def pack_number(self, record: int) -> int:
        """Say in which pack a record lies, as its position in `packs`."""
        return self._places[record] & ~_KIND_BIT

    def entry(self, record: int) -> BlobEntry:
        """Give one record as an entry of its pack."""
        name = bytes(self._ids[record * _ID : record * _ID + _ID])
        kind = BlobKind(self._places[record] >> 31)
        return BlobEntry(kind, name, self._offsets[record], self._lengths[record], self._plains[record])

    def listings(self) -> Iterator[tuple[str, "Columns"]]:
        """Give every pack with its blobs, those with the most first: who deals them out to several ends evenly then.

        Of a pack that several index files list differently, what the first lists.
        """
        ranges: dict[int, tuple[int, int]] = {}
        start = 0
        for number, group in groupby([place & ~_KIND_BIT for place in self._places]):
            end = start + len(list(group))
            ranges.setdefault(number, (start, end))
            start = end
        for number, (start, end) in sorted(ranges.items(), key=lambda item: item[1][0] - item[1][1]):
            yield self._packs[number].hex(), Columns(
                bytes(self._ids[start * _ID : end * _ID]), [place & _KIND_BIT for place in self._places[start:end]],
                self._offsets[start:end], self._lengths[start:end], self._plains[start:end],
            )  # fmt: skip

    def weights(self) -> Iterator[tuple[int, int]]:
        """Give (number of its pack, sealed bytes) of every record in turn, for adding up."""
        return zip((place & ~_KIND_BIT for place in self._places), self._lengths, strict=True)

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

    def add_document(self, document: bytes) -> None:
        """Add what the JSON of an index file lists, or nothing when it is not valid. Raises CorruptData.

        Much faster than `parse_index` and `add_listing`, since no object is made for a blob.
        """
        for pack, columns in parse_columns(document):
            self.add_columns(pack, columns)

    def add_columns(self, pack: bytes, columns: "Columns") -> None:
        """As `add_listing`."""
        if pack in self._pack_numbers:
            self.add_listing(pack.hex(), columns.entries())
        else:
            self._add(self._number(pack), columns)

    def add_listing(self, pack: str, entries: Iterable[BlobEntry]) -> None:
        """Add a pack that an index file lists. A pack listed again adds only what was not known of it."""
        key = bytes.fromhex(pack)
        known = self._pack_numbers.get(key)
        if known is None:
            self._add(self._number(key), _columns(entries))
        else:
            fresh = [entry for entry in entries if entry.offset not in set(self._offsets_of(known, entry))]
            self._add(known, _columns(fresh))

    def _number(self, pack: bytes) -> int:
        """Take in a pack that is not known yet."""
        number = self._pack_numbers[pack] = len(self._packs)
        self._packs.append(pack)
        self._pack_bytes.append(OVERHEAD_BYTES + LENGTH_BYTES)
        return number

    def _add(self, number: int, columns: "Columns") -> None:
        ids, kinds, offsets, lengths, plains = columns
        self._pack_bytes[number] += columns.bytes
        self._ids += ids
        self._places.extend(array("I", [number | kind for kind in kinds]))
        self._offsets.extend(offsets)
        self._lengths.extend(lengths)
        self._plains.extend(plains)
        first, self._count = self._count, self._count + len(kinds)
        if self._count * 4 > len(self._table) * 3:
            self.reserve(self._count)
        else:
            self._enter(first, self._count)

    def _offsets_of(self, pack_number: int, entry: BlobEntry) -> Iterator[int]:
        for record in self.numbers(entry.kind, entry.id):
            if self.pack_number(record) == pack_number:
                yield self._offsets[record]

    def _enter(self, first: int, end: int) -> None:
        """Put records into the table, behind whatever is there already."""
        table, mask = self._table, self._mask
        for start in range(first, end, _AT_ONCE):
            few = self._ids[start * _ID : min(start + _AT_ONCE, end) * _ID]
            prefixes = memoryview(few).cast("I")[:: _ID // 4].tolist()
            for number, prefix in enumerate(prefixes, start + 1):
                slot = prefix & mask
                while table[slot]:
                    slot = (slot + 1) & mask
                table[slot] = number

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
    return join_index({"id": pack, "blobs": list(map(_blob_document, entries))} for pack, entries in listings)


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


PackDocument = Mapping[str, Any]
"""One pack as it stands in the JSON: ``id``, and ``blobs``, a list."""


def split_index(document: bytes) -> list[PackDocument]:
    """Split the JSON of an index file by its packs, of which only the ids are read. Raises CorruptData."""
    try:
        packs = list[PackDocument](orjson.loads(document)["packs"] or ())
        for pack in packs:
            _pack_id(pack["id"])
            len(pack["blobs"])
        return packs
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"could not read an index: {type(error).__name__}: {error}") from error


def join_index(packs: Iterable[PackDocument]) -> bytes:
    """Write the JSON of an index file with these packs."""
    return orjson.dumps({"packs": list(packs)}) + b"\n"


class Columns(NamedTuple):
    """The blobs of one pack, as the index keeps them."""

    ids: bytes
    kinds: Sequence[int]
    """0 for data, the kind's bit for trees."""
    offsets: "array[int]"
    lengths: "array[int]"
    plains: "array[int]"

    def names(self) -> list[bytes]:
        """Give the ids one by one."""
        return [self.ids[at : at + _ID] for at in range(0, len(self.ids), _ID)]

    def entries(self) -> Iterator[BlobEntry]:
        """Give the blobs as entries of their pack."""
        kinds = [BlobKind.TREE if kind else BlobKind.DATA for kind in self.kinds]
        return map(BlobEntry, kinds, self.names(), self.offsets, self.lengths, self.plains)

    def by_offset(self) -> "Columns":
        """Give the same in the order in which they lie."""
        offsets = self.offsets.tolist()
        if all(map(le, offsets, offsets[1:])):
            return self
        return _columns(sorted(self.entries(), key=attrgetter("offset")))

    @property
    def is_seamless(self) -> bool:
        """Whether each, in this order, begins where the one before ends, and the first at the beginning."""
        return all(map(eq, self.offsets, accumulate(self.lengths, initial=0)))

    @property
    def bytes(self) -> int:
        """What the blobs and their entries in the header take."""
        plain = self.plains.count(0)
        return sum(self.lengths) + (len(self.plains) - plain) * COMPRESSED_ENTRY_BYTES + plain * PLAIN_ENTRY_BYTES


def _columns(entries: Iterable[BlobEntry]) -> Columns:
    kinds, ids, offsets, lengths, plains = tuple(zip(*entries, strict=True)) or ((),) * 5
    return Columns(
        b"".join(ids), [kind << 31 for kind in kinds], array("I", offsets), array("I", lengths), array("I", plains)
    )


def parse_columns(document: bytes) -> list[tuple[bytes, Columns]]:
    """Read the JSON of an index file into (pack, its blobs); faster than `parse_index`. Raises CorruptData."""
    try:
        packs = orjson.loads(document)["packs"] or ()
        return [(bytes.fromhex(_pack_id(pack["id"])), _parse_blobs(pack["blobs"])) for pack in packs]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptData(f"could not read an index: {type(error).__name__}: {error}") from error


def _parse_blobs(blobs: Sequence[Mapping[str, Any]]) -> Columns:
    ids = bytes.fromhex("".join([blob["id"] for blob in blobs]))
    if len(ids) != _ID * len(blobs):
        raise ValueError("a blob's id is not one")
    bits = _KIND_BITS
    return Columns(
        ids,
        [bits[blob["type"]] for blob in blobs],
        array("I", [blob["offset"] for blob in blobs]),
        array("I", [blob["length"] for blob in blobs]),
        array("I", [blob.get("uncompressed_length", 0) for blob in blobs]),
    )


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
