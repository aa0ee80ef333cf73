"""Trying again: what passes is hidden, what does not is raised, and time is not spent for ever."""

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backup.errors import CutOff, FileMissing, StorageError
from backup.storage.base import FileKind, StoredFile
from backup.storage.halting import Halt
from backup.storage.local import LocalStorage
from backup.storage.retrying import Patience, Retrying
from tests.backup.storages import MemoryStorage

NAME = "ab" * 32
PASSING = StorageError("could not read: the line broke")
PERMANENT = StorageError("could not read: access denied", permanent=True)


class Flaky(MemoryStorage):
    """Raises the planned errors first, one at each call; ``after`` acts before it raises, as a lost answer does."""

    def __init__(self, *errors: StorageError, after: bool = False) -> None:
        super().__init__()
        self.errors, self.after, self.calls = list(errors), after, 0

    def _meet(self, act: Callable[[], object]) -> object:
        self.calls += 1
        if not self.errors:
            return act()
        error = self.errors.pop(0)
        if self.after:
            act()
        raise error

    def put(self, *arguments) -> None:
        self._meet(lambda: super(Flaky, self).put(*arguments))

    def get(self, *arguments) -> bytes:
        return self._meet(lambda: super(Flaky, self).get(*arguments))

    def delete(self, *arguments) -> None:
        self._meet(lambda: super(Flaky, self).delete(*arguments))

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        for number, file in enumerate(super().list(kind)):
            yield file
            if number == 1 and self.errors:
                raise self.errors.pop(0)


