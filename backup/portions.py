"""Reads the regular files of a folder: what the parent snapshot has already, and what has to be read.

A file is *unchanged* when its encoded metadata (size, mtime, ctime, inode and all the rest) are, byte for byte, what
the parent snapshot has; an incremental run takes its blobs over after asking the index for each. All this happens where
the content is read, so that the processes share the looking as well as the reading, and only encoded nodes travel; of a
folder that holds nothing but files, only the tree's id. Where blobs go, and whether a process is a worker, is none of
its business.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

from backup.chunker import MIN_BYTES, Chunker
from backup.errors import CorruptData, FileMissing
from backup.fingerprints import fingerprint
from backup.pack import BlobKind, blob_id
from backup.sources.base import Admission, Problem, Xattrs
from backup.sources.files import describe, open_path, read_xattrs
from backup.tree import (
    FileConstants,
    content_of,
    encode_file_head,
    encode_head,
    encode_name,
    encode_owner,
    encode_rest,
    encode_tree,
    file_constants,
    go_mode,
    parse_node,
    raw_bytes,
    split_tree,
)

READ_ATTEMPTS = 3
"""How often a file that changes while it is read is read, before the last result is taken and marked."""
BIG_FILE_BYTES = 64 << 20
"""From here on the chunks of one file go to several workers."""
_JOB_BYTES = 32 << 20
"""Having read this much, a job gives the rest of its files back: a run must be able to stop, and to share."""

_UNSAVED_BYTES = 128 << 10
"""Small files are saved together when they hold this much: what is fast at many of them stays in the caches."""

Content = bytes | memoryview
IsKnown = Callable[[BlobKind, bytes], bool]
"""Whether a blob is in the repository."""


class Moment(NamedTuple):
    """What tells that a file has not changed between two looks."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Moment":
        """Take it from a stat."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True, slots=True)
class Portion:
    """Regular files of one folder."""

    path: str
    names: tuple[str, ...]
    old_tree: bytes | None
    """The folder's tree in the parent snapshot."""
    whole: bool
    """Whether the folder holds nothing else, so that its tree can be made with them."""


@dataclass(slots=True)
class PortionRead:
    """What became of a portion."""

    nodes: dict[bytes, str] = field(default_factory=dict)
    """Encoded nodes by raw name; empty when the tree was made."""
    tree: bytes | None = None
    """The folder's tree, stored or known, when the portion was all of it."""
    rest: tuple[str, ...] = ()
    """Files not looked at, since the job has read enough."""
    big: list[str] = field(default_factory=list)
    """Files that are better shared among workers."""
    fingerprint: bytes = b""
    """Of the files that the tree was made of, when all of them are in it as they are."""
    old_tree_lost: bool = False
    new: int = 0
    changed: int = 0
    unmodified: int = 0
    bytes: int = 0
    rereads: int = 0
    left_out: int = 0
    problems: list[Problem] = field(default_factory=list)


class FileRead(NamedTuple):
    """What became of one file."""

    node: str | None
    """The encoded node; None when the file could not be read."""
    size: int
    problem: str
    """Why it is missing or not as one moment saw it; empty when all is well."""
    rereads: int


class _Reading(NamedTuple):
    """What reading a file gave."""

    status: os.stat_result | None
    """As it was before it was read; None when the file could not be read."""
    size: int = 0
    ids: Sequence[bytes] = ()
    unsaved: bytes = b""
    """All of a small file, which no blob has yet."""
    xattrs: Xattrs = ()
    problem: str = ""
    """Why it is missing or not as one moment saw it; empty when all is well."""
    rereads: int = 0
    big: bool = False
    """Whether nothing was read, since the file is better shared among workers."""


