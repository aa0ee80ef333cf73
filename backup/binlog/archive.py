"""Keeps a copy of a server's binlog in a repository, a few seconds behind: what is new in its files is stored at once.

Everything lies in one snapshot, which each new one replaces: ``/JOB.binlog`` with the files as the server has them, up
to their last whole event; its time says up to when. Only new pieces are stored. It is no backup of its job: it carries
``binlog-of:JOB`` and no ``job:JOB``. Files that ended before the job's oldest backup began are left out of the next
snapshot. For a member of a group JOB is ``JOB:MEMBER``.

What is read may be the server's own files, or copies on their way here: how long each is at the server, the listing
says. A file that is shorter there than what is stored, or a log whose newest file is older, has begun anew.
"""

import logging
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from backup.binlog.events import MAGIC, BinlogName, as_closed, binlogs_in, whole_events
from backup.errors import CorruptData, SourceError
from backup.pack import BlobKind, blob_id
from backup.portions import encode_file
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.streams import made_up
from backup.tree import Node, as_text, encode_name
from backup.wal.keeping import remove
from backup.wal.names import job_of_log
from backup.wal.writing import WalWriter, folder_of, tag_of
from backup.walking import load_tree, locate

log = logging.getLogger(__name__)

KIND = "binlog"
PIECE_BYTES = 256 << 10
PASS_BYTES = 64 << 20
"""Of one file at once, so that memory is bounded."""
_BEGUN = "begun:"
_NO_NAME = BinlogName("", 0, "")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _BegunAnew(Exception):  # noqa: N818 - says what is the case
    """A file is not the one that was archived under its name."""


@dataclass(slots=True)
class ArchivedFile:
    """One file of the log, as far as it is stored."""

    name: str
    size: int = 0
    ids: list[bytes] = field(default_factory=list)
    at: datetime = _LONG_AGO
    """When it was last written to."""


class _Look(NamedTuple):
    """What is new in a file."""

    data: bytes
    """From the beginning of its last stored piece on; empty when nothing is."""
    whole: bool
    """Whether everything that the server had is in it, but for half an event: that was committed by nobody."""


def newest_log(repository: Repository, job: str, since: datetime | None = None) -> Snapshot | None:
    """Find the snapshot that holds a job's binlog; with ``since`` that of the server which wrote it at that moment.

    A server that is made anew, or whose log is reset, begins another log: the old one stays beside it.
    """
    found = [snapshot for snapshot in repository.snapshots() if tag_of(job, KIND) in snapshot.tags]
    if since is not None:
        later = [snapshot for snapshot in found if snapshot.time >= since]
        found = [snapshot for snapshot in found if later and begun_at(snapshot) == begun_at(later[0])]
    return found[-1] if found else None


def begun_at(snapshot: Snapshot) -> str:
    """Tell logs of one job apart: by when their archiving began."""
    return next((tag for tag in snapshot.tags if tag.startswith(_BEGUN)), "")


def files_of(repository: Repository, job: str, snapshot: Snapshot) -> list[Node]:
    """Read the nodes of the files in it, with the index as it is now where the loaded one is older."""
    try:
        return _nodes(repository, job, snapshot)
    except CorruptData:  # stored since the index was loaded
        repository.load_index()
        return _nodes(repository, job, snapshot)


def _nodes(repository: Repository, job: str, snapshot: Snapshot) -> list[Node]:
    tree = locate(repository, snapshot, f"/{folder_of(job, KIND)}").tree
    return load_tree(repository, tree) if tree else []