class Time:
    """A monotonic clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def retrying(storage: MemoryStorage, time: Time, draw: float = 1.0, **patience: timedelta) -> Retrying:
    return Retrying(storage, Patience(**patience), draw=lambda: draw, monotonic=lambda: time.now, sleep=time.sleep)


def test_a_passing_error_is_tried_again_with_growing_pauses() -> None:
    storage, time = Flaky(*[PASSING] * 5), Time()
    storage.files[FileKind.DATA, NAME] = b"content"
    tried = retrying(storage, time)
    assert tried.get(FileKind.DATA, NAME) == b"content"
    assert time.slept == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert (tried.retries, storage.calls) == (5, 6)


def test_pauses_are_drawn_at_random_and_never_nothing() -> None:
    patience = Patience()
    assert patience.pause(3, 0.0) == pytest.approx(0.2)
    assert patience.pause(3, 0.5) == pytest.approx(1.1)
    assert patience.pause(1000, 1.0) == 30.0


@pytest.mark.parametrize("error", [PERMANENT, FileMissing("could not read: no such file")])
def test_a_permanent_error_is_raised_at_once(error: StorageError) -> None:
    storage, time = Flaky(error), Time()
    with pytest.raises(StorageError) as raised:
        retrying(storage, time).get(FileKind.DATA, NAME)
    assert raised.value is error
    assert (storage.calls, time.slept) == (1, [])


def test_a_storage_that_never_answered_is_given_up_soon_one_that_did_is_waited_for() -> None:
    storage, time = Flaky(*[PASSING] * 1000), Time()
    tried = retrying(storage, time)
    with pytest.raises(StorageError, match="the line broke"):
        tried.get(FileKind.DATA, NAME)
    assert 30 < time.now - 1000 <= 60
    storage.errors.clear()
    tried.put(FileKind.DATA, NAME, b"content")
    storage.errors, began = [PASSING] * 1000, time.now
    with pytest.raises(StorageError, match="the line broke"):
        tried.get(FileKind.DATA, NAME)
    assert 14 * 60 < time.now - began <= 15 * 60


def test_a_permanent_error_ends_what_began_as_a_passing_one() -> None:
    storage, time = Flaky(PASSING, PERMANENT), Time()
    with pytest.raises(StorageError, match="access denied"):
        retrying(storage, time).get(FileKind.DATA, NAME)
    assert len(time.slept) == 1


def test_a_put_whose_answer_was_lost_is_done() -> None:
    storage, time = Flaky(PASSING, after=True), Time()
    retrying(storage, time).put(FileKind.DATA, NAME, b"content")
    assert storage.files[FileKind.DATA, NAME] == b"content"


def test_a_delete_whose_answer_was_lost_is_done_and_one_of_nothing_is_not() -> None:
    storage, time = Flaky(PASSING, after=True), Time()
    storage.files[FileKind.LOCK, NAME] = b"content"
    tried = retrying(storage, time)
    tried.delete(FileKind.LOCK, NAME)
    assert storage.files == {}
    with pytest.raises(FileMissing):
        tried.delete(FileKind.LOCK, NAME)


def test_a_listing_that_breaks_is_whole_and_without_doubles() -> None:
    storage, time = Flaky(PASSING, PASSING), Time()
    names = {f"{number:064x}" for number in range(5)}
    storage.files |= {(FileKind.DATA, name): b"" for name in names}
    listed = [file.name for file in retrying(storage, time).list(FileKind.DATA)]
    assert len(listed) == 5
    assert set(listed) == names


def test_a_paged_listing_is_tried_again_by_the_page() -> None:
    class Pages(MemoryStorage):
        def __init__(self) -> None:
            super().__init__()
            self.asked, self.errors = [], [PASSING, PASSING]

        def list_page(self, _kind: FileKind, token: str) -> tuple[list[StoredFile], str]:
            self.asked.append(token)
            if token == "2" and self.errors:
                raise self.errors.pop()
            return [StoredFile(f"{int(token or 0):064x}", 1)], str(int(token or 0) + 1) if token != "3" else ""

    storage, time = Pages(), Time()
    assert len(list(retrying(storage, time).list(FileKind.DATA))) == 4
    assert storage.asked == ["", "1", "2", "2", "2", "3"]


def test_it_is_sent_to_a_worker_with_what_it_wraps(tmp_path: Path) -> None:
    storage = Retrying(LocalStorage(tmp_path))
    storage.create()
    storage.put(FileKind.DATA, NAME, b"content")
    assert pickle.loads(pickle.dumps(storage)).get(FileKind.DATA, NAME) == b"content"


def test_a_storage_without_object_lock_says_so() -> None:
    with pytest.raises(StorageError, match="no object lock") as refused:
        Retrying(MemoryStorage()).retain(FileKind.DATA, NAME, None)
    assert refused.value.permanent


def test_a_run_that_is_to_stop_waits_for_no_storage_any_longer() -> None:
    asked: list[bool] = []
    halt = Halt(lambda: bool(asked))
    flaky = Flaky(*[PASSING] * 10)
    threading.Timer(0.3, asked.append, [True]).start()
    patience = Patience(first_pause=timedelta(seconds=60), longest_pause=timedelta(seconds=60))
    began = time.monotonic()
    with pytest.raises(StorageError, match="the line broke"):
        Retrying(flaky, patience, draw=lambda: 0.9, halt=halt).get(FileKind.DATA, NAME)
    assert flaky.calls == 1
    assert time.monotonic() - began < 10


def test_workers_hear_that_the_run_is_to_stop() -> None:
    asked: list[bool] = []
    halt = Halt(lambda: bool(asked))
    child = os.fork()
    if not child:
        halt.sleep(60)
        os._exit(7 if halt.is_set() else 1)
    asked.append(True)
    assert halt.is_set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not pickle.loads(pickle.dumps(halt)).is_set()


class BreaksOff(MemoryStorage):
    """Gives a hundred bytes, and breaks off."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.left, self.asked = answers, list[tuple[int, int | None]]()

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self.asked.append((offset, length))
        content = super().get(kind, name, offset, length)
        self.left -= 1
        if self.left < 0:
            return content
        raise CutOff("could not read: the line broke", content[:100])


def test_reading_goes_on_at_the_byte_where_it_broke_off() -> None:
    storage = BreaksOff(2)
    content = os.urandom(1000)
    storage.put(FileKind.DATA, NAME, content)
    retrying = Retrying(storage, sleep=lambda _: None)
    assert retrying.get(FileKind.DATA, NAME) == content
    assert storage.asked == [(0, None), (100, None), (200, None)]
    storage.left, storage.asked = 2, []
    assert retrying.get(FileKind.DATA, NAME, 50, 600) == content[50:650]
    assert storage.asked == [(50, 600), (150, 500), (250, 400)]
