"""One job's log on its way into one repository: in order, each file once, waiting in a spool while it is away.

A lane holds the repository open between two files, and its lock only while files come: it lets go after some idle
seconds, and pauses after a minute, so that a forget or a prune gets its turn however busy the server is.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from backup.errors import BackupError, CorruptData
from backup.index import Index
from backup.lock import Lock
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.wal.keeping import fold, remove
from backup.wal.names import PARTIAL
from backup.wal.reading import Log, nodes_in
from backup.wal.writing import WalWriter
from config.secrets import SecretError
from keepwatch.wal.spool import Spool

log = logging.getLogger(__name__)

_IDLE_SECONDS = 10.0
_HOLD_SECONDS = 60.0
_PAUSE_SECONDS = 6.0
"""A little longer than others wait between two tries for a lock."""
_LOCK_WAIT = timedelta(seconds=8)
_RETRY_SECONDS = 15.0
_FOLD_AT = 256
"""Single segments that may gather before they are folded, whether or not there is a base backup."""
AWAY = (BackupError, SecretError, OSError)


class Refused(Exception):  # noqa: N818 - it says what is the case
    """A file that must not be stored: there is another of its name."""


@dataclass(slots=True)
class _Open:
    """A repository while it can be reached."""

    repository: Repository
    writer: WalWriter
    log: Log
    pieces: dict[str, tuple[str, list[bytes]]]
    """Partial files: snapshot and pieces of the last state."""
    lock: Lock | None = None

    @property
    def is_locked(self) -> bool:
        """Whether we hold the repository's lock."""
        return self.lock is not None and self.lock.held

    def release(self) -> None:
        """Let others have it."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None


class Lane:
    """The way to one repository. For one thread."""

    def __init__(self, name: str, job: str, host: str, open_repository: Callable[[], Repository], spool: Spool) -> None:
        self.name = name
        self.spool = spool
        self.problem = ""
        """Why the repository is away; empty while it is not."""
        self._job = job
        self._host = host
        self._open_repository = open_repository
        self._there: _Open | None = None
        self._lock_used = self._locked_at = 0.0
        self._retry_at = 0.0

    @property
    def log(self) -> Log | None:
        """What the repository holds, as last seen; None while it is away."""
        return self._there.log if self._there else None

    def open_ahead(self) -> None:
        """Open the repository, so that the first file need not wait for it."""
        try:
            self._reach()
        except AWAY as error:
            self._lost(error)

    def offer(self, name: str, content: memoryview, at: datetime) -> bool:
        """Store a file, or spool it; gives whether it is in the repository. Raises Refused, StorageFull."""
        if self.drain(at_once=False):
            try:
                self._store(name, content, at)
            except AWAY as error:
                self._lost(error)
            else:
                return True
        try:
            self.spool.put(name, content, at)
        except ValueError as error:
            raise Refused(str(error)) from None
        return False

    def drain(self, *, at_once: bool) -> bool:
        """Bring over what waits; gives whether nothing does any more. ``at_once``: do not wait for the next try."""
        for waiting in self.spool:
            if time.monotonic() < self._retry_at and not at_once:
                return False
            try:
                self._store(waiting.name, memoryview(waiting.path.read_bytes()), waiting.at)
            except Refused as error:
                log.error("spooled WAL refused", extra={"job": self._job, "file": waiting.name, "reason": str(error)})
                waiting.path.rename(waiting.path.with_name(f"refused-{waiting.path.name}"))
                continue
            except AWAY as error:
                self._lost(error)
                return False
            self.spool.remove(waiting)
        return time.monotonic() >= self._retry_at or at_once

    def rest(self) -> None:
        """Called when there is nothing to do: lets others have the lock, folds what has gathered."""
        there = self._there
        if there is None or not there.is_locked or time.monotonic() - self._lock_used < _IDLE_SECONDS:
            return
        try:
            if len({holder.id for holder in there.log.files.values()}) > _FOLD_AT:
                self._fold(there)
        except AWAY as error:
            self._lost(error)
        else:
            there.release()

    def close(self) -> None:
        """Let go of everything."""
        if self._there:
            self._there.release()
            self._there.writer.close()
            self._there = None

    # ---- storing

    def _store(self, name: str, content: memoryview, at: datetime) -> None:
        there = self._reach()
        before = there.log.files.get(name)
        if before is not None and not name.endswith(PARTIAL):
            if self._ids_in(there, before, name) != there.writer.ids_of(content):
                raise Refused(f"the repository holds a file {name} with other bytes")
            return
        self._lock(there)
        last, known = there.pieces.get(name, ("", []))
        if last and known == there.writer.ids_of(content):
            return
        snapshot_id, ids = there.writer.store(name, content, at, known=known)
        snapshot = there.repository.load_snapshot(snapshot_id)
        there.log.files[name] = snapshot
        self._supersede(there, name, snapshot, ids)
        self._lock_used = time.monotonic()

    def _supersede(self, there: _Open, name: str, snapshot: Snapshot, ids: list[bytes]) -> None:
        """Remove the earlier states of a file that is, or was, partial."""
        partial = name if name.endswith(PARTIAL) else name + PARTIAL
        last, _ = there.pieces.pop(partial, ("", []))
        if name == partial:
            there.pieces[name] = (snapshot.id, ids)
        elif partial in there.log.files:
            last = there.log.files.pop(partial).id
        if last:
            remove(there.repository, [there.repository.load_snapshot(last)])

    def _ids_in(self, there: _Open, snapshot: Snapshot, name: str) -> list[bytes]:
        """Tell of which pieces a stored file is. Rare: only when a server sends it again."""
        there.repository.load_index()
        nodes = nodes_in(there.repository, self._job, snapshot)
        there.repository.index = Index()
        for node in nodes:
            if node.name == name.encode():
                return list(node.content or ())
        raise CorruptData(f"could not find {name} in snapshot {snapshot.short_id}, which names it")

    # ---- the repository

    def _reach(self) -> _Open:
        if self._there is None:
            repository = self._open_repository()
            known = Log.of(repository.snapshots(), self._job)
            self._there = _Open(repository, WalWriter(repository, self._job, self._host), known, {})
        if self.problem:
            log.info("repository is back", extra={"job": self._job, "repository": self.name})
        self.problem = ""
        return self._there

    def _fold(self, there: _Open) -> None:
        self._lock(there)
        there.repository.load_index()
        folded = fold(there.repository, there.writer, self._job)
        there.repository.index = Index()  # it is large, and was only wanted for this
        log.info("log folded", extra={"job": self._job, "segments": folded})
        there.log.files.update(Log.of(there.repository.snapshots(), self._job).files)

    def _lock(self, there: _Open) -> None:
        if there.is_locked and time.monotonic() - self._locked_at > _HOLD_SECONDS:
            there.release()
            time.sleep(_PAUSE_SECONDS)
        if not there.is_locked:
            there.lock = there.repository.lock(retry_for=_LOCK_WAIT)
            self._locked_at = time.monotonic()
        self._lock_used = time.monotonic()

    def _lost(self, error: Exception) -> None:
        """Note that the repository is away, and begin anew with it later."""
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if not self.problem:
            log.warning("repository is away", extra={"job": self._job, "repository": self.name, "reason": str(error)})
        self.problem = str(error)
        there, self._there = self._there, None
        if there is not None:
            there.writer.close()
            there.release()


def spool_of(state: Path, job: str, repository: str, limit_bytes: int) -> Spool:
    """Return the spool of a lane below the state directory."""
    return Spool(state / "wal" / job / repository, limit_bytes)
