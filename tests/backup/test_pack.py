"""Packs: what a builder makes, a reader gets back, and damage that neither lets through."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.crypto import MasterKey, Sealer
from backup.errors import CorruptData
from backup.pack import (
    BlobCodec,
    BlobEntry,
    BlobKind,
    FinishedPack,
    PackBuilder,
    blob_id,
    format_header,
    pack_size,
    parse_header,
    split_pack,
)

KEY = MasterKey.generate()
CODEC = BlobCodec(KEY)
TEXT, NOISE = b"the same words again and again " * 50, os.urandom(1000)


def build(*blobs: bytes, kind: BlobKind = BlobKind.DATA) -> FinishedPack:
    builder = PackBuilder(KEY, kind)
    for blob in blobs:
        builder.add(blob_id(blob), blob)
    return builder.finish()


def content(pack: FinishedPack) -> bytes:
    return bytes(pack.content)


def test_a_pack_is_named_by_its_hash_and_sized_by_its_entries() -> None:
    pack = build(TEXT, NOISE)
    assert hashlib.sha256(content(pack)).hexdigest() == pack.id
    assert len(content(pack)) == pack_size(pack.record.entries())


def test_every_blob_comes_back() -> None:
    pack = build(TEXT, NOISE, b"")
    blobs, sealed_header = split_pack(content(pack))
    entries = parse_header(CODEC.open_header(sealed_header))
    assert entries == pack.record.entries()
    found = [CODEC.decode(blobs[e.offset : e.offset + e.length], e.id, e.uncompressed_length) for e in entries]
    assert found == [TEXT, NOISE, b""]
    assert [entry.plain_length for entry in entries] == [len(TEXT), 1000, 0]


def test_only_what_gets_smaller_is_compressed() -> None:
    text, noise, empty = build(TEXT, NOISE, b"").record.entries()
    assert (text.uncompressed_length, noise.uncompressed_length, empty.uncompressed_length) == (len(TEXT), 0, 0)
    assert text.length < len(TEXT) / 10


def test_a_builder_is_full_at_its_target_and_empty_after_finishing() -> None:
    builder = PackBuilder(KEY, BlobKind.TREE, target_bytes=2000)
    builder.add(blob_id(NOISE), NOISE)
    assert not builder.full
    builder.add(blob_id(NOISE[::-1]), NOISE[::-1])
    assert builder.full
    assert {entry.kind for entry in builder.finish().record.entries()} == {BlobKind.TREE}
    assert (builder.size, builder.count, builder.full) == (0, 0, False)


def test_a_blob_that_is_not_the_one_named_is_refused() -> None:
    builder = PackBuilder(KEY, BlobKind.DATA)
    with pytest.raises(CorruptData, match="does not match the name"):
        builder.add(blob_id(b"other"), b"one")
    assert builder.count == 0


def test_a_flipped_bit_in_the_memory_is_found_before_the_pack_is_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seal = Sealer.seal_into

    def seal_badly(self: Sealer, plaintexts: Sequence[bytes], room: memoryview) -> None:
        seal(self, [bytes([text[0] ^ 1]) + text[1:] for text in plaintexts], room)

    builder = PackBuilder(KEY, BlobKind.DATA)
    builder.add(blob_id(NOISE), NOISE)
    monkeypatch.setattr(Sealer, "seal_into", seal_badly)
    with pytest.raises(CorruptData):
        builder.add(blob_id(NOISE[:500]), NOISE[:500])
    with pytest.raises(CorruptData):
        builder.finish()


def test_sealed_blobs_move_between_packs_only_when_they_are_sound() -> None:
    pack = build(TEXT)
    (entry,) = pack.record.entries()
    sealed = content(pack)[: entry.length]
    builder = PackBuilder(KEY, BlobKind.DATA)
    builder.add_sealed([entry], [sealed])
    assert builder.finish().record.entries() == [entry]
    with pytest.raises(CorruptData):
        builder.add_sealed([entry], [sealed[:-1] + b"x"])
    with pytest.raises(CorruptData):
        builder.add_sealed([entry._replace(uncompressed_length=entry.uncompressed_length + 1)], [sealed])


def test_an_empty_pack_cannot_be_finished() -> None:
    with pytest.raises(ValueError, match="without blobs"):
        PackBuilder(KEY, BlobKind.DATA).finish()


entries_strategy = st.lists(
    st.tuples(st.sampled_from(BlobKind), st.binary(min_size=32, max_size=32), st.integers(32, 2**32 - 1),
              st.one_of(st.just(0), st.integers(1, 2**32 - 1))),
    max_size=20,
)  # fmt: skip


@given(entries_strategy)
def test_a_header_reads_as_it_was_written(rows: list[tuple[BlobKind, bytes, int, int]]) -> None:
    entries, offset = [], 0
    for kind, name, length, plain in rows:
        entries.append(BlobEntry(kind, name, offset, length, plain))
        offset += length
    header = format_header(entries)
    assert parse_header(header) == entries
    assert len(header) == sum(entry.header_length for entry in entries)


@given(st.binary(max_size=200))
def test_a_header_of_anything_is_read_or_refused(header: bytes) -> None:
    with suppress(CorruptData):
        assert format_header(parse_header(header)) == header


@pytest.mark.parametrize("length", [0, 4, 72])
def test_a_file_too_short_for_a_pack_is_refused(length: int) -> None:
    with pytest.raises(CorruptData, match="too short"):
        split_pack(content(build(TEXT))[-length:] if length else b"")


@pytest.mark.parametrize("claimed", [0, 32, 2**32 - 1])
def test_a_header_length_that_cannot_be_is_refused(claimed: int) -> None:
    with pytest.raises(CorruptData, match="claims a header"):
        split_pack(content(build(TEXT))[:-4] + claimed.to_bytes(4, "little"))


def test_what_a_worker_sends_home_is_small() -> None:
    pack = build(*(b"%d" % number for number in range(100)))
    assert sum(len(part) for part in astuple(pack.record)) < 100 * 42 + 64


def test_a_blob_may_be_named_by_what_came_back_of_it() -> None:
    builder = PackBuilder(KEY, BlobKind.DATA)
    asked: list[bytes] = []

    def is_wanted(name: bytes) -> bool:
        asked.append(name)
        return True

    assert builder.add_unnamed([TEXT], is_wanted) == [(blob_id(TEXT), builder.size)]
    assert builder.add_unnamed([memoryview(NOISE)], lambda _: False) == [(blob_id(NOISE), 0)]
    assert asked == [blob_id(TEXT)]
    (entry,) = builder.finish().record.entries()
    assert (entry.id, entry.uncompressed_length) == (blob_id(TEXT), len(TEXT))


@pytest.mark.parametrize("blob", [TEXT, NOISE], ids=["compressed", "as it is"])
def test_a_flipped_bit_is_found_in_what_has_no_name_yet(monkeypatch: pytest.MonkeyPatch, blob: bytes) -> None:
    seal = Sealer.seal_into

    def seal_badly(self: Sealer, plaintexts: Sequence[bytes], room: memoryview) -> None:
        seal(self, [text[:-1] + bytes([text[-1] ^ 1]) for text in plaintexts], room)

    builder = PackBuilder(KEY, BlobKind.DATA)
    monkeypatch.setattr(Sealer, "seal_into", seal_badly)
    with pytest.raises(CorruptData, match="could not seal"):
        builder.add_unnamed([b"sound", blob], lambda _: True)
    assert builder.count == 0


@given(st.lists(st.tuples(st.sampled_from([TEXT, NOISE, b"", b"short"]), st.booleans()), max_size=12))
def test_of_blobs_that_come_together_only_those_wanted_are_in_the_pack(blobs: list[tuple[bytes, bool]]) -> None:
    builder, wanted = PackBuilder(KEY, BlobKind.DATA), iter([is_wanted for _, is_wanted in blobs])
    builder.add(blob_id(b"first"), b"first")
    added = builder.add_unnamed([blob for blob, _ in blobs], lambda _: next(wanted))
    assert [(name, bool(length)) for name, length in added] == [(blob_id(blob), yes) for blob, yes in blobs]
    pack = builder.finish()
    assert hashlib.sha256(content(pack)).hexdigest() == pack.id
    area, _ = split_pack(content(pack))
    entries = pack.record.entries()
    found = CODEC.decode_all([area[entry.offset : entry.offset + entry.length] for entry in entries], entries)
    assert found == [b"first", *(blob for blob, yes in blobs if yes)]


def test_of_blobs_opened_together_the_damaged_one_is_named() -> None:
    pack = build(TEXT, NOISE, b"other")
    entries = pack.record.entries()
    sealed = [content(pack)[entry.offset : entry.offset + entry.length] for entry in entries]
    sealed[1] = sealed[1][:-1] + bytes([sealed[1][-1] ^ 1])
    with pytest.raises(CorruptData, match="authentication code") as caught:
        CODEC.decode_all(sealed, entries)
    assert caught.value.name == blob_id(NOISE).hex()
    with pytest.raises(CorruptData, match="does not match the name"):
        CODEC.prove_all(sealed[:1], [entries[0]._replace(id=blob_id(b"another"))])
