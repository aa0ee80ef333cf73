"""Locks: who excludes whom, which are stale, and what a lock that is lost does to its holder."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from backup.crypto import MasterKey
from backup.errors import CorruptData, RepositoryLocked, StorageError
from backup.lock import Lock, LockFile, LockTable, LockTiming, acquire, execute_unlock, plan_unlock
from backup.owner import Owner, process_is_alive
from backup.storage.base import FileKind, Storage
from backup.unpacked import UnpackedFiles
from tests.backup.repositories import PROMPT, FakeClock
from tests.backup.storages import Faulty, MemoryStorage, names

KEY = MasterKey.generate()
ME = Owner.current()
ELSEWHERE = replace(ME, hostname="another-host", pid=1)


@pytest.fixture
def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.fixture(autouse=True)
def hangup_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def table(storage: Storage, clock: FakeClock, timing: LockTiming = PROMPT) -> LockTable:
    return LockTable(storage, UnpackedFiles(storage, KEY), clock, timing)


def take(storage: Storage, clock: FakeClock, *, exclusive: bool = False, owner: Owner = ME) -> Lock:
    return acquire(table(storage, clock), owner, exclusive=exclusive)


@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.parametrize("mine", [False, True])
def test_shared_locks_go_together_and_an_exclusive_one_goes_with_none(
    memory: MemoryStorage, clock: FakeClock, theirs: bool, mine: bool
) -> None:
    with take(memory, clock, exclusive=theirs, owner=ELSEWHERE):
        if theirs or mine:
            with pytest.raises(RepositoryLocked, match="another-host, process 1"):
                take(memory, clock, exclusive=mine)
            assert len(names(memory, FileKind.LOCK)) == 1
        else:
            take(memory, clock).release()


def test_a_released_lock_is_gone(memory: MemoryStorage, clock: FakeClock) -> None:
    lock = take(memory, clock)
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held
    assert not memory.files
    with pytest.raises(RepositoryLocked, match="released"):
        lock.check()


def test_of_two_that_come_at_once_at_least_one_gives_way(memory: MemoryStorage, clock: FakeClock) -> None:
    """The rival's lock appears right after ours was written, as when both had looked before."""

    def rival(_number: int, operation: str, kind: FileKind) -> None:
        if operation == "put" and len(names(memory, FileKind.LOCK)) == 1:
            table(memory, clock).write(ELSEWHERE, exclusive=True)

    with pytest.raises(RepositoryLocked):
        take(Faulty(memory, after=rival), clock, exclusive=True)
    (left,) = table(memory, clock).load()
    assert left.owner == ELSEWHERE


def test_a_lock_is_asked_for_again_while_there_is_time(memory: MemoryStorage, clock: FakeClock) -> None:
    theirs = take(memory, clock, exclusive=True, owner=ELSEWHERE)
    timer = threading.Timer(0.05, theirs.release)
    timer.start()
    with acquire(table(memory, clock), ME, exclusive=True, retry_for=timedelta(seconds=30)):
        timer.join()


def test_asking_again_ends_in_time(memory: MemoryStorage, clock: FakeClock) -> None:
    with take(memory, clock, exclusive=True, owner=ELSEWHERE), pytest.raises(RepositoryLocked):
        acquire(table(memory, clock), ME, exclusive=True, retry_for=timedelta(milliseconds=20))


def test_a_lock_of_a_dead_process_of_this_host_is_cleared_with_a_log_line(
    memory: MemoryStorage, clock: FakeClock, dead_pid: int, caplog: pytest.LogCaptureFixture
) -> None:
    table(memory, clock).write(replace(ME, pid=dead_pid), exclusive=True)
    with caplog.at_level(logging.WARNING), take(memory, clock, exclusive=True):
        assert len(names(memory, FileKind.LOCK)) == 1
    assert f"process {dead_pid} on this host is gone" in [getattr(r, "reason", "") for r in caplog.records]


def test_a_process_of_another_host_is_not_judged_by_its_number(
    memory: MemoryStorage, clock: FakeClock, dead_pid: int
) -> None:
    table(memory, clock).write(replace(ELSEWHERE, pid=dead_pid), exclusive=True)
    with pytest.raises(RepositoryLocked):
        take(memory, clock)


@pytest.mark.parametrize(("minutes", "stale"), [(29.9, False), (30.1, True)])
def test_a_lock_is_stale_after_thirty_minutes_without_renewal(
    memory: MemoryStorage, clock: FakeClock, minutes: float, stale: bool
) -> None:
    table(memory, clock).write(ELSEWHERE, exclusive=True)
    clock.advance(minutes=minutes)
    if stale:
        take(memory, clock, exclusive=True).release()
        assert not memory.files
    else:
        with pytest.raises(RepositoryLocked):
            take(memory, clock)


def test_renewing_replaces_the_lock_file_by_a_younger_one(memory: MemoryStorage, clock: FakeClock) -> None:
    with take(memory, clock) as lock:
        (before,) = table(memory, clock).load()
        clock.advance(minutes=5)
        lock.refresh()
        (after,) = table(memory, clock).load()
    assert before.name != after.name
    assert after.created_at == clock.now


