"""Writes what a snapshot holds to a stream: one file as it is, or a folder as a tar archive.

The archive is POSIX.1-2001's ("pax"), with extended attributes as ``SCHILY.xattr.`` records, which GNU tar, bsdtar and
restic read and write. Hard links become links, names are kept as bytes. What tar cannot hold, or a tree must not hold,
is left out and said. Every blob is proven before any byte of it is written; when one cannot be read the stream ends
without the archive's end mark, so that no reader takes it for whole.
"""

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final, cast

from backup.errors import CorruptData, SnapshotMissing
from backup.pack import BlobKind
from backup.reader import missing_blob
from backup.repository import Repository
from backup.restoring import plain_length, unsafe_name
from backup.sources.base import Problem
from backup.tree import Node, as_text
from backup.walking import Place, load_tree

_AHEAD_BYTES: Final = 16 << 20
"""Blobs are read in groups of about this size, since neighbours in a file are neighbours in a pack."""
_NS: Final = 10**9
_TAR_TYPES: Final = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "dev": tarfile.BLKTYPE,
    "chardev": tarfile.CHRTYPE,
    "fifo": tarfile.FIFOTYPE,
}
_SPARE_MODES: Final = 0o7777

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class DumpReport:
    """What was written, and what was left out and why."""

    entries: int
    bytes: int
    """Content of files."""
    problems: tuple[Problem, ...] = ()


def dump_file(repository: Repository, place: Place, write: Write) -> DumpReport:
    """Write one file's content, blob by blob. The index must be loaded.

    Raises SnapshotMissing when it is no file; CorruptData when a blob is missing or damaged, or when the blobs together
    are not as long as the file was; StorageError; and whatever ``write`` raises.
    """
    total = 0
    for content in read_file(repository, place):
        write(content)
        total += len(content)
    return DumpReport(1, total)


def read_file(repository: Repository, place: Place) -> Iterator[bytes]:
    """Give one file's content, blob by blob. Raises as `dump_file` does, before the first when it can be told then."""
    node = place.node
    if node is None or node.type != "file":
        raise SnapshotMissing(f"could not dump {as_text(place.path) or '/'}: it is no file")
    _require_whole(repository, place.path, node)
    return _contents(repository, node)


