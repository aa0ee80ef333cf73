"""Archives the binlog of one MariaDB job: looks every few seconds for what is new, and stores it in each repository.

Started by the daemon for each job that has ``binlog``, and by ``keepwatch binlog``. While a repository is away the
server keeps its files, so there is no spool: what is new is stored as soon as it can be.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from backup.binlog.archive import PASS_BYTES, BinlogArchive
from backup.errors import BackupError, SourceError
from config.databases import MariaDbSource
from config.secrets import SecretError
from config.settings import Settings
from keepwatch.repositories import open_repository
from keepwatch.wal.status import WalStatus, status_path

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 0.2


class BinlogArchiver:
    """All of it belongs to one thread."""

    def __init__(self, settings: Settings, state: Path, job: str, clock: Callable[[], datetime]) -> None:
        source = settings.jobs[job].source
        assert isinstance(source, MariaDbSource)
        self._settings, self._state, self._job, self._clock, self._source = settings, state, job, clock, source
        self._archives: dict[str, BinlogArchive] = {}
        self._place: tuple[Path, str] | None = None
        self._status = WalStatus(clock())

    def archive(self) -> int:
        """Store what is new in every repository, and say how things stand; gives the bytes stored in the first.

        Raises nothing that an operator can understand: that is the status' problem until it is over.
        """
        stored, problems = 0, []
        for number, name in enumerate(self._settings.jobs[self._job].repositories):
            try:
                asked_at = self._clock()
                taken = self._take(name)
            except (BackupError, SecretError) as error:
                log.warning("binlog not archived", extra={"job": self._job, "repository": name, "reason": str(error)})
                problems.append(f"{name}: {error}")
                self._let_go(name)
                continue
            if number == 0:
                stored = taken
                last = max(self._archives[name].files, default="")
                self._status = self._status.but(covered_until=asked_at, last_file=last)
        self._status = self._status.but(updated_at=self._clock(), problem="; ".join(problems))
        path = status_path(self._state, self._job)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._status.write(path)
        return stored

    @property
    def problem(self) -> str:
        """Why the last look stored nothing somewhere; empty when all is well."""
        return self._status.problem

    def close(self) -> None:
        """Let go of everything."""
        for name in list(self._archives):
            self._let_go(name)

    def _take(self, name: str) -> int:
        folder, base = self._place = self._place or self._find()
        if name not in self._archives:
            repository = open_repository(
                self._settings.repositories[name], clock=self._clock, zone=self._settings.daemon.zone, may_create=True
            )
            self._archives[name] = BinlogArchive(repository, self._job, self._settings.daemon.host, self._clock)
        total = taken = self._archives[name].take(folder, base)
        while taken >= PASS_BYTES:  # there may be more; not until nothing is new, for a server never ends
            taken = self._archives[name].take(folder, base)
            total += taken
        return total

    def _find(self) -> tuple[Path, str]:
        """Ask the server where its binlog lies, and what its files are called."""
        from backup.applications.mariadb_connection import Server, value

        with Server.from_settings(self._source).connect() as session:
            basename = value(session, "SELECT @@log_bin_basename")
        if not basename:
            raise SourceError("could not archive the binlog: the server keeps none", hint="set log_bin, and restart it")
        folder, base = os.path.split(str(basename))
        return self._source.binlog_folder or Path(folder), base

    def _let_go(self, name: str) -> None:
        archive = self._archives.pop(name, None)
        if archive is not None:
            archive.close()


def run(settings: Settings, state: Path, job: str, clock: Callable[[], datetime], gone: Callable[[], bool]) -> None:
    """Archive until SIGTERM, SIGINT, or until ``gone``; what is there by then is stored first."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # `restic unlock` asks by it whether we live
    archiver = BinlogArchiver(settings, state, job, clock)
    source = settings.jobs[job].source
    assert isinstance(source, MariaDbSource)
    every = source.binlog_every.total_seconds()
    try:
        while not stop and not gone():
            looked_at = time.monotonic()
            archiver.archive()
            while not stop and not gone() and time.monotonic() - looked_at < every:
                time.sleep(_LOOK_EVERY_SECONDS)
        archiver.archive()
    finally:
        archiver.close()
