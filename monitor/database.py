"""The SQLite file below everything the monitor remembers: opening, transactions, and what its failures mean.

One connection with a lock around it serves all threads of a process; other processes (the command line) open the same
file. WAL, so that a reader never waits for a writer. A file that SQLite cannot make sense of is set aside under a new
name and started afresh, if the one who opens it says so. Knows nothing of what the tables mean.

    MonitorStoreError           anything that kept the file from being read or written; nothing of the transaction stays
      MonitorStoreFull          no room on the disk
      MonitorStoreCorrupt       not a database any more; ``set_aside`` names the copy when it was started afresh
"""

import contextlib
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from monitor.reserve import Reserve
from monitor.schema import MIGRATIONS

_BUSY_SECONDS = 5.0
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""What a full disk looks like; the shared-memory file that cannot grow is an input/output error."""
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class MonitorStoreError(Exception):
    """The monitor's database could not be read or written. ``hint`` says what the operator can do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class MonitorStoreFull(MonitorStoreError):  # noqa: N818 - the tree's root carries the word
    """There is no room for it."""


class MonitorStoreCorrupt(MonitorStoreError):  # noqa: N818
    """It is damaged."""

    def __init__(self, message: str, hint: str, set_aside: Path | None = None) -> None:
        super().__init__(message, hint)
        self.set_aside = set_aside


class Database:
    """The file, open. Every method may be called from any thread."""

    def __init__(self, path: Path, *, set_aside_corrupt: bool = False, to_read: bool = False) -> None:
        """Open or make the file. With ``set_aside_corrupt`` a damaged one is renamed and an empty one takes its place,
        and room is reserved for the day when the disk is full. One that is only ``to_read`` is not made: where there is
        none, this is empty. Raises MonitorStoreError.
        """
        self.path = path
        self._in_memory = to_read and not path.exists()
        self.set_aside: list[Path] = []
        """Damaged files, as they are called now, in the order in which they were found."""
        self._renames = set_aside_corrupt
        self._reserve = Reserve(path.with_name(f"{path.name}.reserve")) if set_aside_corrupt else None
        self._lock = threading.RLock()
        self._writes: Counter[str] = Counter()
        try:
            self._connection = self._open()
        except MonitorStoreCorrupt:
            if not set_aside_corrupt:
                raise
            self._start_afresh()

    @contextlib.contextmanager
    def write(self, *, durable: bool = True, about: str = "") -> Iterator[sqlite3.Connection]:
        """Run one transaction: all of it or nothing. ``durable`` ones survive a power cut from the moment this returns;
        the others at least never damage anything. ``about``: a word for those who wait for changes of one kind only
        (see ``revision``). Raises MonitorStoreError.
        """
        with self._lock, self._translated("written"):
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._writes[about] += 1
            if self._reserve:
                self._reserve.keep()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read; each statement sees all that was committed before it. Raises MonitorStoreError."""
        with self._lock, self._translated("read"):
            yield self._connection

    def revision(self, about: str | None = None) -> tuple[int, int]:
        """Return a value that is another one after every change, be it by this process or by others; of changes by this
        process only those ``about`` something count where that is given. Cheap.
        """
        with self._lock, self._translated("read"):
            writes = self._writes.total() if about is None else self._writes[about] + self._writes[""]
            return writes, int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        with self._lock:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        with self._translated("opened"):
            if not self._in_memory:
                self._make_private()
            place = ":memory:" if self._in_memory else self.path
            connection = sqlite3.connect(place, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA journal_mode = WAL")
                # A log of one megabyte, written over and over, needs no more room on a disk that is full.
                connection.execute("PRAGMA wal_autocheckpoint = 250")
                # Half a megabyte of cache is plenty for small tables, and two would count against the idle daemon.
                connection.execute("PRAGMA cache_size = -512")
                self._migrate(connection)
                # Reads the whole file: worth a second when the daemon starts, not for every command.
                if self._renames and (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise MonitorStoreCorrupt(f"{self.path} could not be opened: {verdict}", _hint(self.path))
            except BaseException:
                connection.close()
                raise
        return connection

    def _make_private(self) -> None:
        """Make the file for its owner alone; SQLite gives the same rights to what it puts beside it."""
        with contextlib.suppress(OSError):  # SQLite says better why it cannot be opened
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise MonitorStoreError(
                f"cannot use {self.path}: it was written by a newer keepwatch (version {version}, this one knows"
                f" {len(MIGRATIONS)})",
                "run the newer keepwatch, or move the file away to start without its alerts and history",
            )
        if version == len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have been faster while this one waited for the lock.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        """Turn what SQLite says about the file into the errors above; mistakes in our own SQL stay what they are."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if primary in _CORRUPT:
                message = f"{self.path} could not be {verb}: {error}"
                if verb != "opened" and self._renames:
                    name = self._start_afresh()
                    raise MonitorStoreCorrupt(f"{message}; set aside as {name}", _hint(name), name) from error
                raise MonitorStoreCorrupt(message, _hint(self.path)) from error
            if not isinstance(error, sqlite3.OperationalError):
                raise
            if self._reserve and primary in _NO_ROOM:
                self._reserve.give_up()  # the next attempt finds room
            if primary == sqlite3.SQLITE_FULL:
                raise MonitorStoreFull(
                    f"{self.path} could not be {verb}: {error}",
                    f"make room on the file system of {self.path.parent}; what is waiting is written then",
                ) from error
            raise MonitorStoreError(
                f"{self.path} could not be {verb}: {error}",
                f"see that {self.path.parent} exists, is writable for this user, has room and is on a healthy disk",
            ) from error

    def _start_afresh(self) -> Path:
        """Rename the damaged file and whatever belongs to it, open an empty one, and return the new name."""
        if hasattr(self, "_connection"):
            self._connection.close()
        number = 1
        while (name := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
            number += 1
        try:
            self.path.rename(name)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(name.with_name(name.name + suffix))
        except OSError as error:
            raise MonitorStoreError(
                f"damaged {self.path} could not be set aside as {name}: {error.strerror}",
                f"see that {self.path.parent} is writable for this user",
            ) from error
        self.set_aside.append(name)
        self._connection = self._open()
        self._writes[""] += 1
        return name


def _hint(path: Path) -> str:
    return f"'sqlite3 {path} .recover' may bring back what it held; keepwatch run starts with an empty one"
