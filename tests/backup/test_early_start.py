"""Backups that begin in the pause of their lock: what they read then counts only if the lock turns out to hold."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backup.archiver import BackupReport, backup
from backup.errors import Interrupted, RepositoryLocked
from backup.gate import Gate
from backup.lock import LockTable
from backup.owner import Owner
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.base import FileKind, StoredFile
from backup.storage.local import LocalStorage
from tests.backup.repositories import PASSWORD, PROMPT, FakeClock, back_up, create, read_back, reopen
from tests.backup.storages import names

ELSEWHERE = replace(Owner.current(), hostname="another-host", pid=1)
PAUSING = replace(PROMPT, settle=timedelta(milliseconds=50))
DEADLINE = 30
SECOND = 2
"""The look at the locks that ends the pause."""


class Watched(LocalStorage):
    """Calls ``look(number)`` before the locks are listed, counted from 1."""

    looks = 0
    look: Callable[[int], None] = staticmethod(lambda _number: None)

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        if kind is FileKind.LOCK:
            self.looks += 1
            self.look(self.looks)
        return super().list(kind)


class World:
    """A folder with a few files, and a repository whose locks are watched from the next backup on."""

    def __init__(self, place: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.source = place / "source"
        for folder in "abc":
            (self.source / folder).mkdir(parents=True)
            (self.source / folder / "file").write_text(folder * 1000)
        self.inner = LocalStorage(place / "repository")
        create(self.inner, clock)
        self.storage = Watched(place / "repository")

    def back_up(
        self, *, workers: int = 0, seconds: float = DEADLINE, stop: Callable[[], bool] | None = None
    ) -> BackupReport:
        repository = Repository.open(self.storage, PASSWORD, clock=self.clock, timing=PAUSING)
        return backup(
            repository, FilesSource((str(self.source),)), job="docs", host="erp-1", clock=self.clock, workers=workers,
            stop=stop, lock_wait=timedelta(seconds=seconds),
        )  # fmt: skip

    def stored(self) -> list[str]:
        return [name for kind in (FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOT) for name in names(self.inner, kind)]

    def locks(self) -> LockTable:
        return reopen(self.inner, self.clock).lock_table()

    def files(self, report: BackupReport) -> set[str]:
        found = read_back(reopen(self.inner, self.clock), report.snapshot_id)
        return {os.path.relpath(path, self.source) for path in found}


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock) -> World:
    return World(tmp_path, clock)


ALL = {"a/file", "b/file", "c/file"}


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_looked_at_in_the_pause_and_stored_after_it(world: World, workers: int) -> None:
    walking = threading.Event()
    seen: list[list[str]] = []

    def look(number: int) -> None:
        if number == SECOND:
            assert walking.wait(DEADLINE), "the walk waits for the second look"
            seen.append(world.stored())

    world.storage.look = look
    def asked_by_the_walk() -> bool:
        walking.set()
        return False

    report = world.back_up(workers=workers, stop=asked_by_the_walk)
    assert seen == [[]]
    assert world.files(report) == ALL
    assert not names(world.inner, FileKind.LOCK)


@pytest.mark.parametrize("workers", [0, 2])
def test_who_turns_out_to_have_come_too_late_begins_anew(world: World, workers: int) -> None:
    locks = world.locks()
    theirs: list[str] = []
    stored: list[list[str]] = []

    def look(number: int) -> None:
        if number == SECOND:
            theirs.append(locks.write(ELSEWHERE, exclusive=True).name)
        elif number == SECOND + 2:
            stored.append(world.stored())
            locks.remove(theirs[0])

    world.storage.look = look
    report = world.back_up(workers=workers)
    assert stored == [[]], "nothing was written beside somebody's exclusive lock"
    assert world.files(report) == ALL
    assert report.files_new == len(ALL)
    assert len(names(world.inner, FileKind.SNAPSHOT)) == 1
    assert not names(world.inner, FileKind.LOCK)


def test_who_has_no_time_to_begin_anew_says_who_was_in_the_way(world: World) -> None:
    locks = world.locks()

    def look(number: int) -> None:
        if number == SECOND:
            locks.write(ELSEWHERE, exclusive=True)

    world.storage.look = look
    with pytest.raises(RepositoryLocked, match="another-host, process 1"):
        world.back_up(seconds=0)
    assert not world.stored()
    (left,) = locks.load()
    assert left.owner == ELSEWHERE


@pytest.mark.parametrize("workers", [0, 2])
def test_who_is_to_stop_does_not_wait_for_who_was_in_the_way(world: World, workers: int) -> None:
    locks, there = world.locks(), threading.Event()

    def look(number: int) -> None:
        if number == SECOND:
            locks.write(ELSEWHERE, exclusive=True)
            there.set()

    world.storage.look = look
    with pytest.raises(Interrupted):
        world.back_up(workers=workers, stop=lambda: there.wait(DEADLINE))
    assert world.storage.looks == SECOND
    assert not world.stored()


def test_what_a_prune_took_away_before_the_lock_stood_is_stored_again(world: World) -> None:
    """It began after our first look, and was done before our lock was there to be seen."""
    world.back_up()
    world.clock.advance(minutes=1)
    world.storage.looks = 0

    def look(number: int) -> None:
        if number == SECOND:
            for kind in (FileKind.SNAPSHOT, FileKind.INDEX, FileKind.DATA):
                for name in names(world.inner, kind):
                    world.inner.delete(kind, name)

    world.storage.look = look
    report = world.back_up()
    assert report.parent_id is None
    assert world.files(report) == ALL


def test_what_somebody_adds_in_the_pause_is_no_reason_to_begin_anew(world: World) -> None:
    def look(number: int) -> None:
        if number == SECOND:
            back_up(reopen(world.inner, world.clock), {"theirs": b"of another host"})

    world.storage.look = look
    assert world.files(world.back_up()) == ALL
    assert world.storage.looks == SECOND


@pytest.mark.parametrize("may_write", [True, False])
def test_a_gate_lets_forked_processes_through_once_it_is_decided(may_write: bool) -> None:
    gate = Gate()
    waiting = os.fork()
    if waiting == 0:
        try:
            gate.pass_through()
        except RepositoryLocked:
            os._exit(RepositoryLocked.exit_code)
        os._exit(0)
    gate.decide(may_write=may_write)
    assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == (0 if may_write else RepositoryLocked.exit_code)
    if may_write:
        gate.pass_through()
    else:
        with pytest.raises(RepositoryLocked):
            gate.pass_through()
    gate.close()