class BinlogArchive:
    """The binlog of one job in one repository."""

    def __init__(self, repository: Repository, job: str, host: str, clock: Callable[[], datetime]) -> None:
        """Find what is there already. Raises StorageError, CorruptData."""
        self._repository = repository
        self._job = job
        self._clock = clock
        self._writer = WalWriter(repository, job, host, kind=KIND)
        self._newest = newest_log(repository, job)
        self.files: dict[str, ArchivedFile] = {}
        if self._newest is not None:
            for node in files_of(repository, job, self._newest):
                name, at = as_text(node.name), datetime.fromtimestamp(node.mtime_ns // 10**9, UTC)
                self.files[name] = ArchivedFile(name, node.size, list(node.content or ()), at)

    def close(self) -> None:
        """End the threads that seal."""
        self._writer.close()

    @property
    def newest_file(self) -> str:
        """The last file that is stored, whole or not; empty when none is."""
        return max((name for text in self.files if (name := BinlogName.parse(text))), default=_NO_NAME).text

    def take(
        self, folder: Path, listing: Mapping[str, int], *, asked_at: datetime | None = None,
        lock_wait: timedelta = timedelta(minutes=5),
    ) -> int:  # fmt: skip
        """Store what is new in the binlog files of ``folder``; gives how many bytes, durable when this returns.

        ``listing``: name and size of each file that the server had when it was ``asked_at``, by default now. Raises
        SourceError when the folder cannot be read, RepositoryLocked, StorageError.
        """
        at = asked_at or self._clock()
        try:
            return self._take(folder, listing, at, lock_wait)
        except _BegunAnew as anew:
            log.warning("binlog begun anew", extra={"job": self._job, "file": str(anew)})
            self._newest, self.files = None, {}
            return self._take(folder, listing, at, lock_wait)

    def _take(self, folder: Path, listing: Mapping[str, int], asked_at: datetime, lock_wait: timedelta) -> int:
        names = sorted(name for text in listing if (name := BinlogName.parse(text)))
        stored = sorted(name for text in self.files if (name := BinlogName.parse(text)))
        if names and stored and names[-1] < stored[-1]:
            raise _BegunAnew(names[-1].text)
        try:
            wanted = [name.text for name in names if not stored or name >= stored[0]]
            looks = {name: self._look_into(folder / name, listing[name]) for name in wanted}
        except OSError as error:
            raise _unreadable(folder, error) from None
        new = {name: found.data for name, found in looks.items() if found.data}
        if not new:
            return 0
        with self._repository.lock(retry_for=lock_wait):
            return self._store(folder, new, asked_at if all(found.whole for found in looks.values()) else None)

    def _look_into(self, path: Path, listed: int) -> "_Look":
        """Read what is new in a file that is ``listed`` with that size."""
        kept = self.files.get(path.name, ArchivedFile(path.name))
        if listed < kept.size:
            raise _BegunAnew(path.name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # on its way, or purged this moment
            return _Look(b"", whole=listed <= kept.size)
        if size <= kept.size:
            return _Look(b"", whole=listed <= kept.size)
        start = kept.size - kept.size % PIECE_BYTES
        with path.open("rb") as content:
            content.seek(start)
            data = content.read(min(size - start, PASS_BYTES))
        if start == 0:
            data = as_closed(data)  # a file that the server has gone on from is still the same file
        if start < kept.size and blob_id(data[: kept.size - start]) != kept.ids[-1]:
            raise _BegunAnew(path.name)
        whole = start + len(data) >= listed
        if start == 0 and not data.startswith(MAGIC):
            return _Look(b"", whole=whole)
        end = whole_events(data, max(kept.size, len(MAGIC)) - start)
        return _Look(data[:end] if end > kept.size - start else b"", whole=whole)

    def _store(self, folder: Path, new: dict[str, bytes], covers: datetime | None) -> int:
        """``covers``: all that was committed by then is in ``new`` or stored; None while some of it is on its way."""
        cuts = {
            name: [memoryview(data)[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
            for name, data in new.items()
        }
        stored, listings = self._writer.store_pieces([piece for cut in cuts.values() for piece in cut])
        taken, ids = 0, iter(stored)
        files = self._needed()
        for name, cut in cuts.items():
            kept = files.get(name, ArchivedFile(name))
            whole = kept.size // PIECE_BYTES
            size = whole * PIECE_BYTES + len(new[name])
            taken += size - kept.size
            at = datetime.fromtimestamp((folder / name).stat().st_mtime, UTC)
            files[name] = ArchivedFile(name, size, [*kept.ids[:whole], *islice(ids, len(cut))], at)
        at = covers or (self._newest.time if self._newest else min(file.at for file in files.values()))
        begun = begun_at(self._newest) if self._newest else f"{_BEGUN}{self._clock():%Y%m%dT%H%M%S.%f}"
        snapshot_id = self._writer.commit([(file.name, _node(file)) for file in files.values()], at, listings, (begun,))
        if self._newest is not None:
            remove(self._repository, [self._newest])
        self._newest, self.files = self._repository.load_snapshot(snapshot_id), files
        log.debug("binlog archived", extra={"job": self._job, "bytes": taken})
        return taken

    def _needed(self) -> dict[str, ArchivedFile]:
        """Give the files that some backup of the job may still need, as far as they are stored."""
        bases = [shot.time for shot in self._repository.snapshots() if f"job:{job_of_log(self._job)}" in shot.tags]
        oldest = min(bases, default=None)
        return {name: file for name, file in self.files.items() if oldest is None or file.at >= oldest}


def listing_of(folder: Path, base: str) -> dict[str, int]:
    """Say how long each binlog file in the server's own folder is. Raises SourceError."""
    try:
        return {path.name: path.stat().st_size for path in binlogs_in(folder, base)}
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: OSError) -> SourceError:
    return SourceError(
        f"could not read the binlog in {folder}: {(error.strerror or str(error)).lower()}",
        hint="may this user read that folder? `binlog_folder` names another",
    )


def _node(file: ArchivedFile) -> str:
    return encode_file(encode_name(file.name), made_up(stat.S_IFREG | 0o600, file.at), file.size, file.ids, ())


def fetch(repository: Repository, nodes: list[Node], folder: Path) -> list[Path]:
    """Write files of a log into a folder, proven by their hashes. Raises CorruptData, StorageError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    paths = []
    for node in nodes:
        path = folder / as_text(node.name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in node.content or ():
                file.write(repository.load_blob(BlobKind.DATA, piece))
        paths.append(path)
    return paths
