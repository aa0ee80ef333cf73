"""What goes around the cache is what comes by way of it, on file systems that let it and on those that do not."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from backup import around_cache
from backup.around_cache import ALIGNMENT, WORTH_BYTES, Gathering, aligned_memory, write_around
from tests.backup.page_cache import cached_pages

_MIB = 1 << 20


def aligned(content: bytes) -> memoryview:
    memory = aligned_memory(len(content), filled=len(content))
    memory[:] = content
    return memory


@pytest.fixture(params=["/var/tmp", "/dev/shm"])
def file(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file on a disk, and one in memory."""
    path = Path(request.param, f"keepwatch-around-{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(params=[False, True])
def gathering(request: pytest.FixtureRequest) -> Iterator[Gathering]:
    made = Gathering(read_next=request.param)
    yield made
    made.close()


def test_whole_pages_go_around_and_the_rest_is_the_callers(file: Path) -> None:
    content = Random(1).randbytes(3 * _MIB + 77)
    with file.open("wb", buffering=0) as opened:
        memory = aligned(content)
        written = write_around(opened.fileno(), memory, 0)
        assert written in (0, 3 * _MIB)
        opened.seek(written)
        opened.write(memory[written:])
    assert file.read_bytes() == content


def test_a_disk_takes_it_without_the_cache() -> None:
    file = Path("/var/tmp", f"keepwatch-cached-{os.getpid()}")
    try:
        with file.open("wb", buffering=0) as opened:
            written = write_around(opened.fileno(), aligned(bytes(2 * _MIB)), 0)
        if written:  # as on ext4, xfs and btrfs; elsewhere the test above is all there is to see
            assert cached_pages(file) == 0
        file.write_bytes(bytes(2 * _MIB))
        assert cached_pages(file) == 512
    finally:
        file.unlink()


def test_memory_at_odd_addresses_and_small_pieces_are_left_to_the_caller(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        assert write_around(opened.fileno(), memoryview(bytes(WORTH_BYTES - 1)), 0) == 0
        odd = aligned(bytes(3 * _MIB))[1:]
        written = write_around(opened.fileno(), odd, 0)
        opened.seek(written)
        opened.write(odd[written:])
    assert file.read_bytes() == bytes(odd)


def test_a_full_disk_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with file.open("wb", buffering=0) as opened:
        flags = around_cache.fcntl.fcntl(opened.fileno(), around_cache.fcntl.F_GETFL)
        monkeypatch.setattr("os.pwrite", full)
        with pytest.raises(OSError, match="no space left"):
            write_around(opened.fileno(), aligned(bytes(2 * _MIB)), 0)
        assert around_cache.fcntl.fcntl(opened.fileno(), around_cache.fcntl.F_GETFL) == flags


@pytest.mark.parametrize("seed", range(6))
def test_pieces_in_any_order_make_the_file(file: Path, gathering: Gathering, seed: int) -> None:
    random = Random(seed)
    content = random.randbytes(20 * _MIB + 12345)
    marks = sorted(random.sample(range(len(content)), 25))
    pieces = list(zip([0, *marks], [*marks, len(content)], strict=True))
    if seed:  # 0 is the order of the file
        runs = [pieces[at : at + 3] for at in range(0, len(pieces), 3)]
        random.shuffle(runs)
        pieces = [piece for run in runs for piece in run]
    with file.open("wb", buffering=0) as opened:
        gathering.begin(opened.fileno())
        for start, end in pieces:
            gathering.write(memoryview(content)[start:end], start)
        gathering.flush()
    assert file.read_bytes() == content


def test_a_second_file_has_nothing_of_the_first(file: Path, gathering: Gathering) -> None:
    other = file.with_name(file.name + "-other")
    try:
        with file.open("wb", buffering=0) as first, other.open("wb", buffering=0) as second:
            gathering.begin(first.fileno())
            gathering.write(memoryview(b"given up" * 9999), 17)
            gathering.begin(second.fileno())
            gathering.write(memoryview(b"kept"), ALIGNMENT + 1)
            gathering.flush()
        assert other.read_bytes() == bytes(ALIGNMENT + 1) + b"kept"
        assert b"kept" not in file.read_bytes()
    finally:
        other.unlink()


def test_what_failed_in_the_thread_is_told_by_the_next_call(tmp_path: Path, gathering: Gathering) -> None:
    (tmp_path / "file").write_bytes(b"")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        gathering.begin(descriptor)
        gathering.write(memoryview(bytes(5 * _MIB)), 0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            gathering.flush()
        gathering.begin(-1)
    finally:
        os.close(descriptor)
