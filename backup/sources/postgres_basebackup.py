"""A base backup as PostgreSQL's walsender gives it: the replication command BASE_BACKUP over libpq.

Spoken directly rather than through ``pg_basebackup``, which writes clusters with tablespaces only into folders of its
own; here every byte goes from the socket to its piece of a snapshot. The protocol is that of "Streaming Replication
Protocol" in PostgreSQL's manual: since version 15 all archives come in one COPY whose messages begin with a letter,
before it each comes in a COPY of its own. Archives are tar files of the plainest kind. Since 17 a server that is shown
the manifest of an earlier base backup sends only what changed.
"""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg import pq

from backup.applications.postgres_connection import Server
from backup.errors import SourceError

_BLOCK = tarfile.BLOCKSIZE
_DATA, _PROGRESS = b"dp"
_UPLOAD_BYTES = 1 << 20
_HEADER_NAMES = ("utf-8", "surrogateescape")
HINT = "the user needs the attribute REPLICATION, pg_hba.conf a line for `replication`, and max_wal_senders a free one"


class NoIncrementError(SourceError):
    """What changed since an earlier base backup is not to be had; all of it is."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A new archive begins: the cluster's own, or a tablespace's."""

    tablespace: str
    """OID of the tablespace; empty for the cluster."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive; its content must be read before the next is asked for."""

    info: tarfile.TarInfo
    content: Iterator[bytes]
    """In pieces of ``piece_bytes``, but for the last."""


class BaseBackup:
    """One base backup, from its start to its end; a context manager that ends the connection."""

    def __init__(self, server: Server, *, fast: bool, piece_bytes: int, since: bytes = b"") -> None:
        """Connect and ask for it; the checkpoint is done when this returns. Raises SourceError.

        ``since``: the manifest of the base backup whose changes are asked for. Raises NoIncrementError for what the
        server says against that.
        """
        self.start_position = self.stop_position = ""
        self.timeline = 0
        self.tablespaces: dict[str, str] = {}
        """OID -> where it lies on the server."""
        self.manifest = b""
        """The server's own list of all files with checksums, once everything is read."""
        self._piece_bytes = piece_bytes
        self._connection = pq.PGconn.connect(server.string(replication="true").encode())
        try:
            if self._connection.status != pq.ConnStatus.OK:
                raise self._failure("connect for a base backup")
            self.version = self._connection.server_version
            if since:
                self._begin_since(since, fast=fast)
            else:
                self._begin(fast=fast)
        except BaseException:
            self._connection.finish()
            raise

    def __enter__(self) -> "BaseBackup":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.finish()

    def read(self) -> Iterator[Archive | Member]:
        """Give archives and their members as they come; at the end positions and manifest are there.

        Raises SourceError whatever breaks off.
        """
        for tablespace, parts in self._archives():
            yield Archive(tablespace)
            yield from _members(Flow(parts), self._piece_bytes)
        self.stop_position = self._row("end a base backup")[0]
        while (result := self._connection.get_result()) is not None:
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                raise self._failure("end a base backup")

    # ---- the protocol

    def _begin_since(self, manifest: bytes, *, fast: bool) -> None:
        what = "begin an incremental base backup"
        try:
            self._connection.send_query(b"UPLOAD_MANIFEST")
            self._expect(pq.ExecStatus.COPY_IN, what)
            for start in range(0, len(manifest), _UPLOAD_BYTES):
                self._connection.put_copy_data(manifest[start : start + _UPLOAD_BYTES])
            self._connection.put_copy_end()
            while (result := self._connection.get_result()) is not None:
                if result.status != pq.ExecStatus.COMMAND_OK:
                    raise self._failure(what, result)
            self._begin(fast=fast, what=what, more=", INCREMENTAL true")
        except SourceError as error:
            raise NoIncrementError(str(error), hint=error.hint) from None

    def _begin(self, *, fast: bool, what: str = "begin a base backup", more: str = "") -> None:
        if self.version >= 150000:
            options = f"LABEL 'keepwatch', CHECKPOINT '{'fast' if fast else 'spread'}', WAL true, WAIT false"
            command = f"BASE_BACKUP ({options}, TABLESPACE_MAP true, MANIFEST 'yes'{more})"
        else:
            command = f"BASE_BACKUP LABEL 'keepwatch' {'FAST ' if fast else ''}WAL NOWAIT TABLESPACE_MAP MANIFEST 'yes'"
        self._connection.send_query(command.encode())
        self.start_position, timeline = self._row(what)[:2]
        self.timeline = int(timeline)
        result = self._expect(pq.ExecStatus.TUPLES_OK, what)
        for row in range(result.ntuples):
            oid, place = result.get_value(row, 0), result.get_value(row, 1)
            if oid:
                self.tablespaces[oid.decode()] = (place or b"").decode("utf-8", "surrogateescape")
        self._order = [(result.get_value(row, 0) or b"").decode() for row in range(result.ntuples)]

    def _archives(self) -> Iterator[tuple[str, Iterator[memoryview]]]:
        if self.version < 150000:
            for tablespace in self._order:
                self._expect(pq.ExecStatus.COPY_OUT, "read a base backup")
                yield tablespace, self._copy()
            self._expect(pq.ExecStatus.COPY_OUT, "read a base backup's manifest")
            self.manifest = b"".join(self._copy())
            return
        self._expect(pq.ExecStatus.COPY_OUT, "read a base backup")
        messages = self._copy()
        head: bytes | None = next(messages, memoryview(b"")).tobytes()
        while head:
            kind, rest = head[:1], head[1:]
            if kind == b"m":
                self.manifest = b"".join(message[1:] for message in messages)
                return
            if kind != b"n":
                raise SourceError(f"could not read a base backup: the server sent a message {kind!r} out of order")
            name = rest.split(b"\0", 1)[0].decode()
            after: list[bytes] = []
            yield name.removesuffix(".tar") if name != "base.tar" else "", _data(messages, after)
            head = after[0] if after else None

    def _copy(self) -> Iterator[memoryview]:
        """Give the messages of one COPY."""
        connection = self._connection
        while True:
            length, message = connection.get_copy_data(0)
            if length > 0:
                yield message
            elif length == -1:
                return
            else:
                raise self._failure("read a base backup")

    def _row(self, what: str) -> list[str]:
        result = self._expect(pq.ExecStatus.TUPLES_OK, what)
        return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]

    def _expect(self, status: pq.ExecStatus, what: str) -> "pq.abc.PGresult":
        result = self._connection.get_result()
        if result is None or result.status != status:
            raise self._failure(what, result)
        return result

    def _failure(self, what: str, result: "pq.abc.PGresult | None" = None) -> SourceError:
        said = (result.error_message if result is not None else b"") or self._connection.error_message
        words = " ".join(said.decode("utf-8", "replace").split()) or "the server said nothing"
        return SourceError(f"could not {what}: {words}", hint=HINT)


