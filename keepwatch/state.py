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
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from keepwatch.errors import AlreadyRunning, StateError


class StateDirectory:
    """Paths below the state directory, which exists and can be written once this is made."""

    def __init__(self, path: Path) -> None:
        """Create what is missing. Raises StateError when it cannot be used."""
        self.path = path.absolute()
        self.monitor_db = self.path / "monitor.db"
        self.backup_db = self.path / "backup.db"
        self.journal = self.path / "drills.jsonl"
        self.plan_log = self.path / "plans.jsonl"
        self.memories = self.path / "memories"
        self.copies = self.path / "copies"
        self.scratch = self.path / "scratch"
        self.locks = self.path / "locks"
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
