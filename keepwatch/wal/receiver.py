"""The receiver of one log: holds the repositories open, takes files in, answers when they are durable.

Started by the daemon for each job, or member of a group, that has ``wal``, as a process of its own, and by ``keepwatch
wal receive``. It takes one file at a time, in the order in which they come, as a server sends them. It ends when it is
told to, or when its standard input closes, which is how it notices that the daemon is gone.
"""

import logging
import os
import pwd
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from backup.around_cache import aligned_memory
from backup.errors import BackupError, StorageFull
from backup.wal.names import PARTIAL, SEGMENT_BYTES, Segment, is_wal_name, parse_position, parse_segment, segment_name
from config.postgres import PostgresSource
from config.settings import Settings
from keepwatch.repositories import open_repository
from keepwatch.wal.kept import kept_logs
from keepwatch.wal.lane import Lane, Refused, spool_of
from keepwatch.wal.push import RUN_DIRECTORY
from keepwatch.wal.receiving import Follower
from keepwatch.wal.spool import MEANWHILE
from keepwatch.wal.status import WalStatus, status_path

log = logging.getLogger(__name__)

_LARGEST_BYTES = 1 << 30
_CREDENTIALS = struct.Struct("3i")
_LOOK_EVERY_SECONDS = 1.0
_ASK_EVERY_SECONDS = 10.0
_POSITION = "select pg_current_wal_insert_lsn(), setting from pg_settings where name = 'wal_segment_size'"
_ROOM_BYTES = 2 * SEGMENT_BYTES
"""Wanted before pg_receivewal is started, which makes a whole segment first."""
_PAGE_HEADER_BYTES = 64
"""A segment that nothing was written to yet has its first page's header, no more."""


