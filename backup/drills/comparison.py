"""Compares restored files with the snapshot they came from, and with the live source: the judge of a drill.

It reads back what the restore wrote, through none of the restore's code: every byte is hashed again and held against
the blob ids, every metadata field against the node, every folder's list of names against the tree. A live file counts
only when size, mtime and ctime still are what the snapshot has; one that changed since is not a mismatch.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from backup.crew import Crew
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.restoring import plain_length
from backup.sources.base import Problem
from backup.sources.files import describe, open_path
from backup.tree import TYPE_OF_FORMAT, Node, as_text, parse_tree

_COMPARE_FOLDERS = 32
_COMPARE_BYTES = 32 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_ROOT_ONLY = ("security.", "trusted.", "system.")


class Task(NamedTuple):
    """One folder to compare."""

    path: bytes
    """Relative to the target."""
    tree: bytes
    drawn: frozenset[int] | None = None
    """Of a sample: positions in the tree that were restored; None for all."""
    big: frozenset[bytes] = frozenset()
    """Names of files whose content is compared in jobs of their own; of a sample, these were restored, too."""


@dataclass(frozen=True, slots=True)
class CompareFolders:
    """Job: compare these folders. Result: :class:`Compared`."""

    folders: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class ComparePart:
    """Job: compare a part of a big file's content. Result: :class:`Compared`, without counting the file."""

    path: bytes
    offset: int
    size: int
    blobs: tuple[bytes, ...]
    is_last: bool = False
    """Whether the file has to end there."""


CompareJob = CompareFolders | ComparePart


@dataclass(slots=True)
class Compared:
    """What a comparison saw."""

    entries: int = 0
    bytes: int = 0
    live_same: int = 0
    """Live files that are unchanged since the snapshot and have the same bytes."""
    live_changed: int = 0
    live_gone: int = 0
    mismatches: list[Problem] = field(default_factory=list)
    unjudged: list[Problem] = field(default_factory=list)
    """Restored files that this user may not read back."""
    live_unreadable: list[Problem] = field(default_factory=list)
    """Live files that could not be compared; they say nothing about the backup."""

    def add(self, other: "Compared") -> None:
        """Sum up."""
        self.entries += other.entries
        self.bytes += other.bytes
        self.live_same += other.live_same
        self.live_changed += other.live_changed
        self.live_gone += other.live_gone
        self.mismatches += other.mismatches
        self.unjudged += other.unjudged
        self.live_unreadable += other.live_unreadable


