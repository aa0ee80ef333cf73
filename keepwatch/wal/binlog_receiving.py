"""Follows a MariaDB or MySQL server by ``mariadb-binlog``: the server's own program copies its binlog here as it grows.

The copies are only on their way: what counts is what a repository holds, and until then the server keeps the original.
So nothing here is precious. Whenever the program is started, it begins with the newest file that is stored, in an empty
folder; a file that is stored whole is removed. While more waits here than may, the program rests.
"""

import logging
import shutil
import subprocess
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import pymysql

from backup.applications.mariadb_connection import Server, rows, server_program, words_of
from backup.binlog.events import BinlogName, binlogs_in
from backup.errors import BackupError, SourceError
from config.units import format_size

log = logging.getLogger(__name__)

_RESTART_SECONDS = 5.0
_KEPT_FREE_SHARE = 0.05
PATIENCE_SECONDS = 5.0
"""For what the server has and is not here yet: it mostly comes within milliseconds."""
_LOOK_EVERY_SECONDS = 0.05
_MEANWHILE = "the server keeps the rest meanwhile, so mind its disk and expire_logs_days"
_HINT = "does the user have REPLICATION SLAVE and BINLOG MONITOR?"

Listing = Mapping[str, int]
"""Name and size of each file that the server has; never empty."""


class BinlogFollower:
    """One mariadb-binlog, started again when it ends."""

    def __init__(self, server: Server, client: str, folder: Path, limit_bytes: int) -> None:
        """``client``: who follows; no two of the same name may follow one server."""
        self.folder = folder
        self.problem = ""
        self._server = server
        self._server_id = (1 << 31) | zlib.crc32(client.encode())  # far from what people number their servers with
        self._limit_bytes = limit_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = float("-inf")
        self._is_full = False
        self._began: BinlogName | None = None
        self._listed: Listing = {}
        self._said = folder.parent / "mariadb-binlog.log"

    def listing(self) -> Listing:
        """Ask the server which files it has, and how long each is. Raises SourceError."""
        with self._server.connect() as session:
            try:
                found = {str(row[0]): int(row[1]) for row in rows(session, "SHOW BINARY LOGS")}
            except pymysql.Error as error:
                raise SourceError(f"could not list the server's binlog: {words_of(error)}", hint=_HINT) from None
        if not found:
            raise SourceError("could not receive the binlog: the server keeps none", hint="set log_bin, and restart it")
        return found

    def look_after(self, listing: Listing, stored: str) -> None:
        """Have it run, from the newest ``stored`` file on or, where the server has that no more, from the next one."""
        begin = _first_wanted(listing, stored)
        is_another_log = _names(listing)[-1:] < _names(self._listed)[-1:] or any(
            listing.get(name, size) < size for name, size in self._listed.items()
        )
        self._listed = listing
        if is_another_log or (self._began is not None and begin < self._began):
            self.close()
        if self._is_full:
            return
        if self._is_running():
            if time.monotonic() - self._started_at > _RESTART_SECONDS:
                self.problem = ""
        elif self._process is None or time.monotonic() - self._started_at > _RESTART_SECONDS:
            self._start(begin)

    def await_arrival(self, listing: Listing, *, patience_seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until all that is listed is here; False once nothing has come for so long, or nobody brings it."""
        last = _names(listing)[-1].text
        before, since = self._size(), time.monotonic()
        while not ((path := self.folder / last).exists() and path.stat().st_size >= listing[last]):
            if not self._is_running() or time.monotonic() - since > patience_seconds:
                return False
            time.sleep(_LOOK_EVERY_SECONDS)
            if (now := self._size()) != before:
                before, since = now, time.monotonic()
        return True

    def tidy(self, listing: Listing, stored: Listing, *, everywhere: bool) -> tuple[int, int]:
        """Remove files that are ``stored`` whole in every repository, but for the newest, for which more may come.

        While the program rests nothing more comes: then all of them go once each repository has taken all it could
        (``everywhere``), or a file that fills the disk would keep it from going on.

        Gives how many files wait, and how many bytes of them, of what was listed: what has come since then is no
        sign of trouble. The program rests while that is too much, or the disk is nearly full.
        """
        if everywhere and self._is_full:
            shutil.rmtree(self.folder, ignore_errors=True)
        waiting, files = list[int](), self._files()
        for path in files:
            size, safe = path.stat().st_size, stored.get(path.name, 0)
            if safe >= size and path != files[-1]:
                path.unlink()
            if (late := min(size, listing.get(path.name, 0)) - safe) > 0:
                waiting.append(late)
        self._is_full = False
        if sum(waiting) > self._limit_bytes:
            told = f"{format_size(sum(waiting))} of binlog wait in {self.folder}"
            self._rest(f"{told}, and {format_size(self._limit_bytes)} may: {_MEANWHILE}")
        elif full := self._nearly_full():
            self._rest(full)
        return len(waiting), sum(waiting)

    def close(self) -> None:
        """End it."""
        if self._is_running():
            assert self._process is not None
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _is_running(self) -> bool:
        if self._process is None:
            return False
        if self._process.poll() is not None:
            words = self._said.read_text(errors="replace").strip().splitlines()[-2:]
            problem = f"mariadb-binlog ended with status {self._process.returncode}: {' | '.join(words)}"
            if problem != self.problem:
                log.warning("binlog is not received", extra={"folder": str(self.folder), "reason": problem})
            self.problem = problem
            return False
        return True

    def _start(self, begin: BinlogName) -> None:
        self._started_at = time.monotonic()
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, mode=0o700)
            command = [
                server_program("mariadb-binlog"), f"--defaults-file={self._server.option_file(self.folder.parent)}",
                "--read-from-remote-server", "--raw", "--stop-never", f"--stop-never-slave-server-id={self._server_id}",
                f"--result-file={self.folder}/", begin.text,
            ]  # fmt: skip
            with self._said.open("wb") as said:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        except (BackupError, OSError) as error:
            self.problem = str(error)
        else:
            self._began = begin
            log.info("binlog is received", extra={"folder": str(self.folder), "from": begin.text})

    def mind_the_disk(self) -> None:
        """Have the program rest as soon as the disk is nearly full, rather than when somebody looks the next time."""
        if self._process is not None and (full := self._nearly_full()):
            self._rest(full)

    def _rest(self, why: str) -> None:
        """Receive nothing until `tidy` finds room again."""
        if self._process is not None:
            log.warning("binlog is not received", extra={"folder": str(self.folder), "reason": why})
        self.close()
        self.problem, self._is_full = why, True

    def _nearly_full(self) -> str:
        """Say that the disk is; empty when it is not."""
        disk = shutil.disk_usage(self.folder.parent)
        if disk.free >= disk.total * _KEPT_FREE_SHARE:
            return ""
        return f"only {format_size(disk.free)} are free in {self.folder.parent}: {_MEANWHILE}"

    def _files(self) -> list[Path]:
        return binlogs_in(self.folder) if self.folder.exists() else []

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self._files())


def _names(listing: Listing) -> list[BinlogName]:
    return sorted(name for text in listing if (name := BinlogName.parse(text)))


def _first_wanted(listing: Listing, stored: str) -> BinlogName:
    """Say where to begin: a log that was begun anew, whose names are all older, from its first file on."""
    names, newest = _names(listing), BinlogName.parse(stored)
    return next((name for name in names if newest is not None and name >= newest), names[0])
