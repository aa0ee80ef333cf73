import io
import random

import pytest

from backup.chunker import MAX_BYTES, MIN_BYTES, Chunker

POLYNOMIAL = 0x25B468838DCB75


def cut(content: bytes, polynomial: int = POLYNOMIAL) -> list[bytes]:
    return [bytes(chunk) for chunk in Chunker(polynomial).chunks(io.BytesIO(content).readinto)]


def content(mebibytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(mebibytes << 20)


@pytest.mark.parametrize("size", [0, 1, MIN_BYTES - 1, MIN_BYTES, MIN_BYTES + 1, MIN_BYTES + 96, 3 << 20])
def test_chunks_put_together_are_the_content(size: int) -> None:
    whole = content(4)[:size]
    assert b"".join(cut(whole)) == whole


def test_chunks_keep_to_their_sizes() -> None:
    sizes = [len(chunk) for chunk in cut(content(64))]
    assert all(MIN_BYTES <= size <= MAX_BYTES for size in sizes[:-1])
    assert 1_100_000 < sum(sizes) / len(sizes) < 2_000_000


def test_a_file_up_to_the_minimum_is_one_chunk_as_in_restic() -> None:
    assert len(cut(content(1)[:MIN_BYTES])) == 1
    assert cut(b"") == []


def test_content_without_any_cut_point_is_cut_at_the_maximum() -> None:
    assert [len(chunk) for chunk in cut(bytes(20 << 20))] == [MAX_BYTES, MAX_BYTES, 4 << 20]


def test_an_insertion_changes_few_chunks() -> None:
    whole = content(32)
    changed = set(cut(whole[: 9 << 20] + b"inserted" + whole[9 << 20 :])) - set(cut(whole))
    assert len(changed) <= 3


def test_cut_points_depend_on_the_secret() -> None:
    whole = content(16)
    ends = [[sum(map(len, cut(whole, key)[: n + 1])) for n in range(5)] for key in (POLYNOMIAL, POLYNOMIAL + 2)]
    assert not set(ends[0]) & set(ends[1])


def test_cut_points_stay_for_ever_since_a_change_would_upload_every_big_file_again() -> None:
    assert [len(chunk) for chunk in cut(content(8))] == [
        1100934, 1974847, 2098832, 1098620, 1221327, 894048,
    ]  # fmt: skip


def test_only_what_may_hold_a_cut_point_is_read() -> None:
    whole, looked_at = content(32), list[int]()

    def read(at: int, count: int) -> bytes:
        looked_at.append(count)
        return whole[at : at + count]

    assert list(Chunker(POLYNOMIAL).cuts(read, len(whole))) == [len(chunk) for chunk in cut(whole)]
    assert sum(looked_at) < len(whole) / 2


def test_reading_in_small_pieces_cuts_at_the_same_places() -> None:
    whole = content(9)
    file = io.BytesIO(whole)

    def few_bytes(view: memoryview) -> int:
        return file.readinto(view[: 100_000])

    assert [bytes(chunk) for chunk in Chunker(POLYNOMIAL).chunks(few_bytes)] == cut(whole)