class Receiver:
    """All of it belongs to one thread."""

    def __init__(self, settings: Settings, state: Path, name: str, clock: Callable[[], datetime]) -> None:
        kept = kept_logs(settings)[name]
        assert isinstance(kept.source, PostgresSource)
        self._name, self._source, self._clock, self._state = name, kept.source, clock, state
        self._status = WalStatus.resumed(status_path(state, name), clock())
        self._refusal = ""
        self._lanes = [self._lane(settings, state, name) for name in kept.repositories]
        self._asked_at = 0.0
        self._position = 0
        self._follower: Follower | None = None
        self._newest: Segment | None = None

    def _lane(self, settings: Settings, state: Path, name: str) -> Lane:
        repository, daemon = settings.repositories[name], settings.daemon
        return Lane(
            name, self._name, daemon.host,
            lambda: open_repository(repository, clock=self._clock, zone=daemon.zone, may_create=True),
            spool_of(state, self._name, name, self._source.wal_spool_limit),
        )  # fmt: skip

    # ---- files

    def take(self, name: str, content: memoryview, at: datetime) -> str:
        """Take one file in; gives the answer for whoever sent it, beginning with ``ok`` when it is durable."""
        if not is_wal_name(name):
            return f"{name!r} is no name of a WAL file"
        first, *others = self._lanes
        try:
            stored = first.offer(name, content, at)
            for lane in others:
                lane.spool.put(name, content, at)
        except (Refused, ValueError) as error:
            self._refusal = f"{name}: {error}"
            return str(error)
        except (StorageFull, OSError) as error:
            self._refusal = str(error)
            return str(error)
        self._refusal = ""
        self._note(name, at, stored=stored)
        return "ok" if stored else f"ok, spooled: {first.problem}"

    def take_file(self, path: Path) -> str:
        """Take in a file by its path. Raises OSError when it cannot be read."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            content, at = _read(descriptor)
        finally:
            os.close(descriptor)
        return self.take(path.name, content, at)

    def _note(self, name: str, at: datetime, *, stored: bool) -> None:
        segment = parse_segment(name.removesuffix(PARTIAL))
        changes: dict[str, object] = {}
        if segment is not None:
            last = self._newest
            if last is not None and segment.timeline > last.timeline:
                log.warning("timeline switched", extra={"job": self._name, "to": segment.timeline})
                changes |= {"switched_at": at}
            elif last is not None and segment.number > last.number + 1:
                missing = f"{segment_name(last._replace(number=last.number + 1))} and on, before {name}"
                log.error("log has a gap", extra={"job": self._name, "missing": missing})
                changes |= {"gap": missing, "gap_at": at}
            self._newest = max(last, segment) if last else segment
            changes |= {"timeline": self._newest.timeline}
        covered = self._status.covered_until
        if stored and segment is not None and (covered is None or at > covered):
            changes |= {"covered_until": at}
        self._status = self._status.but(last_file=name, files=self._status.files + 1, **changes)

    def _follow(self) -> None:
        follower = self._follower
        if follower is None:
            return
        for name, path, at in follower.arrived():
            answer = self.take(name, memoryview(path.read_bytes()), at)
            self._mind_the_disk()
            if not answer.startswith("ok"):
                follower.rest("")  # or it would fill the disk; what it does not get, its slot makes the server keep
                return
        follower.tidy()
        if not self._mind_the_disk(_ROOM_BYTES):
            follower.look_after()

    def _mind_the_disk(self, room: int = 0) -> bool:
        """Have pg_receivewal rest where there is less room on the disk; gives whether it has to. A server that has
        much to catch up with sends it quicker than it is stored.
        """
        if self._follower is None or self._lanes[0].spool.room >= room:
            return False
        self._follower.rest(f"could not receive WAL: the disk of {self._state} is nearly full; {MEANWHILE}")
        return True

    # ---- in between

    def look_around(self) -> None:
        """What is to be done now and then: bring over what waits, let locks go, say how things stand."""
        self._follow()
        for lane in self._lanes:
            lane.drain(at_once=False)
            lane.rest()
        first = self._lanes[0]
        if self._newest is None and first.log is not None and first.log.newest is not None:
            self._newest = first.log.newest
        if time.monotonic() - self._asked_at > _ASK_EVERY_SECONDS:
            self._asked_at = time.monotonic()
            self._ask_the_server()
        problems = [self._refusal, *(lane.problem for lane in self._lanes)]
        if self._follower:
            problems.append(self._follower.problem)
        self._status = self._status.but(
            updated_at=self._clock(), problem="; ".join(filter(None, problems)),
            spooled_files=sum(map(len, (lane.spool for lane in self._lanes))),
            spooled_bytes=sum(lane.spool.size for lane in self._lanes),
        )  # fmt: skip
        with suppress(OSError):
            self._status.write(status_path(self._state, self._name))

    def _ask_the_server(self) -> None:
        """When the server has written nothing that is not stored, all up to now is covered."""
        from backup.applications.postgres_connection import Server

        if len(self._lanes[0].spool) or self._newest is None:
            return
        asked_at = self._clock()
        try:
            with Server.from_settings(self._source).connect() as connection:
                row = connection.execute(_POSITION).fetchone()
                assert row is not None
                position, size = parse_position(str(row[0])), int(str(row[1]))
        except Exception as error:  # noqa: BLE001 - a server that is down is somebody else's alarm
            log.debug("server not asked", extra={"job": self._name, "reason": str(error)})
            return
        still = self._follower is not None and position == self._position
        whole = position <= (self._newest.number + 1) * size + _PAGE_HEADER_BYTES
        if still or (self._follower is None and whole):
            self._status = self._status.but(covered_until=asked_at)
        self._position = position

    # ---- the socket

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Listen (or follow) until ``stopped``."""
        status_path(self._state, self._name).parent.mkdir(parents=True, exist_ok=True)
        if self._source.wal == "receive":
            from backup.applications.postgres_connection import Server

            slot = "keepwatch_" + "".join(char if char.isalnum() else "_" for char in self._name.lower())
            folder = self._state / "wal" / self._name / "received"
            self._follower = Follower(Server.from_settings(self._source), slot, folder)
        for lane in self._lanes:
            lane.open_ahead()
        if (held := self._lanes[0].log) is not None:
            self._newest = held.newest
        path = socket_path(self._source, self._state, self._name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o666)  # who may push is asked of the kernel, for each connection
            listener.listen(8)
            log.info("log is awaited", extra={"job": self._name, "socket": str(path)})
            try:
                self._loop(listener, stopped)
            finally:
                path.unlink(missing_ok=True)
                self.close()

    def _loop(self, listener: socket.socket, stopped: Callable[[], bool]) -> None:
        looked_at = 0.0
        while not stopped():
            if select.select([listener], [], [], 0.2)[0]:
                channel, _ = listener.accept()
                with channel, suppress(OSError):
                    channel.settimeout(30)
                    channel.sendall(self._answer(channel).encode())
            self._mind_the_disk()
            if time.monotonic() - looked_at >= _LOOK_EVERY_SECONDS:
                looked_at = time.monotonic()
                self.look_around()

    def _answer(self, channel: socket.socket) -> str:
        """Take the file that a client holds out; the answer is for it to pass on."""
        descriptors: list[int] = []
        try:
            request, descriptors, _, _ = socket.recv_fds(channel, 4096, 4)
            name, job, *_ = [*request.decode("utf-8", "replace").split("\n"), ""]
            if reason := self._why_not(channel):
                log.warning("WAL refused", extra={"job": self._name, "file": name, "reason": reason})
                return f"refused: {reason}\n"
            if job not in ("", self._name):
                return f"this is the receiver of job {self._name}\n"
            if len(descriptors) != 1:
                return "no file was handed over\n"
            content, at = _read(descriptors[0])
            return f"{self.take(name, content, at)}\n"
        except (OSError, ValueError) as error:
            return f"could not read what was handed over: {error}\n"
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _why_not(self, channel: socket.socket) -> str:
        data = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(data)
        allowed = {0, os.geteuid()}
        for name in self._source.wal_users:
            with suppress(KeyError):
                allowed.add(pwd.getpwnam(name).pw_uid)
        return "" if uid in allowed else f"user {uid} is not among wal_users"

    def close(self) -> None:
        """Let go of everything."""
        if self._follower is not None:
            self._follower.close()
            with suppress(BackupError):
                self._follow_to_the_end()
        for lane in self._lanes:
            lane.close()

    def _follow_to_the_end(self) -> None:
        """Store what pg_receivewal has written until it ended."""
        assert self._follower is not None
        for name, path, at in self._follower.arrived():
            self.take(name, memoryview(path.read_bytes()), at)


def socket_path(source: PostgresSource, state: Path, name: str) -> Path:
    """Return where the receiver of a log listens."""
    if source.wal_socket is not None:
        return source.wal_socket
    shared = Path(RUN_DIRECTORY)
    folder = shared if os.access(shared, os.W_OK) else state / "wal"
    return folder / f"wal-{name}.sock"


def _read(descriptor: int) -> tuple[memoryview, datetime]:
    """Read a whole file, and when it was written last; into huge pages, or taking pages costs more than reading."""
    status = os.fstat(descriptor)
    if status.st_size > _LARGEST_BYTES:
        raise ValueError("it is larger than a WAL segment can be")
    content = aligned_memory(max(1, status.st_size), filled=status.st_size)[: status.st_size]
    if os.preadv(descriptor, [content], 0) != status.st_size:
        raise ValueError("it became shorter while it was read")
    return content, datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)


def run(settings: Settings, state: Path, name: str, clock: Callable[[], datetime], gone: Callable[[], bool]) -> None:
    """Serve until SIGTERM, SIGINT, or until ``gone``."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # `restic unlock` asks by it whether we live
    Receiver(settings, state, name, clock).serve(lambda: bool(stop) or gone())
