"""Locks: who is working on a repository, so that nobody deletes what somebody else is about to refer to.

The protocol is restic's (internal/repository/lock.go), so both programs can share a repository: any number of shared
locks, or one exclusive one; a lock file is written, and after 200 ms all locks are looked at again, so that of two who
came at once at least one gives way. Whoever only reads at first may begin before that second look, which is then taken
by the lock's own thread, and before which nothing is written. A lock is renewed every five minutes by the same thread;
one that could not be renewed for 22.5 minutes stops all writing, since after 30 minutes anyone may call it stale.

It refuses to break a lock that might be alive. Provably stale is a lock of this host whose process is gone, or one that
its owner has not renewed for 30 minutes; taking a lock clears such ones, each with a log line.

Mind: restic asks whether a lock's process lives by sending it SIGHUP. Whoever holds a lock must not die of that, so
taking one installs a handler that ignores SIGHUP where none was set. And hosts that share a name (containers) take each
other's processes for their own: give each its own hostname.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import orjson

from backup.errors import BackupError, CorruptData, FileMissing, RepositoryLocked, StorageError
from backup.gate import Gate
from backup.owner import Owner, process_is_alive
from backup.rfc3339 import format_time, parse_time
from backup.storage.base import FileKind, Storage, delete_all
from backup.unpacked import UnpackedFiles

Clock = Callable[[], datetime]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LockTiming:
    """restic's intervals; both programs must agree on them, so only tests have a reason for others."""

    settle: timedelta = timedelta(milliseconds=200)
    """Pause between writing a lock and looking at the others again."""
    refresh_every: timedelta = timedelta(minutes=5)
    stop_writing_after: timedelta = timedelta(minutes=22.5)
    stale_after: timedelta = timedelta(minutes=30)
    reread_after: tuple[timedelta, ...] = (timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20))
    """Pauses before a lock file that cannot be read is read again: some storages show a file before it is whole."""
    retry_every: timedelta = timedelta(seconds=5)
    """Pause before a lock that was refused is asked for again."""


@dataclass(frozen=True, slots=True)
class LockFile:
    """One lock as stored."""

    name: str
    created_at: datetime
    exclusive: bool
    owner: Owner

    def why_stale(self, now: datetime, timing: LockTiming) -> str:
        """Say why this lock is provably dead; empty when it may be alive."""
        if now - self.created_at > timing.stale_after:
            return f"not renewed since {format_time(self.created_at)}"
        if self.owner.hostname == os.uname().nodename and not process_is_alive(self.owner.pid):
            return f"process {self.owner.pid} on this host is gone"
        return ""

    def __str__(self) -> str:
        kind = "exclusive" if self.exclusive else "shared"
        owner = self.owner
        return f"{kind} lock of {owner.username}@{owner.hostname}, process {owner.pid}, {format_time(self.created_at)}"


@dataclass(frozen=True, slots=True)
class UnlockPlan:
    """Which locks `execute_unlock` will remove, with reasons, and which it will leave."""

    removed: tuple[tuple[LockFile, str], ...]
    kept: tuple[LockFile, ...]