def test_a_held_lock_renews_itself(memory: MemoryStorage, clock: FakeClock) -> None:
    renewed = threading.Event()

    def note(number: int, _operation: str, _kind: FileKind) -> None:
        if number >= 5:
            renewed.set()

    often = replace(PROMPT, refresh_every=timedelta(milliseconds=1))
    with acquire(table(Faulty(memory, after=note), clock, often), ME, exclusive=False) as lock:
        assert renewed.wait(30)
        lock.check()
    assert not memory.files


def test_a_lock_that_was_not_renewed_in_time_is_renewed_when_it_is_still_there(
    memory: MemoryStorage, clock: FakeClock
) -> None:
    with take(memory, clock) as lock:
        clock.advance(hours=2)  # the machine was suspended
        lock.check()
        assert table(memory, clock).load()[0].created_at == clock.now


def test_a_lock_that_somebody_removed_meanwhile_stops_all_writing(memory: MemoryStorage, clock: FakeClock) -> None:
    with take(memory, clock) as lock:
        clock.advance(hours=2)
        memory.files.clear()
        for _ in range(2):
            with pytest.raises(RepositoryLocked, match="removed it") as lost:
                lock.check()
        assert lost.value.exit_code == 11
    assert not memory.files


def test_a_lock_that_is_removed_while_it_is_renewed_late_is_lost(memory: MemoryStorage, clock: FakeClock) -> None:
    def remove_the_old(number: int, _operation: str, _kind: FileKind) -> None:
        if number == 2:
            memory.delete(FileKind.LOCK, first)

    with take(Faulty(memory, after=remove_the_old), clock) as lock:
        (first,) = names(memory, FileKind.LOCK)
        clock.advance(hours=2)
        with pytest.raises(RepositoryLocked, match="removed it"):
            lock.check()
        assert not memory.files


@pytest.mark.parametrize(("minutes", "goes_on"), [(22, True), (23, False)])
def test_writing_stops_when_the_lock_cannot_be_renewed_for_22_minutes_and_a_half(
    memory: MemoryStorage, clock: FakeClock, minutes: float, goes_on: bool
) -> None:
    def fail(number: int, operation: str, _kind: FileKind) -> None:
        if number > 1 and operation == "put":
            raise StorageError("the network is gone")

    with take(Faulty(memory, before=fail), clock) as lock:
        clock.advance(minutes=minutes)
        lock.refresh()
        if goes_on:
            lock.check()
        else:
            with pytest.raises(RepositoryLocked, match="the network is gone"):
                lock.check()


def test_an_empty_lock_file_is_ignored_and_an_unreadable_one_is_not(memory: MemoryStorage, clock: FakeClock) -> None:
    memory.files[FileKind.LOCK, "ab" * 32] = b""
    take(memory, clock, exclusive=True).release()
    memory.files[FileKind.LOCK, "cd" * 32] = b"rubbish"
    with pytest.raises(CorruptData) as found:
        take(memory, clock)
    assert found.value.name == "cd" * 32


def test_unlock_removes_what_is_stale_and_everything_only_when_asked(
    memory: MemoryStorage, clock: FakeClock, dead_pid: int
) -> None:
    with take(memory, clock):
        dead = table(memory, clock).write(replace(ME, pid=dead_pid), exclusive=True)
        plan = plan_unlock(table(memory, clock))
        assert [(lock.name, reason) for lock, reason in plan.removed] == [
            (dead.name, f"process {dead_pid} on this host is gone")
        ]
        assert [lock.owner for lock in plan.kept] == [ME]
        execute_unlock(table(memory, clock), plan)
        assert len(names(memory, FileKind.LOCK)) == 1
        execute_unlock(table(memory, clock), plan_unlock(table(memory, clock), everything=True))
        assert not memory.files


def test_a_holder_survives_the_signal_by_which_restic_asks_whether_it_lives(
    memory: MemoryStorage, clock: FakeClock
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with take(memory, clock):
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL


def test_a_handler_that_the_program_has_set_stays(memory: MemoryStorage, clock: FakeClock) -> None:
    received: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _frame: received.append(number))
    with take(memory, clock):
        os.kill(os.getpid(), signal.SIGHUP)
    assert received == [signal.SIGHUP]


def test_the_timing_is_restics() -> None:
    timing = LockTiming()
    minutes = (timing.refresh_every, timing.stop_writing_after, timing.stale_after)
    assert [value.total_seconds() / 60 for value in minutes] == [5, 22.5, 30]
    assert timing.settle == timedelta(milliseconds=200)


def test_a_lock_says_whose_it_is(clock: FakeClock) -> None:
    lock = LockFile("ab" * 32, clock.now, True, Owner("erp-1", "root", 7, 0, 0))
    assert str(lock) == "exclusive lock of root@erp-1, process 7, 2026-03-01T12:00:00Z"


def test_processes_that_nobody_can_judge_count_as_alive(dead_pid: int) -> None:
    assert process_is_alive(os.getpid())
    assert process_is_alive(1)
    assert process_is_alive(0)
    assert process_is_alive(-1)
    assert not process_is_alive(dead_pid)
    assert not process_is_alive(2**70)


def test_only_the_main_thread_sets_a_handler(memory: MemoryStorage, clock: FakeClock) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    thread = threading.Thread(target=lambda: take(memory, clock).release())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    assert not memory.files
