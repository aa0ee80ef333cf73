"""One flipped bit, anywhere: found, and the file named.

The campaign flips a bit in every byte of every file of a repository, the default run in a few bytes of each region: the
random, the sealed and the checking part of each sealed unit, the length at the end of a pack, each field of a key. A
config or lock is found by whoever opens or locks the repository, everything else by ``verify --read-data``.
"""

from collections.abc import Iterator
from random import Random

import pytest

from backup.errors import CorruptData
from backup.index import PackListing
from backup.storage.base import FileKind
from backup.verify import Severity, verify
from tests.backup.repositories import FakeClock, Folder, back_up, create, reopen
from tests.backup.storages import MemoryStorage, names

SEALED_IV, SEALED_MAC = 16, 16
SEED = 4
FILES: Folder = {"a": Random(1).randbytes(300), "text": b"words " * 100, "folder": {"b": b"x"}}


@pytest.fixture
def sound(clock: FakeClock, memory: MemoryStorage) -> MemoryStorage:
    """Hold one file of every kind but locks, with two packs."""
    back_up(create(memory, clock), FILES)
    assert {kind for kind, _ in memory.files} == set(FileKind) - {FileKind.LOCK}
    assert len(names(memory, FileKind.DATA)) == 2
    return memory


def flipped(sound: MemoryStorage, kind: FileKind, name: str, position: int) -> MemoryStorage:
    content = bytearray(sound.files[kind, name])
    content[position] ^= 1 << position % 8
    return MemoryStorage(sound.files | {(kind, name): bytes(content)})


def require_named(storage: MemoryStorage, clock: FakeClock, kind: FileKind, name: str, position: int) -> None:
    """Check that the damage is found and said to be in this file."""
    where = f"{kind} {name}, byte {position}"
    if kind in (FileKind.CONFIG, FileKind.KEY, FileKind.LOCK):
        with pytest.raises(CorruptData) as found:
            reopen(storage, clock).lock()
        assert found.value.name == name, where
        return
    subjects = [f.subject for f in verify(reopen(storage, clock), read_data=True) if f.severity is Severity.ERROR]
    assert any(name in subject for subject in subjects), (where, subjects)


def unit(start: int, length: int) -> Iterator[tuple[str, range]]:
    """Regions of one sealed unit."""
    end = start + length
    yield "iv", range(start, start + SEALED_IV)
    yield "sealed", range(start + SEALED_IV, end - SEALED_MAC)
    yield "mac", range(end - SEALED_MAC, end)


def pack_regions(listing: PackListing, size: int) -> Iterator[tuple[str, range]]:
    end = 0
    for entry in listing.entries:
        yield from unit(entry.offset, entry.length)
        end = max(end, entry.offset + entry.length)
    yield from unit(end, size - 4 - end)
    yield "length", range(size - 4, size)


def key_regions(content: bytes) -> Iterator[tuple[str, range]]:
    for name in ("created", "username", "hostname", "kdf", "N", "r", "p", "salt", "data"):
        start = content.index(b'"%s":' % name.encode())
        end = min(at for at in (content.find(b',"', start), content.find(b"}", start)) if at > 0)
        yield name, range(start, end)


def regions(sound: MemoryStorage, clock: FakeClock, kind: FileKind, name: str) -> Iterator[tuple[str, range]]:
    content = sound.files[kind, name]
    if kind is FileKind.KEY:
        return key_regions(content)
    if kind is not FileKind.DATA:
        return unit(0, len(content))
    repository = reopen(sound, clock)
    listings = [item for file in names(sound, FileKind.INDEX) for item in repository.load_index_file(file)]
    return pack_regions(next(item for item in listings if item.pack == name), len(content))


@pytest.mark.parametrize("kind", sorted(set(FileKind) - {FileKind.LOCK}))
def test_a_flipped_bit_in_each_region_is_found_and_the_file_named(
    sound: MemoryStorage, clock: FakeClock, kind: FileKind
) -> None:
    random = Random(SEED)
    for name in names(sound, kind):
        flips = 0
        for _, positions in regions(sound, clock, kind, name):
            assert len(positions) > 0
            for position in {positions[0], positions[-1], random.choice(positions)}:
                require_named(flipped(sound, kind, name, position), clock, kind, name, position)
                flips += 1
        assert flips >= 6


@pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.campaign)])
def test_a_flipped_bit_in_a_lock_is_found_and_the_lock_named(
    sound: MemoryStorage, clock: FakeClock, every: int
) -> None:
    with reopen(sound, clock).lock():
        held = MemoryStorage(sound.files)
    (name,) = names(held, FileKind.LOCK)
    for position in range(0, len(held.files[FileKind.LOCK, name]), every):
        require_named(flipped(held, FileKind.LOCK, name, position), clock, FileKind.LOCK, name, position)


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", sorted(set(FileKind) - {FileKind.LOCK}))
def test_a_flipped_bit_in_any_byte_is_found_and_the_file_named(
    sound: MemoryStorage, clock: FakeClock, kind: FileKind
) -> None:
    for name in names(sound, kind):
        for position in range(len(sound.files[kind, name])):
            require_named(flipped(sound, kind, name, position), clock, kind, name, position)


def test_what_is_not_damaged_is_not_named(sound: MemoryStorage, clock: FakeClock) -> None:
    assert list(verify(reopen(sound, clock), read_data=True)) == []