class ComparingBench:
    """Compares in one process: ``target`` with ``repository``, and below ``live_paths`` with the live source."""

    def __init__(self, repository: Repository, target: str, live_paths: Sequence[str]) -> None:
        self._repository = repository
        self._target = target
        self._live_paths = tuple(path.rstrip("/") + "/" for path in live_paths)

    def expect(self, job: CompareJob) -> None:
        """What a folder needs is known when its tree is read."""

    def do(self, job: CompareJob) -> Compared:
        """Do one job; differences are in the result."""
        compared = Compared()
        if isinstance(job, ComparePart):
            self._compare_part(job, compared)
        else:
            for task in job.folders:
                self._compare_folder(task, compared)
        return compared

    def finish(self) -> None:
        """Nothing is left open."""

    def report(self) -> None:
        """Results say it all."""

    def close(self) -> None:
        """Nothing is left open."""

    def _compare_folder(self, task: Task, compared: Compared) -> None:
        path, tree, drawn, big = task
        folder = os.path.join(self._target, as_text(path))
        nodes = parse_tree(self._repository.load_blob(BlobKind.TREE, tree))
        try:
            descriptor = open_path(folder, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError as error:
            compared.unjudged.append(Problem(as_text(path), describe(error)))
            return
        except OSError as error:
            compared.mismatches.append(Problem(as_text(path), f"it is not there: {describe(error)}"))
            return
        try:
            if drawn is not None:
                nodes = [node for place, node in enumerate(nodes) if place in drawn or node.name in big]
            extra = {os.fsencode(name) for name in os.listdir(descriptor)} - {node.name for node in nodes}
            if drawn is not None:
                extra.clear()  # of a sample, folders that hold others of it are there too
            for name in sorted(extra):
                compared.mismatches.append(_problem(path, name, "it is there and the snapshot does not have it"))
            for node in nodes:
                self._compare_node(descriptor, path, node, compared, content=node.name not in big)
        finally:
            os.close(descriptor)

    def _compare_part(self, part: ComparePart, compared: Compared) -> None:
        try:
            descriptor = open_path(os.path.join(self._target, as_text(part.path)), _READ)
        except PermissionError as error:
            compared.unjudged.append(Problem(as_text(part.path), describe(error)))
            return
        except OSError as error:
            compared.mismatches.append(Problem(as_text(part.path), f"it cannot be read back: {describe(error)}"))
            return
        try:
            differences = list(self._content_difference(descriptor, part.blobs, part.offset, is_last=part.is_last))
            compared.mismatches += [Problem(as_text(part.path), difference) for difference in differences]
            compared.bytes += part.size
        except OSError as error:
            compared.mismatches.append(Problem(as_text(part.path), f"it cannot be read back: {describe(error)}"))
        finally:
            os.close(descriptor)

    def _compare_node(self, folder: int, path: bytes, node: Node, compared: Compared, *, content: bool) -> None:
        compared.entries += 1
        try:
            differences = list(metadata_differences(folder, node))
            if node.type == "file" and content and not differences:
                descriptor = os.open(node.name, _READ | os.O_CLOEXEC, dir_fd=folder)
                try:
                    differences += self._content_difference(descriptor, node.content or ())
                finally:
                    os.close(descriptor)
                compared.bytes += node.size
        except PermissionError as error:  # a mode that shuts its owner out, and we are not root
            compared.unjudged.append(_problem(path, node.name, describe(error)))
            return
        except OSError as error:
            differences = [f"it cannot be read back: {describe(error)}"]
        if differences:
            compared.mismatches.append(_problem(path, node.name, "; ".join(differences)))
        elif node.type == "file":
            self._compare_live(path, node, compared)

    def _compare_live(self, path: bytes, node: Node, compared: Compared) -> None:
        live = "/" + as_text(os.path.join(path, node.name))
        if not (live + "/").startswith(self._live_paths):
            return
        try:
            descriptor = open_path(live, _READ)
        except FileNotFoundError:
            compared.live_gone += 1
            return
        except OSError as error:
            compared.live_unreadable.append(Problem(live, describe(error)))
            return
        try:
            if not _is_as_saved(os.fstat(descriptor), node):
                compared.live_changed += 1
                return
            differences = list(self._content_difference(descriptor, node.content or ()))
            if not _is_as_saved(os.fstat(descriptor), node):
                compared.live_changed += 1
            elif differences:
                reason = "the live file has the same size and times as the snapshot, and other bytes"
                compared.mismatches.append(Problem(live, f"{reason}: {differences[0]}"))
            else:
                compared.live_same += 1
        except OSError as error:
            compared.live_unreadable.append(Problem(live, describe(error)))
        finally:
            os.close(descriptor)

    def _content_difference(
        self, descriptor: int, blobs: Sequence[bytes], offset: int = 0, *, is_last: bool = True
    ) -> Iterator[str]:
        """Say where the bytes of an open file, from ``offset`` on, first differ from what the blob ids promise."""
        for name in blobs:
            location = self._repository.index.lookup(BlobKind.DATA, name)
            if location is None:
                yield f"blob {name.hex()[:8]} is in no pack that an index names"
                return
            length = plain_length(location.length, location.uncompressed_length)
            if hashlib.sha256(_read(descriptor, length, offset)).digest() != name:
                where = f"bytes {offset} to {offset + length}"
                yield f"{where} are not blob {name.hex()[:8]} of pack {location.pack[:8]}"
                return
            offset += length
        if is_last and offset != os.fstat(descriptor).st_size:
            yield f"it has {os.fstat(descriptor).st_size} bytes, and its blobs {offset}"


def compare_restored(
    repository: Repository,
    plan: RestorePlan,
    live_paths: Sequence[str],
    *,
    sampled: bool,
    workers: int | None,
    breathe: Callable[[Compared], None],
) -> Compared:
    """Compare all that a plan restored. ``sampled`` says that folders hold more in the snapshot than was restored.

    ``breathe`` is shown the sums now and then, and may raise to stop. Raises BackupError for what cannot be read of
    the repository.
    """

    def make_bench() -> ComparingBench:
        return ComparingBench(repository, os.fspath(plan.target), live_paths)

    def collect(*, block: bool) -> None:
        for _, result in crew.results(block=block):
            if isinstance(result, Compared):
                total.add(result)
        breathe(total)

    total = Compared()
    with closing(Crew[CompareJob](make_bench, workers)) as crew:
        for job in _jobs(repository, plan, sampled=sampled):
            crew.submit(job, None)
            collect(block=False)
        while crew.busy:
            collect(block=True)
    total.mismatches = _one_of_each(total.mismatches)
    total.unjudged = _one_of_each(total.unjudged)
    for first, other in plan.links:
        status, linked = (os.lstat(os.path.join(os.fsencode(plan.target), path)) for path in (first, other))
        if (status.st_ino, status.st_dev) != (linked.st_ino, linked.st_dev):
            total.mismatches.append(Problem(os.fsdecode(other), f"it is no hard link to {os.fsdecode(first)}"))
    return total


def _one_of_each(problems: list[Problem]) -> list[Problem]:
    """Give one problem of each file: what was told first, by its folder's job if that found any."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    return list(first.values())


def _jobs(repository: Repository, plan: RestorePlan, *, sampled: bool) -> Iterator[CompareJob]:
    big: dict[bytes, set[bytes]] = {}
    for path, _ in plan.big_files:
        above, _, name = path.rpartition(b"/")
        big.setdefault(above, set()).add(name)
    batch: list[Task] = []
    size = 0
    for folder in plan.folders:
        drawn = frozenset(folder.leaves) if sampled else None
        if sampled and not (drawn or folder.path in big):
            continue
        batch.append(Task(folder.path, folder.tree, drawn, frozenset(big.get(folder.path, ()))))
        size += sum(folder.sizes)
        if len(batch) >= _COMPARE_FOLDERS or size >= _COMPARE_BYTES:
            yield CompareFolders(tuple(batch))
            batch, size = [], 0
    if batch:
        yield CompareFolders(tuple(batch))
    for path, node in plan.big_files:
        yield from _parts(repository, path, node)


def _parts(repository: Repository, path: bytes, node: Node) -> Iterator[ComparePart]:
    """Divide a file, so that several processes read it."""
    begin = offset = 0
    blobs: list[bytes] = []
    for name in node.content or ():
        blobs.append(name)
        location = repository.index.lookup(BlobKind.DATA, name)
        offset += plain_length(location.length, location.uncompressed_length) if location else 0
        if offset - begin >= _COMPARE_BYTES:
            yield ComparePart(path, begin, offset - begin, tuple(blobs))
            begin, blobs = offset, []
    yield ComparePart(path, begin, offset - begin, tuple(blobs), is_last=True)


def metadata_differences(folder: int, node: Node) -> Iterator[str]:
    """Say in which fields an entry of an open folder differs from its node. Raises OSError."""
    try:
        status = os.stat(node.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        yield "it is not there"
        return
    kind = TYPE_OF_FORMAT[stat.S_IFMT(status.st_mode)]
    if kind != node.type:
        yield f"it is a {kind}, and the snapshot has a {node.type}"
        return
    if kind != "symlink" and stat.S_IMODE(status.st_mode) != node.permissions:
        yield f"its mode is {stat.S_IMODE(status.st_mode):04o} instead of {node.permissions:04o}"
    if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (node.uid, node.gid):
        yield f"its owner is {status.st_uid}:{status.st_gid} instead of {node.uid}:{node.gid}"
    if status.st_mtime_ns != node.mtime_ns:
        yield f"its modification time is off by {(status.st_mtime_ns - node.mtime_ns) / 1e9:.9f} s"
    if kind == "file" and status.st_size != node.size:
        yield f"its size is {status.st_size} instead of {node.size}"
    if kind in ("dev", "chardev") and status.st_rdev != node.device:
        yield f"its device number is {status.st_rdev:#x} instead of {node.device:#x}"
    if kind == "symlink" and os.fsencode(os.readlink(node.name, dir_fd=folder)) != node.linktarget:
        yield f"it does not point to {as_text(node.linktarget)}"
    yield from _xattr_differences(f"/proc/self/fd/{folder}/{as_text(node.name)}", node)


def _xattr_differences(path: str, node: Node) -> Iterator[str]:
    """Attributes of the security modules may be added by this machine's policy; all others must be the same."""
    try:
        found = {name: os.getxattr(path, name, follow_symlinks=False) for name in _xattr_names(path)}
    except OSError as error:
        yield f"its attributes cannot be read back: {describe(error)}"
        return
    wanted = dict(node.xattrs)
    if os.geteuid() != 0:
        found = {name: value for name, value in found.items() if not name.startswith(_ROOT_ONLY)}
        wanted = {name: value for name, value in wanted.items() if not name.startswith(_ROOT_ONLY)}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name) and (name in wanted or not name.startswith("security.")):
            yield f"its attribute {name} differs"


def _xattr_names(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []  # a file system without attributes; those wanted will be missed by name


def _is_as_saved(status: os.stat_result, node: Node) -> bool:
    now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return stat.S_ISREG(status.st_mode) and now == (node.size, node.mtime_ns, node.ctime_ns)


def _read(descriptor: int, length: int, offset: int) -> bytes:
    parts = []
    while length and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _problem(folder: bytes, name: bytes, reason: str) -> Problem:
    return Problem(as_text(os.path.join(folder, name)), reason)
