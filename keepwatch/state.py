"""The state directory: where everything lies that outlives a process, and who may use it at the moment.

    STATE/monitor.db        alerts, history, outbox, silences
    STATE/backup.db         catalog of runs and drills
    STATE/drills.jsonl      evidence of drills, hash-chained
    STATE/plans.jsonl       what became of emergency plans, hash-chained
    STATE/memories/         what checks remember over a restart: how far logs were read, what jobs reported
    STATE/copies/           consistent copies of the databases, for backing them up
    STATE/scratch/          where drills restore to
    STATE/locks/            one lock file for the daemon and one a job

Locks are flock(2): they end with the process that holds them, however it ends, so none is ever stale.

All of it is its owner's alone: alerts and their evidence tell a stranger much about a machine. A group that was given
leave to read keeps it; nobody else gets in, and nobody else writes.
"""

import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from keepwatch.errors import AlreadyRunning, StateError

log = logging.getLogger(__name__)

_FILE_RIGHTS = 0o640
_FOLDER_RIGHTS = 0o750
"""The most that any file and the folder itself may allow."""


class StateDirectory:
    """Paths below the state directory, which exists and can be written once this is made."""

    def __init__(self, path: Path, *, to_read: bool = False) -> None:
        """Create what is missing, or nothing at all where it is only ``to_read``: what is not there then is empty.
        Raises StateError when it cannot be used.
        """
        self.path = path.absolute()
        self.monitor_db = self.path / "monitor.db"
        self.backup_db = self.path / "backup.db"
        self.journal = self.path / "drills.jsonl"
        self.plan_log = self.path / "plans.jsonl"
        self.memories = self.path / "memories"
        self.copies = self.path / "copies"
        self.scratch = self.path / "scratch"
        self.locks = self.path / "locks"
        if to_read:
            self._require_readable()
        else:
            self._make()

    def _require_readable(self) -> None:
        try:
            found = os.access(self.path, os.R_OK | os.X_OK)
            self.path.stat()
        except FileNotFoundError:
            return
        except OSError:
            found = False
        if not found:
            raise StateError(
                f"reading the state directory {self.path}: not allowed for user {os.geteuid()}",
                hint="run this as root or as the user that the daemon runs as",
            )

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.copies, self.scratch, self.locks):
                folder.mkdir(exist_ok=True, mode=0o700)
            probe = self.locks / f"write-test.{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StateError(
                f"preparing the state directory {self.path}: {error.strerror}",
                hint=f"make it writable for user {os.geteuid()}, or name another with --state-dir or daemon.state_dir",
            ) from None

    def tighten(self) -> None:
        """Take away what others may do with files of an earlier version, or made under a careless umask. Raises
        StateError where that cannot be done, and where the folder is one that many share, such as /tmp.
        """
        if self.path.stat().st_mode & stat.S_ISVTX:
            raise StateError(
                f"using {self.path} as state directory: it is a folder that everybody shares",
                hint=f"name a folder of its own, such as {self.path / 'keepwatch'}",
            )
        files = [file for file in self.path.iterdir() if file.is_file() and not file.is_symlink()]
        for path, allowed in [(self.path, _FOLDER_RIGHTS), *((file, _FILE_RIGHTS) for file in files)]:
            try:
                rights = stat.S_IMODE(path.stat().st_mode)
                if rights & ~allowed:
                    path.chmod(rights & allowed)
                    log.warning("rights tightened", extra={"file": str(path), "were": f"{rights:04o}"})
            except FileNotFoundError:  # a write-ahead log, gone with the command that had it open
                continue
            except OSError as error:
                raise StateError(
                    f"keeping others out of {path}: {error.strerror}", hint=f"chmod {allowed:o} {path}, as its owner"
                ) from None

    @contextmanager
    def lock(self, name: str, *, what: str) -> Iterator[None]:
        """Hold the lock ``name`` while inside. Raises AlreadyRunning, naming the holder, when somebody else has it."""
        descriptor = os.open(self.locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise AlreadyRunning(
                    f"{what} is already running as process {holder}",
                    hint="wait until it ends, or stop it first; a second one would only be in its way",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def is_locked(self, name: str) -> bool:
        """Tell whether somebody holds the lock ``name`` at this moment."""
        with suppress(FileNotFoundError), (self.locks / f"{name}.lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def locked_since(self, name: str) -> datetime | None:
        """Return when whoever holds the lock ``name`` took it; None when nobody does."""
        with suppress(FileNotFoundError):
            taken_at = (self.locks / f"{name}.lock").stat().st_mtime
            return datetime.fromtimestamp(taken_at, UTC) if self.is_locked(name) else None
        return None

    def copy_databases(self) -> None:
        """Put a consistent copy of each database below ``copies``.

        A file copy of a live database would be torn, and a backup of it worthless. Raises StateError.
        """
        for database in (self.monitor_db, self.backup_db):
            if not database.exists():
                continue
            target = self.copies / database.name
            fresh = target.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            try:
                with closing(sqlite3.connect(database, timeout=30)) as live, closing(sqlite3.connect(fresh)) as copy:
                    live.backup(copy)
                fresh.chmod(0o600)
                fresh.replace(target)
            except (sqlite3.Error, OSError) as error:
                fresh.unlink(missing_ok=True)
                raise StateError(
                    f"copying {database} to {target}: {error}", hint="look at the free space of the state directory"
                ) from None