def _data(messages: Iterator[memoryview], after: list[bytes]) -> Iterator[memoryview]:
    """Give the data of one archive; the message that ends it goes into ``after``."""
    for message in messages:
        if message[0] == _DATA:
            yield message[1:]
        elif message[0] != _PROGRESS:
            after.append(message.tobytes())
            return


# ---- tar


def _members(flow: "Flow", piece_bytes: int) -> Iterator[Member]:
    """Give the members of a tar archive. Raises SourceError when it breaks off or is none."""
    while header := flow.take(_BLOCK):
        if not header.strip(b"\0"):
            flow.drain()
            return
        try:
            info = tarfile.TarInfo.frombuf(header, *_HEADER_NAMES)
        except tarfile.TarError as error:
            raise SourceError(f"could not read a base backup: a member has a bad header: {error}") from None
        content = flow.content(info.size, piece_bytes)
        yield Member(info, content)
        for _ in content:  # what nobody wanted
            pass
        flow.take(-info.size % _BLOCK)


class Flow:
    """Parts of any length, read by the exact number of bytes and copied only once, into their piece."""

    def __init__(self, parts: Iterable[memoryview]) -> None:
        self._parts = iter(parts)
        self._part = memoryview(b"")

    def take(self, count: int) -> bytes:
        """Read exactly ``count`` bytes; nothing at the end. Raises SourceError in between."""
        piece = b"".join(self._next(count))
        if piece and len(piece) < count:
            raise SourceError("could not read a base backup: it ends in the middle of a file")
        return piece

    def exactly(self, count: int) -> bytes:
        """Read exactly ``count`` bytes, which must be there. Raises SourceError."""
        piece = self.take(count)
        if count and not piece:
            raise SourceError("could not read a base backup: it ends in the middle of a file")
        return piece

    def content(self, size: int, piece_bytes: int) -> Iterator[bytes]:
        """Give ``size`` bytes in pieces."""
        while size:
            piece = self.exactly(min(size, piece_bytes))
            size -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read to the end."""
        for _ in self._parts:
            pass

    def _next(self, count: int) -> Iterator[memoryview]:
        while count:
            if not self._part:
                part = next(self._parts, None)
                if part is None:
                    return
                self._part = part
            piece = self._part[:count]
            self._part = self._part[len(piece) :]
            count -= len(piece)
            yield piece