class LockTable:
    """The lock files of one repository. ``files`` must not be used by another thread."""

    def __init__(self, storage: Storage, files: UnpackedFiles, clock: Clock, timing: LockTiming) -> None:
        self._storage = storage
        self._files = files
        self.clock = clock
        self.timing = timing

    def load(self) -> list[LockFile]:
        """Give all locks. Raises CorruptData when one stays unreadable, StorageError."""
        locks = []
        for file in list(self._storage.list(FileKind.LOCK)):
            if file.size:  # an empty file is a lock whose writer died; restic ignores it too
                lock = self._load_patiently(file.name)
                if lock:
                    locks.append(lock)
        return locks

    def _load_patiently(self, name: str) -> LockFile | None:
        for pause in (*self.timing.reread_after, None):
            try:
                return _parse(self._files.load(FileKind.LOCK, name), name)
            except FileMissing:
                return None
            except CorruptData:
                if pause is None:
                    raise
                time.sleep(pause.total_seconds())
        raise AssertionError("the last pause is None")

    def write(self, owner: Owner, *, exclusive: bool) -> LockFile:
        """Store a new lock."""
        now = self.clock()
        document = {
            "time": format_time(now),
            "exclusive": exclusive,
            "hostname": owner.hostname,
            "username": owner.username,
            "pid": owner.pid,
        }
        document |= {key: value for key, value in (("uid", owner.uid), ("gid", owner.gid)) if value}
        name = self._files.save(FileKind.LOCK, orjson.dumps(document))
        return LockFile(name, now, exclusive, owner)

    def remove(self, name: str) -> None:
        """Delete a lock; one that is gone already is fine."""
        delete_all(self._storage, FileKind.LOCK, [name])

    def exists(self, name: str) -> bool:
        """Whether a lock file is still there."""
        try:
            self._storage.stat(FileKind.LOCK, name)
        except FileMissing:
            return False
        return True

    def refuse_conflicts(self, *, exclusive: bool, mine: str = "") -> None:
        """Raise RepositoryLocked when a lock that may be alive excludes ours; clear those that are provably dead."""
        for lock in self.load():
            if lock.name == mine:
                continue
            if reason := lock.why_stale(self.clock(), self.timing):
                self._clear(lock, reason)
            elif exclusive or lock.exclusive:
                raise RepositoryLocked(
                    f"could not lock the repository: there is a {lock}",
                    hint="wait for it, or give --retry-lock; if that program is dead, run `keepwatch unlock`",
                )

    def _clear(self, lock: LockFile, reason: str) -> None:
        """Remove a dead lock; where these credentials may not delete, it is left, and stands in nobody's way."""
        try:
            self.remove(lock.name)
        except StorageError as error:
            fields = {"lock": lock.name[:8], "owner": str(lock.owner), "reason": str(error)}
            log.warning("stale lock left", extra=fields)
        else:
            fields = {"lock": lock.name[:8], "owner": str(lock.owner), "reason": reason}
            log.warning("stale lock cleared", extra=fields)


class Lock:
    """A held lock. Use it as a context manager: it is renewed by a thread until it is released.

    ``settled_at`` (monotonic) is when to look at the others again, and ``recheck`` what else is looked at then; it
    raises RepositoryLocked for what speaks against the lock.
    """

    def __init__(self, table: LockTable, held: LockFile, settled_at: float, recheck: Callable[[], object]) -> None:
        self.gate = Gate()
        """Opens for processes that are forked meanwhile when the lock is proven."""
        self.refusal: BaseException | None = None
        """Why the second look refused the lock."""
        self._table = table
        self._held = held
        self._settled_at = settled_at
        self._recheck = recheck
        self._proven = threading.Event()
        self._released = threading.Event()
        self._lost = ""
        self._guard = threading.Lock()
        if not table.timing.settle:  # nothing is to be waited for
            self._look_again()
        self._thread = threading.Thread(target=self._keep, name="lock-refresh", daemon=True)
        self._thread.start()

    @property
    def exclusive(self) -> bool:
        """Whether nobody else may hold any lock."""
        return self._held.exclusive

    @property
    def held(self) -> bool:
        """Whether it has not been released."""
        return not self._released.is_set()

    def prove(self) -> None:
        """Wait until the pause is over and the others were looked at again. Raises RepositoryLocked, StorageError."""
        self._proven.wait()
        if self.refusal is not None:
            raise self.refusal

    def check(self) -> None:
        """Raise RepositoryLocked when this lock may not protect us any more; called before each write.

        The wall clock decides, not a monotonic one, since the machine may have been suspended. Raises as `prove` does,
        too.
        """
        if not self.held:
            raise RepositoryLocked("could not go on: the lock was released already")
        if self.refusal is not None or not self._proven.is_set():
            self.prove()
        if self._table.clock() - self._held.created_at > self._table.timing.stop_writing_after:
            self.refresh()
        if self._lost:
            raise RepositoryLocked(
                f"could not go on: the lock on the repository was lost, {self._lost}",
                hint="nothing is damaged; start again when the storage answers",
            )

    def refresh(self) -> None:
        """Write a new lock file, then remove the old one. Notes the loss when somebody removed ours."""
        with self._guard:
            if self._lost or self._released.is_set():
                return
            timing = self._table.timing
            overdue = self._table.clock() - self._held.created_at > timing.stop_writing_after
            try:
                if overdue and not self._table.exists(self._held.name):
                    self._lost = "it was not renewed in time and somebody removed it"
                    return
                fresh = self._table.write(self._held.owner, exclusive=self._held.exclusive)
                if overdue and not self._still_there_after_a_pause():
                    self._lost = "it was not renewed in time and somebody removed it"
                    self._table.remove(fresh.name)
                    return
                old, self._held = self._held, fresh
                self._table.remove(old.name)
            except BackupError as error:
                log.warning("lock not refreshed", extra={"reason": str(error)})
                if overdue:
                    self._lost = f"it could not be renewed: {error}"

    def _still_there_after_a_pause(self) -> bool:
        """An unlock that began before our new lock was written may still be on its way."""
        time.sleep(self._table.timing.settle.total_seconds())
        return self._table.exists(self._held.name)

    def release(self) -> None:
        """Stop renewing and remove the lock file. Safe to call twice."""
        if self._released.is_set():
            return
        self._released.set()
        self._thread.join()
        self.gate.close()
        try:
            self._table.remove(self._held.name)
        except StorageError as error:
            log.warning("lock not released", extra={"lock": self._held.name[:8], "reason": str(error)})

    def _look_again(self) -> None:
        try:
            self._table.refuse_conflicts(exclusive=self.exclusive, mine=self._held.name)
            self._recheck()
        except BaseException as error:  # noqa: BLE001 - raised again in whoever asks whether the lock holds
            self.refusal = error
        self.gate.decide(may_write=self.refusal is None)
        self._proven.set()

    def _keep(self) -> None:
        if not self._proven.is_set():
            if self._released.wait(max(0.0, self._settled_at - time.monotonic())):
                return
            self._look_again()
        while not self._released.wait(self._table.timing.refresh_every.total_seconds()):
            self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(
    table: LockTable,
    owner: Owner,
    *,
    exclusive: bool,
    retry_for: timedelta = timedelta(0),
    meanwhile: Callable[[], object] = lambda: None,
    recheck: Callable[[], object] = lambda: None,
    prove: bool = True,
) -> Lock:
    """Take a lock, asking again for ``retry_for`` while somebody else's is in the way. Raises RepositoryLocked.

    ``meanwhile`` is called when the lock's file is stored and others are being waited for: by then nobody new can begin
    what the lock excludes, and whoever began before is seen afterwards, when the lock is given up and this raises.
    Without ``prove`` the lock is given while it still waits: what is read then is worth something once `Lock.prove` has
    returned, and `Lock.check` and `Lock.gate` let nobody write before. ``recheck`` is called after the second look, in
    another thread, and may raise RepositoryLocked as well.
    """
    _survive_hangup()
    give_up_at = time.monotonic() + retry_for.total_seconds()
    while True:
        try:
            lock = _begin(table, owner, meanwhile, recheck, exclusive=exclusive)
            if prove:
                _prove(lock)
            return lock
        except RepositoryLocked:
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(left, table.timing.retry_every.total_seconds()))