def dump_folder(repository: Repository, place: Place, output: IO[bytes]) -> DumpReport:
    """Write a folder and all below as a tar archive. The index must be loaded; ``output`` need not be seekable.

    Paths in the archive are the snapshot's without the slash in front. Raises SnapshotMissing when it is no folder,
    CorruptData, StorageError, and whatever ``output`` raises.
    """
    if place.tree is None:
        raise SnapshotMissing(f"could not dump {as_text(place.path)} as an archive: it is no folder")
    with tarfile.open(
        mode="w|", fileobj=output, format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        archive = _Archive(repository, tar)
        if place.node is not None:
            archive.add(place.path[1:], place.node)
        archive.add_below(place.path[1:], place.tree)
    return DumpReport(archive.entries, archive.bytes, tuple(archive.problems))


class _Archive:
    def __init__(self, repository: Repository, tar: tarfile.TarFile) -> None:
        self.entries = self.bytes = 0
        self.problems: list[Problem] = []
        self._repository = repository
        self._tar = tar
        self._first_of: dict[tuple[int, int], bytes] = {}

    def add_below(self, path: bytes, tree: bytes) -> None:
        """Write all entries below a folder, parents first."""
        waiting = [(path, node) for node in reversed(self._plain(path, load_tree(self._repository, tree)))]
        while waiting:  # a loop, since trees may be deeper than Python's stack
            folder, node = waiting.pop()
            here = os.path.join(folder, node.name)
            self.add(here, node)
            if node.subtree is not None:
                nodes = self._plain(here, load_tree(self._repository, node.subtree))
                waiting += [(here, child) for child in reversed(nodes)]

    def add(self, path: bytes, node: Node) -> None:
        """Write one entry."""
        if node.type not in _TAR_TYPES:
            self.problems.append(Problem(as_text(path), f"tar has no entries of type {node.type}"))
            return
        info = self._describe(path, node)
        if info.type == tarfile.REGTYPE:
            _require_whole(self._repository, path, node)
            content = cast("IO[bytes]", _BlobFile(_contents(self._repository, node)))
            self._tar.addfile(info, content)
            self.bytes += node.size
        else:
            self._tar.addfile(info)
        self.entries += 1

    def _plain(self, path: bytes, nodes: Sequence[Node]) -> list[Node]:
        seen: set[bytes] = set()
        kept = []
        for node in nodes:
            if reason := unsafe_name(node.name, seen):
                self.problems.append(Problem(f"{as_text(path)}/{as_text(node.name)!r}", reason))
                continue
            seen.add(node.name)
            kept.append(node)
        return kept

    def _describe(self, path: bytes, node: Node) -> tarfile.TarInfo:
        info = tarfile.TarInfo(as_text(path))
        info.type = _TAR_TYPES[node.type]
        info.mode = node.permissions & _SPARE_MODES
        info.uid, info.gid, info.uname, info.gname = node.uid, node.gid, node.user, node.group
        info.mtime = max(node.mtime_ns, 0) // _NS
        info.pax_headers = _records(node)
        if node.type == "file":
            info.size = node.size
        elif node.type == "symlink":
            info.linkname = as_text(node.linktarget)
        elif node.type in ("dev", "chardev"):
            info.devmajor, info.devminor = os.major(node.device), os.minor(node.device)
        if node.links > 1 and node.inode and node.type != "dir":
            first = self._first_of.setdefault((node.inode, node.device_id), path)
            if first != path:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, as_text(first), 0
        return info


def _records(node: Node) -> dict[str, str]:
    """Give the extended header: times finer than a second or before 1970, and extended attributes.

    Values that are no UTF-8 pass through as surrogates; tarfile then marks the header as binary, as POSIX has it.
    """
    records = {}
    if node.mtime_ns < 0 or node.mtime_ns % _NS:
        records["mtime"] = _seconds(node.mtime_ns)
    for name, value in node.xattrs:
        records[f"SCHILY.xattr.{name}"] = as_text(value)
    return records


def _seconds(ns: int) -> str:
    whole, fraction = divmod(abs(ns), _NS)
    sign = "-" if ns < 0 else ""
    return f"{sign}{whole}.{fraction:09d}".rstrip("0").rstrip(".")


def _require_whole(repository: Repository, path: bytes, node: Node) -> None:
    """Raise CorruptData unless the blobs of a file are known and as long as the file."""
    total = 0
    for name in node.content or ():
        location = repository.index.lookup(BlobKind.DATA, name)
        if location is None:
            raise CorruptData(f"could not dump {as_text(path)}: {missing_blob(name)}", name=name.hex())
        total += plain_length(location.length, location.uncompressed_length)
    if total != node.size:
        raise CorruptData(
            f"could not dump {as_text(path)}: its blobs hold {total} bytes, and its metadata say {node.size}",
            name=as_text(path),
        )


def _contents(repository: Repository, node: Node) -> Iterator[bytes]:
    """Give a file's blobs in their order. Raises CorruptData, StorageError."""
    group: list[bytes] = []
    size = 0
    for name in node.content or ():
        location = repository.index.lookup(BlobKind.DATA, name)
        group.append(name)
        size += plain_length(location.length, location.uncompressed_length) if location else 0
        if size >= _AHEAD_BYTES:
            yield from _in_order(repository, group)
            group, size = [], 0
    yield from _in_order(repository, group)


def _in_order(repository: Repository, names: Sequence[bytes]) -> Iterator[bytes]:
    """Give each as soon as it has come; most lie in packs as they do in the file."""
    coming = repository.load_blobs(BlobKind.DATA, dict.fromkeys(names))
    here: dict[bytes, bytes] = {}
    for name in names:
        while name not in here:
            found, here[found] = next(coming)
        yield here[name]


class _BlobFile:
    """As much of a file object as tarfile reads from."""

    def __init__(self, contents: Iterator[bytes]) -> None:
        self._contents = contents
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Give ``size`` bytes, fewer only at the end."""
        parts = []
        while size:
            if not self._rest:
                content = next(self._contents, None)
                if content is None:
                    break
                self._rest = memoryview(content)
            part, self._rest = self._rest[:size], self._rest[size:]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
