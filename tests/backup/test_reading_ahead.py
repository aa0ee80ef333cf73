"""Reading before it is asked for: fewer requests, several at once, and never bytes that are doubted."""

import multiprocessing
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from backup.errors import FileMissing, StorageError
from backup.storage.base import FileKind
from backup.storage.reading_ahead import AHEAD, Read, ReadingAhead, announced
from tests.backup.storages import MemoryStorage

PACK, OTHER = "ab" * 32, "cd" * 32
NAMES = [f"{number:064x}" for number in range(20)]
DEADLINE_SECONDS = 60.0


class Watched(MemoryStorage):
    """Keeps what was read; while ``gate`` is given, reads wait until so many are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Read] = []
        self.gate: threading.Barrier | None = None
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._lock:
            self.reads.append(Read(kind, name, offset, length))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                self.gate.wait(DEADLINE_SECONDS)
            return super().get(kind, name, offset, length)
        finally:
            with self._lock:
                self.at_once -= 1


@pytest.fixture
def below() -> Watched:
    return Watched()


@pytest.fixture
def storage(below: Watched) -> ReadingAhead:
    return ReadingAhead(below)


def whole(name: str) -> list[Read]:
    return [Read(FileKind.SNAPSHOT, name)]


# ---- small reads of packs


def test_neighbouring_small_reads_of_a_pack_are_one_request(storage: ReadingAhead, below: Watched) -> None:
    content = secrets.token_bytes(3 << 20)
    storage.put(FileKind.DATA, PACK, content)
    for offset in range(500_000, 0, -5_000):  # as a walk reads trees: the folder first, which was packed last
        assert storage.get(FileKind.DATA, PACK, offset, 4_000) == content[offset : offset + 4_000]
    assert len(below.reads) == 1
    edge = (1 << 19) - 7  # where the next window begins
    assert storage.get(FileKind.DATA, PACK, edge, 100_000) == content[edge : edge + 100_000]
    assert len(below.reads) == 1
    assert storage.get(FileKind.DATA, PACK, len(content) - 10, 100) == content[-10:]
    assert storage.get(FileKind.DATA, PACK, len(content) + 10, 100) == b""


def test_large_reads_and_other_files_are_asked_for_as_they_are(storage: ReadingAhead, below: Watched) -> None:
    storage.put(FileKind.DATA, PACK, bytes(1 << 20))
    storage.put(FileKind.INDEX, OTHER, b"index")
    storage.get(FileKind.DATA, PACK, 5, 300_000)
    storage.get(FileKind.DATA, PACK)
    storage.get(FileKind.INDEX, OTHER, 1, 2)
    assert below.reads == [
        (FileKind.DATA, PACK, 5, 300_000), (FileKind.DATA, PACK, 0, None), (FileKind.INDEX, OTHER, 1, 2),
    ]  # fmt: skip


def test_who_asks_twice_doubts_and_is_answered_by_the_storage(storage: ReadingAhead, below: Watched) -> None:
    storage.put(FileKind.DATA, PACK, b"damaged on the way")
    assert storage.get(FileKind.DATA, PACK, 0, 7) == b"damaged"
    below.files[FileKind.DATA, PACK] = b"as it was stored.."
    assert storage.get(FileKind.DATA, PACK, 0, 7) == b"as it w"
    assert storage.get(FileKind.DATA, PACK, 7, 4) == b"as s", "the window is doubted as a whole"


def test_windows_do_not_grow_without_bound(storage: ReadingAhead, below: Watched) -> None:
    storage.put(FileKind.DATA, PACK, bytes(20 << 20))
    for offset in range(0, 20 << 20, 1 << 19):
        storage.get(FileKind.DATA, PACK, offset, 10)
    storage.get(FileKind.DATA, PACK, 20, 10)
    assert below.reads[-1].offset == 0, "the first window is gone and was read anew"


# ---- what is announced


def test_announced_files_are_read_several_at_once(storage: ReadingAhead, below: Watched) -> None:
    for name in NAMES:
        storage.put(FileKind.SNAPSHOT, name, name.encode())
    below.gate = threading.Barrier(AHEAD)  # each read waits for three others: one after the other, none would end
    given = [storage.get(*whole(name)[0]) for name in announced(storage, NAMES, whole)]
    assert given == [name.encode() for name in NAMES]
    assert below.most_at_once == AHEAD
    assert Counter(below.reads) == Counter(whole(name)[0] for name in NAMES), "none is read twice"


def test_packs_are_read_ahead_only_as_far_as_there_is_room(storage: ReadingAhead, below: Watched) -> None:
    for name in NAMES:
        storage.put(FileKind.DATA, name, name.encode())
    for number, name in enumerate(announced(storage, NAMES, lambda name: [Read(FileKind.DATA, name)]), 1):
        assert storage.get(FileKind.DATA, name) == name.encode()
        assert len(below.reads) <= number + 2, "packs of 16 MiB, and room for two of them"
    assert len(below.reads) == len(NAMES)


def test_what_went_wrong_ahead_is_told_to_who_asks_and_only_then(storage: ReadingAhead) -> None:
    for name in NAMES[1:]:
        storage.put(FileKind.SNAPSHOT, name, b"{}")
    told = []
    for name in announced(storage, NAMES, whole):
        try:
            storage.get(FileKind.SNAPSHOT, name)
        except FileMissing:
            told.append(name)
    assert told == NAMES[:1]


def test_what_was_announced_in_vain_is_forgotten(storage: ReadingAhead, below: Watched) -> None:
    for name in NAMES:
        storage.put(FileKind.SNAPSHOT, name, b"old")
    files: Iterator[str] = announced(storage, NAMES, whole)
    assert storage.get(FileKind.SNAPSHOT, next(files)) == b"old"
    files.close()  # type: ignore[attr-defined]  # a generator
    below.files[FileKind.SNAPSHOT, NAMES[1]] = b"new"
    assert storage.get(FileKind.SNAPSHOT, NAMES[1]) == b"new"


def test_a_storage_that_is_near_is_read_when_it_is_asked(below: Watched) -> None:
    assert list(announced(below, NAMES, whole)) == NAMES
    assert below.reads == []


def _read_in_child(storage: ReadingAhead) -> None:
    below = storage._storage
    assert isinstance(below, Watched)
    below.gate, below._lock = None, threading.Lock()  # whose holder may not be here
    done = [storage.get(FileKind.SNAPSHOT, name) for name in announced(storage, NAMES, whole)]
    os._exit(0 if len(done) == len(NAMES) else 1)


def test_a_forked_worker_reads_ahead_with_threads_of_its_own(storage: ReadingAhead, below: Watched) -> None:
    for name in NAMES:
        storage.put(FileKind.SNAPSHOT, name, b"{}")
    below.gate = threading.Barrier(2)
    storage.expect(Read(FileKind.SNAPSHOT, NAMES[0]))  # under way while the process forks
    worker = multiprocessing.get_context("fork").Process(target=_read_in_child, args=(storage,))
    worker.start()
    worker.join(DEADLINE_SECONDS)
    assert worker.exitcode == 0
    below.gate.wait(DEADLINE_SECONDS)
    assert storage.get(FileKind.SNAPSHOT, NAMES[0]) == b"{}"


def test_a_storage_without_locks_of_objects_says_so(storage: ReadingAhead) -> None:
    with pytest.raises(StorageError, match="no object lock"):
        storage.retain(FileKind.DATA, PACK, None)  # type: ignore[arg-type]  # never looked at