def _begin(
    table: LockTable, owner: Owner, meanwhile: Callable[[], object], recheck: Callable[[], object], *, exclusive: bool
) -> Lock:
    table.refuse_conflicts(exclusive=exclusive)
    held = table.write(owner, exclusive=exclusive)
    try:
        settled_at = time.monotonic() + table.timing.settle.total_seconds()
        meanwhile()
        return Lock(table, held, settled_at, recheck)
    except BaseException:
        table.remove(held.name)
        raise


def _prove(lock: Lock) -> None:
    try:
        lock.prove()
    except BaseException:
        lock.release()
        raise


def plan_unlock(table: LockTable, *, everything: bool = False) -> UnlockPlan:
    """Name the locks that are provably stale; with ``everything`` all of them, which an operator has to answer for."""
    removed, kept = [], []
    for lock in table.load():
        reason = lock.why_stale(table.clock(), table.timing) or ("asked for by name" if everything else "")
        if reason:
            removed.append((lock, reason))
        else:
            kept.append(lock)
    return UnlockPlan(tuple(removed), tuple(kept))


def execute_unlock(table: LockTable, plan: UnlockPlan) -> None:
    """Remove the locks that the plan names, each with a log line."""
    for lock, reason in plan.removed:
        fields = {"lock": lock.name[:8], "owner": str(lock.owner), "reason": reason}
        log.warning("lock removed", extra=fields)
        table.remove(lock.name)


def _parse(document: bytes, name: str) -> LockFile:
    try:
        found = orjson.loads(document)
        owner = Owner(
            hostname=found.get("hostname", ""),
            username=found.get("username", ""),
            pid=int(found.get("pid", 0)),
            uid=found.get("uid", 0),
            gid=found.get("gid", 0),
        )
        return LockFile(name, parse_time(found["time"]), bool(found["exclusive"]), owner)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"could not read lock {name[:8]}: {error}", name=name) from error


def _survive_hangup() -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may set handlers; a program with threads has set its own
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _ignore_hangup)  # unlike SIG_IGN, a handler is not passed on to programs we start


def _ignore_hangup(_number: int, _frame: object) -> None:
    """Live on: this is how restic asks whether we live."""
