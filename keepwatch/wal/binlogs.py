"""Archives the binlog of one MariaDB server: looks every few seconds for what is new, and stores it in each repository.

Started by the daemon for each job, or member of a group, that has ``binlog``, and by ``keepwatch binlog``. Whatever a
repository does not have yet the server still has, so nothing is spooled for its own sake: a repository that was away
gets what it lacks from where the others do.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from backup.applications.mariadb_connection import Server, value
from backup.binlog.archive import PASS_BYTES, BinlogArchive, listing_of
from backup.binlog.events import first_missing
from backup.errors import BackupError, SourceError
from config.databases import MariaDbSource
from config.secrets import SecretError
from config.settings import Settings
from keepwatch.repositories import open_repository
from keepwatch.wal.binlog_receiving import PATIENCE_SECONDS, BinlogFollower
from keepwatch.wal.kept import known_logs
from keepwatch.wal.status import WalStatus, status_path

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 0.2


class BinlogArchiver:
    """All of it belongs to one thread."""

    def __init__(self, settings: Settings, state: Path, name: str, clock: Callable[[], datetime]) -> None:
        kept = known_logs(settings)[name]
        assert isinstance(kept.source, MariaDbSource)
        self._settings, self._state, self._name, self._clock, self._source = settings, state, name, clock, kept.source
        self._repositories = kept.repositories
        self._archives: dict[str, BinlogArchive] = {}
        self._place: tuple[Path, str] | None = None
        self._follower: BinlogFollower | None = None
        self._stored: dict[str, dict[str, int]] = {}
        """Repository -> size of each file that it has, as last seen."""
        self.every_seconds = kept.source.binlog_every.total_seconds()
        self._status = WalStatus.resumed(status_path(state, name), clock())

    def archive(self, *, patience_seconds: float = PATIENCE_SECONDS) -> int:
        """Store what is new in every repository, and say how things stand; gives the bytes stored in the first.

        Raises nothing that an operator can understand: that is the status' problem until it is over.
        """
        asked_at, problems, taken = self._clock(), list[str](), dict[str, int]()
        for name in self._repositories:
            with self._noting(problems, name):
                self._open(name)
        with self._noting(problems):
            folder, listing = self._look(patience_seconds)
            for name in list(self._archives):
                with self._noting(problems, name):
                    taken[name] = _take_all(self._archives[name], folder, listing, asked_at)
            self._conclude(asked_at, listing, everywhere=len(taken) == len(self._repositories))
        if self._follower is not None and self._follower.problem:
            problems.append(self._follower.problem)
        self._status = self._status.but(updated_at=self._clock(), problem="; ".join(problems))
        path = status_path(self._state, self._name)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._status.write(path)
        return taken.get(self._repositories[0], 0)

    def mind_the_disk(self) -> None:
        """Between two looks: let nothing more come once the disk is nearly full."""
        if self._follower is not None:
            self._follower.mind_the_disk()

    @property
    def problem(self) -> str:
        """Why the last look stored nothing somewhere; empty when all is well."""
        return self._status.problem

    def close(self) -> None:
        """Let go of everything."""
        if self._follower is not None:
            self._follower.close()
        for name in list(self._archives):
            self._let_go(name)

    def _open(self, name: str) -> None:
        if name not in self._archives:
            settings = self._settings.repositories[name]
            repository = open_repository(settings, clock=self._clock, zone=self._settings.daemon.zone, may_create=True)
            self._archives[name] = BinlogArchive(repository, self._name, self._settings.daemon.host, self._clock)

    def _look(self, patience_seconds: float) -> tuple[Path, Mapping[str, int]]:
        """Give a folder, and which files the server has; their newest content is in the folder, or soon will be."""
        if self._source.binlog_from == "files":
            folder, base = self._place = self._place or self._find()
            return folder, listing_of(folder, base)
        if self._follower is None:
            client, place = f"{self._settings.daemon.host} {self._name}", self._state / "wal" / self._name
            limit = self._source.binlog_spool_limit
            self._follower = BinlogFollower(Server.from_settings(self._source), client, place / "received", limit)
        listing = self._follower.listing()
        if self._archives:
            self._follower.look_after(listing, min(archive.newest_file for archive in self._archives.values()))
            self._follower.await_arrival(listing, patience_seconds=patience_seconds)
        return self._follower.folder, listing

    def _find(self) -> tuple[Path, str]:
        """Ask the server where its binlog lies, and what its files are called."""
        with Server.from_settings(self._source).connect() as session:
            basename = value(session, "SELECT @@log_bin_basename")
        if not basename:
            raise SourceError("could not archive the binlog: the server keeps none", hint="set log_bin, and restart it")
        folder, base = os.path.split(str(basename))
        return self._source.binlog_folder or Path(folder), base

    def _conclude(self, asked_at: datetime, listing: Mapping[str, int], *, everywhere: bool) -> None:
        """Say how far the log is stored, what waits, and whether anything is missing in between."""
        for name, archive in self._archives.items():
            self._stored[name] = {file.name: file.size for file in archive.files.values()}
        if self._follower is not None:
            sizes = [self._stored.get(name, {}) for name in self._repositories]
            stored = {name: min(of.get(name, 0) for of in sizes) for name in listing}
            files, size = self._follower.tidy(listing, stored, everywhere=everywhere)
            self._status = self._status.but(spooled_files=files, spooled_bytes=size)
        first = self._archives.get(self._repositories[0])
        if first is None:
            return
        last = first.newest_file
        if self._source.binlog_from == "files" or all(
            first.files[name].size >= size if name in first.files else name < last for name, size in listing.items()
        ):
            self._status = self._status.but(covered_until=asked_at)
        missing = first_missing(first.files)
        if missing != self._status.gap:
            if missing:
                log.error("log has a gap", extra={"job": self._name, "missing": missing})
            self._status = self._status.but(gap=missing, gap_at=asked_at if missing else None)
        self._status = self._status.but(last_file=last)

    @contextmanager
    def _noting(self, problems: list[str], name: str = "") -> Iterator[None]:
        """Go on after what keeps one repository, or the server, from its part."""
        try:
            yield
        except (BackupError, SecretError) as error:
            log.warning("binlog not archived", extra={"job": self._name, "repository": name, "reason": str(error)})
            problems.append(f"{name}: {error}" if name else str(error))
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        archive = self._archives.pop(name, None)
        if archive is not None:
            archive.close()


def _take_all(archive: BinlogArchive, folder: Path, listing: Mapping[str, int], asked_at: datetime) -> int:
    total = taken = archive.take(folder, listing, asked_at=asked_at)
    while taken >= PASS_BYTES:  # there may be more of what was listed; not until nothing is new: a server never ends
        taken = archive.take(folder, listing, asked_at=asked_at)
        total += taken
    return total


def run(settings: Settings, state: Path, name: str, clock: Callable[[], datetime], gone: Callable[[], bool]) -> None:
    """Archive until SIGTERM, SIGINT, or until ``gone``; what is there by then is stored first."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # `restic unlock` asks by it whether we live
    archiver = BinlogArchiver(settings, state, name, clock)
    every = archiver.every_seconds
    try:
        while not stop and not gone():
            looked_at = time.monotonic()
            archiver.archive()
            while not stop and not gone() and time.monotonic() - looked_at < every:
                time.sleep(_LOOK_EVERY_SECONDS)
                archiver.mind_the_disk()
        archiver.archive()
    finally:
        archiver.close()
