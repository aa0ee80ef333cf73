"""Follows a server by ``pg_receivewal``: PostgreSQL's own program writes, durable as it comes, what we then store.

A replication slot makes the server keep what we have not got. The segment under way is stored again and again as
``.partial``: only its last piece is new each time.
"""

import logging
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from backup.applications.postgres_connection import Server
from backup.errors import BackupError
from backup.wal.names import PARTIAL, is_wal_name, parse_segment

log = logging.getLogger(__name__)

_RESTART_SECONDS = 5.0
_SEGMENT_BYTES = "select setting from pg_settings where name = 'wal_segment_size'"


class Follower:
    """One pg_receivewal, started again when it ends."""

    def __init__(self, server: Server, slot: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.problem = ""
        self._server = server
        self._slot = slot
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._said = folder.parent / "pg_receivewal.log"
        self._seen: dict[str, tuple[int, int]] = {}
        self._segment_bytes = 0  # until the server has been asked

    def look_after(self) -> None:
        """Start it when it does not run."""
        process = self._process
        if process is not None and process.poll() is None:
            if time.monotonic() - self._started_at > _RESTART_SECONDS:
                self.problem = ""
            return
        if process is not None:
            words = self._said.read_text(errors="replace").strip().splitlines()[-2:]
            self.problem = f"pg_receivewal ended with status {process.returncode}: {' | '.join(words)}"
            log.warning("log is not received", extra={"slot": self._slot, "reason": self.problem})
            self._process = None
        if time.monotonic() - self._started_at < _RESTART_SECONDS:
            return
        self._started_at = time.monotonic()
        try:
            self._start()
        except (BackupError, OSError) as error:
            self.problem = str(error)

    def arrived(self) -> Iterator[tuple[str, Path, datetime]]:
        """Yield what has changed since it was yielded last: whole files in order, then the one under way.

        That one has a segment's length from its first byte on; a shorter one is being made, or a full disk cut it off.
        """
        names = sorted(name for name in os.listdir(self._folder) if is_wal_name(name))
        for name in sorted(names, key=lambda name: (name.endswith(PARTIAL), name)):
            path = self._folder / name
            with suppress(FileNotFoundError):  # it was completed, and so renamed
                status = path.stat()
                if name.endswith(PARTIAL) and status.st_size != self._segment_bytes:
                    continue
                moment = (status.st_mtime_ns, status.st_size)
                if self._seen.get(name) != moment:
                    at = datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
                    yield name, path, at
                    self._seen[name] = moment

    def tidy(self) -> None:
        """Remove what was stored, but for the newest whole segment: by it pg_receivewal knows where to go on."""
        whole = sorted(name for name in self._seen if parse_segment(name))
        for name in whole[:-1]:
            (self._folder / name).unlink(missing_ok=True)
            del self._seen[name]

    def rest(self, why: str) -> None:
        """End it until it is looked after again, and tell why."""
        if self._process is not None:
            log.warning("log is not received", extra={"slot": self._slot, "reason": why})
        self.close()
        self.problem = why

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _start(self) -> None:
        with self._server.connect() as connection:
            major = connection.info.server_version // 10000
            found = connection.execute("select 1 from pg_replication_slots where slot_name = %s", (self._slot,))
            if not found.fetchone():
                connection.execute("select pg_create_physical_replication_slot(%s, true)", (self._slot,))
            ((size,),) = connection.execute(_SEGMENT_BYTES).fetchall()
        self._segment_bytes = int(str(size))
        self._remove_stumps()
        command = [
            self._server.program("pg_receivewal", at_least=major), "--directory", str(self._folder),
            "--slot", self._slot, "--synchronous", "--no-loop", "--no-password", "--status-interval=1",
            f"--dbname={self._server.arguments()}",
        ]  # fmt: skip
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=self._server.environment
            )
        log.info("log is received", extra={"slot": self._slot})

    def _remove_stumps(self) -> None:
        """Remove what a full disk cut off while it was made: pg_receivewal does not start on one."""
        for path in self._folder.glob(f"*{PARTIAL}"):
            if path.stat().st_size != self._segment_bytes:
                path.unlink()