class _Unsaved(NamedTuple):
    """A small file that waits for others to be saved together."""

    name: bytes
    json_name: str
    file: _Reading
    old_node: str | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What reading has to know of the run. Made before the fork."""

    is_known: IsKnown
    load_tree: Callable[[bytes], bytes]
    """Reads a tree of the parent snapshot. Raises CorruptData, FileMissing."""
    fingerprint_of: Callable[[bytes], bytes | None]
    """What the files looked like that a tree of the parent snapshot was made of, where it is known."""
    admission: Admission
    trusts_parent: bool
    chunker_polynomial: int


class PortionReader:
    """Reads portions in one process. ``save`` takes contents, best of many small files at once, and gives their ids;
    ``save_tree`` takes a tree and its id.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        save: Callable[[Sequence[Content]], Sequence[bytes]],
        save_tree: Callable[[bytes, bytes], None],
    ) -> None:
        self._around = surroundings
        self._save = save
        self._save_tree = save_tree
        self._chunker = Chunker(surroundings.chunker_polynomial)

    def read(self, portions: Sequence[Portion]) -> list[PortionRead]:
        """Read them in turn, until enough has been read for one job. Raises BackupError of the repository."""
        budget, done = _JOB_BYTES, []
        for portion in portions:
            read = PortionRead()
            if budget <= 0:
                read.rest = portion.names
            else:
                budget -= self._read_portion(portion, read, budget)
            done.append(read)
        return done

    def _read_portion(self, portion: Portion, read: PortionRead, budget: int) -> int:
        """Do one portion; gives the bytes of content that were read."""
        try:
            # to look up names in it takes no right to list it
            folder = open_path(portion.path, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            for name in portion.names:
                self._missed(portion.path, name, error, read)
            return 0
        statuses: dict[str, os.stat_result] = {}
        try:
            if self._is_unchanged(portion, folder, statuses, read):
                return 0
            spent = self._read_names(portion, folder, statuses, read, budget)
        finally:
            os.close(folder)
        if portion.whole and not read.rest and not read.big:
            # names came in the order of their raw bytes, which is a tree's
            tree = encode_tree(read.nodes.values())
            read.tree = blob_id(tree)
            if read.old_tree_lost or not self._around.is_known(BlobKind.TREE, read.tree):
                self._save_tree(read.tree, tree)
            if len(read.nodes) == len(portion.names) and not read.problems:
                read.fingerprint = fingerprint(portion.names, map(statuses.__getitem__, portion.names), _owner)
            read.nodes = {}
        return spent

    def _is_unchanged(
        self, portion: Portion, folder: int, statuses: dict[str, os.stat_result], read: PortionRead
    ) -> bool:
        """Whether all files are as the folder's old tree has them, which is taken over then.

        Otherwise the looks that were taken are in ``statuses``.
        """
        if not (portion.whole and portion.old_tree and self._around.trusts_parent):
            return False
        known = self._around.fingerprint_of(portion.old_tree)
        if known is None:
            return False
        takes = self._around.admission.takes
        try:
            for name in portion.names:
                statuses[name] = status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not takes(name, folder, status):
                    return False
        except OSError:
            return False  # which is told when the file is looked at again
        if fingerprint(portion.names, statuses.values(), _owner) != known:
            return False
        read.tree, read.fingerprint = portion.old_tree, known
        read.unmodified = len(portion.names)
        read.bytes = sum([status.st_size for status in statuses.values()])
        return True

    def _read_names(
        self, portion: Portion, folder: int, statuses: dict[str, os.stat_result], read: PortionRead, budget: int
    ) -> int:
        """Do the files one by one; gives the bytes of content that were read, and enters how each file looked."""
        old = self._old_nodes(portion.old_tree, read)
        takes, trusts, nodes, spent = self._around.admission.takes, self._around.trusts_parent, read.nodes, 0
        unsaved: list[_Unsaved] = []
        waiting = 0
        for number, name in enumerate(portion.names):
            json_name = encode_name(name)
            old_node = old.get(json_name)
            try:
                if trusts and old_node is not None:
                    status = statuses.get(name) or os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if not takes(name, folder, status):
                        continue
                    statuses[name] = status
                    kept = self._unchanged(json_name, status, old_node)
                    if kept is not None:
                        read.unmodified += 1
                        read.bytes += status.st_size
                        nodes[raw_bytes(name)] = kept
                        continue
                if spent >= budget:
                    read.rest = portion.names[number:]
                    break
                file = self._read_file(name, folder)
            except OSError as error:
                self._missed(portion.path, name, error, read)
                continue
            if file is None:
                continue
            if file.big:
                read.big.append(name)
                continue
            spent += file.size
            read.rereads += file.rereads
            if file.problem:
                read.problems.append(Problem(os.path.join(portion.path, name), file.problem))
            if file.status is None:
                continue
            statuses[name] = file.status
            read.bytes += file.size
            raw = raw_bytes(name)
            nodes[raw] = ""  # keeps its place
            unsaved.append(_Unsaved(raw, json_name, file, old_node))
            waiting += len(file.unsaved)
            if waiting >= _UNSAVED_BYTES:
                self._save_all(unsaved, read)
                waiting = 0
        self._save_all(unsaved, read)
        return spent

    def _save_all(self, unsaved: list[_Unsaved], read: PortionRead) -> None:
        """Save what waits, and enter the nodes."""
        contents = [waiting.file.unsaved for waiting in unsaved if waiting.file.unsaved]
        names = iter(self._save(contents) if contents else ())
        for raw, json_name, file, old_node in unsaved:
            assert file.status is not None
            ids = (next(names),) if file.unsaved else file.ids
            node = read.nodes[raw] = encode_file(json_name, file.status, file.size, ids, file.xattrs)
            if old_node is None:
                read.new += 1
            elif old_node == node:
                read.unmodified += 1
            else:
                read.changed += 1
        unsaved.clear()

    def _old_nodes(self, tree: bytes | None, read: PortionRead) -> dict[str, str]:
        if tree is None:
            return {}
        try:
            return split_tree(self._around.load_tree(tree))
        except (CorruptData, FileMissing):
            read.old_tree_lost = True
            return {}  # all below counts as new and is read: the run mends what the parent lost

    def _missed(self, path: str, name: str, error: OSError, read: PortionRead) -> None:
        if self._around.admission.forgives(error):
            read.left_out += 1
        else:
            read.problems.append(Problem(os.path.join(path, name), describe(error)))

    def _unchanged(self, json_name: str, status: os.stat_result, old_node: str) -> str | None:
        """Give the node to take over when the file is as the parent snapshot has it, and its blobs are still there."""
        constants = _constants(status.st_mode, status.st_uid, status.st_gid, status.st_dev, status.st_nlink)
        head = encode_file_head(json_name, status, status.st_size, constants)
        if not old_node.startswith(head):
            # another program's time zone, or a file system mounted under another device number
            old = parse_node(old_node)
            was = (old.type, old.size, old.mtime_ns, old.ctime_ns, old.inode)
            if was != ("file", status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino):
                return None
            old_node = head + encode_rest(content=old.content, xattrs=old.xattrs)
        is_known = self._around.is_known
        for name in content_of(old_node):
            if not is_known(BlobKind.DATA, name):
                return None
        return old_node

    def _read_file(self, name: str, folder: int) -> _Reading | None:
        """Read a file, unless it is a big one; None for one that is left out. Raises OSError."""
        rereads = 0
        while True:
            # opened before it is looked at: a look by name is a tenth of what a small file costs
            descriptor = open_to_read(name, folder)
            try:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    return _Reading(None, problem="it is no regular file any more", rereads=rereads)
                if not self._around.admission.takes(name, folder, before):
                    return None
                if before.st_size >= BIG_FILE_BYTES:
                    return _Reading(before, big=True)
                size, ids, unsaved = self._read_content(descriptor, before.st_size)
                xattrs = read_xattrs(descriptor)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            unchanged = Moment.of(before) == Moment.of(after) and size == after.st_size
            if unchanged or rereads == READ_ATTEMPTS - 1:
                problem = "" if unchanged else "it changed while it was read"
                return _Reading(before, size, ids, unsaved, xattrs, problem, rereads)
            rereads += 1

    def _read_content(self, descriptor: int, expected: int) -> tuple[int, Sequence[bytes], bytes]:
        """Give the size, and the ids of what was saved or, of a small file, the content."""
        if expected < MIN_BYTES:
            content = os.read(descriptor, max(expected, 4096) + 1)
            # a file that grew behind these bytes is told by its second stat; some, as in /proc, claim to be empty
            if len(content) == expected:
                return expected, (), content
            if not content:
                return 0, (), b""
            os.lseek(descriptor, 0, os.SEEK_SET)
        ids: list[bytes] = []
        size = 0
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            for chunk in self._chunker.chunks(file.readinto):
                ids += self._save([chunk])
                size += len(chunk)
        return size, ids, b""


def open_to_read(path: str, folder: int | None = None) -> int:
    """Open a file without following a link, waiting for a FIFO's writer, or, where we may, touching its atime.

    ``path`` is absolute, or a name in the open ``folder``. Raises OSError.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for more in (getattr(os, "O_NOATIME", 0), 0):
        try:
            return open_path(path, flags | more) if folder is None else os.open(path, flags | more, dir_fd=folder)
        except PermissionError:
            if not more:
                raise
    raise AssertionError("the last attempt returns or raises")


def encode_file(json_name: str, status: os.stat_result, size: int, ids: Sequence[bytes], xattrs: Xattrs) -> str:
    """Encode the node of a regular file; ``size`` is what was read."""
    constants = _constants(status.st_mode, status.st_uid, status.st_gid, status.st_dev, status.st_nlink)
    return encode_file_head(json_name, status, size, constants) + encode_rest(content=ids, xattrs=xattrs)


def encode_status(json_name: str, kind: str, status: os.stat_result, size: int = 0) -> str:
    """Encode the head of a node from what the system says of an entry."""
    return encode_head(
        json_name,
        kind,
        go_mode(status.st_mode),
        status.st_mtime_ns,
        status.st_ctime_ns,
        _owner(status.st_uid, status.st_gid),
        status.st_ino,
        status.st_dev,
        size,
        status.st_nlink,
    )


@lru_cache(maxsize=10_000)
def _constants(mode: int, uid: int, gid: int, device: int, links: int) -> FileConstants:
    return file_constants(mode, _owner(uid, gid), device, links)


@cache
def _owner(uid: int, gid: int) -> str:
    return encode_owner(uid, gid, _name_of_user(uid), _name_of_group(gid))


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
