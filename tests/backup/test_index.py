"""The index: against a plain dictionary, its size, its sharing with forked children, and the JSON of its files."""

import os
from hashlib import sha256

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import CorruptData
from backup.index import BlobLocation, Index, PackListing, format_index, parse_index
from backup.pack import BlobEntry, BlobKind, PackRecord, format_header, pack_size


def name(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def pack_of(number: int) -> str:
    return sha256(b"pack %d" % number).hexdigest()


def listing(*numbers: int, kind: BlobKind = BlobKind.DATA) -> list[BlobEntry]:
    return [BlobEntry(kind, name(number), at * 100, 100, number % 3 * 50) for at, number in enumerate(numbers)]


@given(st.lists(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(BlobKind)), max_size=8), max_size=30))
def test_it_knows_what_a_dictionary_knows(packs: list[list[tuple[int, BlobKind]]]) -> None:
    index, known = Index(), dict[tuple[BlobKind, bytes], list[BlobLocation]]()
    for at, blobs in enumerate(packs):
        entries = [BlobEntry(kind, name(blob), place * 10, 10, blob) for place, (blob, kind) in enumerate(blobs)]
        index.add_listing(pack_of(at), entries)
        for entry in entries:
            location = BlobLocation(pack_of(at), entry.offset, 10, entry.uncompressed_length)
            known.setdefault((entry.kind, entry.id), []).append(location)
    assert len(index) == sum(map(len, known.values()))
    for number in range(70):
        for kind in BlobKind:
            expected = known.get((kind, name(number)), [])
            assert index.lookup_all(kind, name(number)) == expected
            assert index.lookup(kind, name(number)) == (expected[0] if expected else None)
            assert index.contains(kind, name(number)) == bool(expected)


def test_ids_with_equal_beginnings_are_told_apart() -> None:
    index = Index()
    names = [b"same" + bytes([number]) * 28 for number in range(200)]
    index.add_listing(pack_of(0), [BlobEntry(BlobKind.DATA, n, i, 1, 0) for i, n in enumerate(names)])
    assert [index.lookup(BlobKind.DATA, n) for n in names] == [BlobLocation(pack_of(0), i, 1, 0) for i in range(200)]
    assert index.lookup(BlobKind.DATA, b"same" + bytes([201]) * 28) is None


def test_it_grows_without_losing_anything() -> None:
    index = Index()
    for at in range(40):
        index.add_listing(pack_of(at), listing(*range(at * 500, at * 500 + 500)))
    assert all(index.contains(BlobKind.DATA, name(number)) for number in range(20_000))
    assert not any(index.contains(BlobKind.DATA, name(number)) for number in range(20_000, 21_000))


def test_a_blob_takes_less_than_a_hundred_bytes() -> None:
    index, blobs = Index(), 0
    while blobs < 200_000:
        raw = os.urandom(32 * 1000)
        entries = [BlobEntry(BlobKind.DATA, raw[at : at + 32], at, 32, 0) for at in range(0, len(raw), 32)]
        index.add_listing(os.urandom(32).hex(), entries)
        blobs += len(entries)
        assert blobs < 10_000 or index.memory_bytes / blobs < 100


def test_room_can_be_made_before_and_after_blobs_are_added() -> None:
    index = Index()
    index.add_listing(pack_of(0), listing(*range(100)))
    index.reserve(50_000)
    index.add_listing(pack_of(1), listing(*range(100, 200)))
    assert all(index.contains(BlobKind.DATA, name(number)) for number in range(200))


def test_packs_are_given_with_their_exact_sizes() -> None:
    index = Index()
    index.add_listing(pack_of(0), listing(1, 2, 3))
    index.add_listing(pack_of(1), listing(4))
    assert list(index.packs()) == [(pack_of(0), pack_size(listing(1, 2, 3))), (pack_of(1), pack_size(listing(4)))]
    assert [index.pack_number(record) for record in range(4)] == [0, 0, 0, 1]
    assert index.entry(3) == listing(4)[0]


def test_a_pack_listed_twice_counts_once_and_what_the_second_adds_is_added() -> None:
    index = Index()
    index.add_listing(pack_of(0), listing(1, 2))
    index.add_listing(pack_of(0), listing(1, 2, 3))
    assert len(index) == 3
    assert list(index.packs()) == [(pack_of(0), pack_size(listing(1, 2, 3)))]


def test_packs_are_given_with_their_blobs_those_with_the_most_first() -> None:
    index = Index()
    few, many = listing(1, 2, kind=BlobKind.TREE), listing(3, 4, 5)
    index.add_listing(pack_of(0), few)
    index.add_listing(pack_of(1), list(reversed(many)))
    index.add_listing(pack_of(0), listing(6, 7, 8, 9))
    listed = list(index.listings())
    assert [pack for pack, _ in listed] == [pack_of(1), pack_of(0)]
    (_, first), (_, second) = listed
    assert list(second.entries()) == few, "of two listings of a pack, the first counts"
    assert not first.is_seamless
    assert first.by_offset().is_seamless
    assert list(first.by_offset().entries()) == many
    assert pack_size(many) == first.bytes + pack_size([])


def test_stored_packs_are_pending_until_an_index_file_has_them() -> None:
    index = Index()
    record = PackRecord(pack_of(0), format_header(listing(1, 2)))
    index.add(record)
    assert (index.pending, index.pending_blobs) == ((record,), 2)
    assert index.contains(BlobKind.DATA, name(2))
    index.mark_saved()
    assert (index.pending, index.pending_blobs) == ((), 0)
    assert index.contains(BlobKind.DATA, name(2))


def test_a_forked_child_looks_up_what_its_parent_added() -> None:
    index = Index()
    index.add_listing(pack_of(0), listing(*range(1000)))
    child = os.fork()
    if child == 0:
        os._exit(0 if index.contains(BlobKind.DATA, name(999)) and not index.contains(BlobKind.TREE, name(999)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_index_file_reads_as_it_was_written() -> None:
    listings = [
        PackListing(pack_of(0), listing(1, 2, 3)),
        PackListing(pack_of(1), listing(4, kind=BlobKind.TREE)),
    ]
    assert parse_index(format_index(listings)) == listings


def test_an_index_file_has_restics_fields() -> None:
    document = orjson.loads(format_index([PackListing(pack_of(0), listing(3, 4))]))
    first, second = document["packs"][0]["blobs"]
    assert first == {"id": name(3).hex(), "type": "data", "offset": 0, "length": 100}
    assert second["uncompressed_length"] == 50


def test_obsolete_and_unknown_fields_are_ignored() -> None:
    assert parse_index(b'{"supersedes":["00"],"packs":[],"new":1}') == []
    assert parse_index(b'{"packs":null}') == []


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"{}",
        b'{"packs":[{"id":"00","blobs":[]}]}',
        b'{"packs":[{"id":"%s"}]}' % (b"0" * 64),
        b'{"packs":[{"id":"%s","blobs":[{"id":"00","type":"odd","offset":0,"length":1}]}]}' % (b"0" * 64),
        b"{",
    ],
)
def test_nonsense_is_refused(document: bytes) -> None:
    with pytest.raises(CorruptData):
        parse_index(document)


def test_a_pack_record_with_a_torn_header_is_refused_and_changes_nothing() -> None:
    index = Index()
    with pytest.raises(CorruptData):
        index.add(PackRecord(pack_of(0), format_header(listing(1))[:-1]))
    assert (len(index), index.pending) == (0, ())
