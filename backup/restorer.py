"""Restores a snapshot, or a part of it, into a folder: plan first, then execute.

The plan reads every tree it needs, refuses names that would lead outside the target, and counts; executing it makes
the folders, lets the crew write files in the order in which their blobs lie in packs, then makes the hard links and,
at the very end, gives the folders their own times and modes. What fails is reported by name and does not stop the
rest. Both want the repository's index loaded and, where it can be written to, a lock.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from backup.crew import Crew
from backup.errors import Interrupted, RestoreError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restoring import (
    Portion,
    Target,
    WriteBlobs,
    WriteJob,
    WriteLeaves,
    WritingBench,
    Written,
    apply_metadata,
    plain_length,
    unsafe_name,
)
from backup.snapshot import Snapshot
from backup.sources.base import Problem
from backup.sources.files import Excludes, describe
from backup.tree import Node, as_text, parse_tree

BIG_FILE_BYTES = 64 << 20
"""From here on several workers write one file."""
_JOB_LEAVES = 256
_JOB_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """A folder to be made, and which of its leaves go into it."""

    path: bytes
    """Relative to the target; empty for the target itself."""
    node: Node | None
    """None for the target itself, which keeps its own metadata."""
    tree: bytes
    """Empty for a folder that is only made because something below it is wanted."""
    leaves: tuple[int, ...]
    """Positions in the tree of the leaves that workers write."""
    sizes: tuple[int, ...]
    """Their bytes."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore will do. Print it for a dry run."""

    snapshot: Snapshot
    target: Path
    folders: tuple[FolderPlan, ...] = ()
    """Sorted by path, so that parents come first."""
    big_files: tuple[tuple[bytes, Node], ...] = ()
    links: tuple[tuple[bytes, bytes], ...] = ()
    """Hard links: the path that is written, and the one that is linked to it."""
    files: int = 0
    """Everything that is not a folder."""
    bytes: int = 0
    existing: int = 0
    """How many of these files are there already and will be replaced."""
    refused: tuple[Problem, ...] = ()
    """What the snapshot holds but must not or cannot be written."""

    @property
    def folder_count(self) -> int:
        """Folders below the target."""
        return sum(folder.node is not None for folder in self.folders)

    def __str__(self) -> str:
        there = f", {self.existing} of them replaced" if self.existing else ""
        refused = f"; {len(self.refused)} refused" if self.refused else ""
        return (
            f"snapshot {self.snapshot.short_id} into {self.target}: {self.folder_count} folders,"
            f" {self.files} files{there}, {self.bytes} bytes{refused}"
        )


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """Where a restore is."""

    files: int
    bytes: int
    files_expected: int
    bytes_expected: int


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did. ``problems`` name every file that is not back, or not with all of its metadata."""

    files: int
    folders: int
    bytes: int
    took_seconds: float
    problems: tuple[Problem, ...] = ()


def plan_restore(
    repository: Repository,
    snapshot: Snapshot,
    target: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> RestorePlan:
    """Read the snapshot's trees and say what a restore into ``target`` would do.

    ``include`` and ``exclude`` are gitignore patterns on the snapshot's paths; a folder that is included brings all
    that lies below it. Raises CorruptData when a tree cannot be read, StorageError.
    """
    survey = _Survey(repository, include, exclude)
    survey.walk(snapshot.tree)
    existing = survey.count_existing(target)
    folders = tuple(sorted(survey.folders.values(), key=lambda folder: folder.path.split(b"/")))
    return RestorePlan(
        snapshot, target, folders, tuple(survey.big_files), tuple(survey.links), survey.files, survey.bytes, existing,
        tuple(survey.refused),
    )  # fmt: skip


@dataclass(slots=True)
class _Visit:
    """A folder whose tree is still to be read."""

    path: bytes
    node: Node | None
    chosen: bool
    """Whether everything in it is included."""
    above: "_Visit | None"


class _Survey:
    """Walks trees level by level, so that each pack of trees is read in few and long ranges."""

    def __init__(self, repository: Repository, include: Sequence[str], exclude: Sequence[str]) -> None:
        self.folders: dict[bytes, FolderPlan] = {}
        self.big_files: list[tuple[bytes, Node]] = []
        self.links: list[tuple[bytes, bytes]] = []
        self.refused: list[Problem] = []
        self.files = self.bytes = 0
        self._repository = repository
        self._include = Excludes(include, "/") if include else None
        self._exclude = Excludes(exclude, "/") if exclude else None
        self._first_of: dict[tuple[int, int], bytes] = {}
        self._names: list[tuple[bytes, list[bytes]]] = []

    def walk(self, root: bytes) -> None:
        """Read every tree below."""
        level = {root: [_Visit(b"", None, self._include is None, None)]}
        while level:
            below: dict[bytes, list[_Visit]] = {}
            for name, content in self._repository.load_blobs(BlobKind.TREE, level):
                nodes = parse_tree(content)
                for visit in level[name]:
                    self._visit(visit, name, nodes, below)
            level = below

    def count_existing(self, target: Path) -> int:
        """Count the leaves that are in the target already."""
        try:
            with os.scandir(target) as entries:
                if not any(True for _ in entries):
                    return 0
        except OSError:  # executing the plan will say what is wrong with it, if it is more than that it is not there
            return 0
        top = os.fsencode(target)
        paths = (os.path.join(top, folder, name) for folder, names in self._names for name in names)
        return sum(os.path.lexists(path) for path in paths)

    def _visit(self, visit: _Visit, tree: bytes, nodes: list[Node], below: dict[bytes, list[_Visit]]) -> None:
        seen: set[bytes] = set()
        leaves: list[int] = []
        sizes: list[int] = []
        names: list[bytes] = []
        for position, node in enumerate(nodes):
            path = os.path.join(visit.path, node.name) if visit.path else node.name
            if reason := unsafe_name(node.name, seen):
                self.refused.append(Problem(f"{as_text(visit.path)}/{as_text(node.name)!r}", reason))
                continue
            seen.add(node.name)
            chosen = self._chooses(path, node, visit)
            if chosen is None:
                continue
            if node.type == "dir":
                self._descend(_Visit(path, node, chosen, visit), below)
            elif chosen:
                names.append(node.name)
                self._leaf(path, position, node, leaves, sizes)
        if visit.chosen or names:
            self._make(visit)
            self.folders[visit.path] = FolderPlan(visit.path, visit.node, tree, tuple(leaves), tuple(sizes))
            self._names.append((visit.path, names))

    def _chooses(self, path: bytes, node: Node, visit: _Visit) -> bool | None:
        """Whether a node is wanted; None for one that is excluded with all below it."""
        if self._include is None and self._exclude is None:
            return True
        text, is_folder = "/" + as_text(path), node.type == "dir"
        if self._exclude and self._exclude.match(text, is_folder=is_folder):
            return None
        return visit.chosen or (self._include is not None and self._include.match(text, is_folder=is_folder))

    def _descend(self, visit: _Visit, below: dict[bytes, list[_Visit]]) -> None:
        if visit.node is not None and visit.node.subtree is not None:
            below.setdefault(visit.node.subtree, []).append(visit)
        else:
            self.refused.append(Problem(as_text(visit.path), "the snapshot has no tree for this folder"))

    def _make(self, visit: _Visit) -> None:
        """Enter the folders above into the plan when something below them is wanted."""
        above = visit.above
        while above is not None and above.path not in self.folders:
            self.folders[above.path] = FolderPlan(above.path, above.node, b"", (), ())
            above = above.above

    def _leaf(self, path: bytes, position: int, node: Node, leaves: list[int], sizes: list[int]) -> None:
        if node.type in ("socket", "irregular"):
            self.refused.append(Problem(as_text(path), f"it is of type {node.type}, which cannot be restored"))
            return
        self.files += 1
        if node.links > 1 and node.inode:
            first = self._first_of.setdefault((node.inode, node.device_id), path)
            if first != path:
                self.links.append((first, path))
                return
        self.bytes += node.size
        if node.size >= BIG_FILE_BYTES and node.type == "file":
            self.big_files.append((path, node))
            return
        leaves.append(position)
        sizes.append(node.size)


def execute_restore(
    plan: RestorePlan,
    repository: Repository,
    *,
    progress: Callable[[RestoreProgress], None] | None = None,
    workers: int | None = None,
    stop: Callable[[], bool] | None = None,
    sparse: bool = True,
) -> RestoreReport:
    """Do what the plan says; existing files are replaced, other files in the target are left alone.

    Raises RestoreError when the target cannot be made or written to at all, Interrupted when ``stop`` turned true.
    """
    started = time.monotonic()
    try:
        plan.target.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = Target(os.fspath(plan.target))
    except OSError as error:
        raise RestoreError(f"could not restore into {plan.target}: {describe(error)}") from error

    def make_bench() -> WritingBench:
        return WritingBench(repository, os.fspath(plan.target), sparse=sparse)

    with closing(target), closing(Crew[WriteJob](make_bench, workers)) as crew:
        execution = _Execution(plan, repository, target, crew, progress, stop)
        execution.make_folders()
        execution.write()
        execution.link()
        execution.finish_folders()
    return RestoreReport(
        execution.files, execution.folders, execution.written_bytes, time.monotonic() - started,
        tuple(sorted((*plan.refused, *execution.problems), key=lambda problem: problem.path)),
    )  # fmt: skip


@dataclass(slots=True)
class _BigFile:
    """A file whose parts are under way."""

    path: bytes
    node: Node
    parts: int = 1
    failed: bool = False


class _Execution:
    """The state of one restore."""

    def __init__(
        self,
        plan: RestorePlan,
        repository: Repository,
        target: Target,
        crew: Crew[WriteJob],
        progress: Callable[[RestoreProgress], None] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.files = self.folders = self.written_bytes = 0
        self.problems: list[Problem] = []
        self._plan = plan
        self._repository = repository
        self._target = target
        self._crew = crew
        self._progress = progress
        self._stop = stop
        self._lost: set[bytes] = set()

    def make_folders(self) -> None:
        for folder in self._plan.folders:
            if folder.node is None:
                continue
            try:
                self._target.make_folder(folder.path)
            except OSError as error:
                self._fail(folder.path, describe(error))
                self._lost.add(folder.path)

    def write(self) -> None:
        """Hand out the files by rising path, which is how the archiver packed them."""
        portions: list[Portion] = []
        leaves = size = 0
        for folder in self._plan.folders:
            if not folder.leaves or folder.path in self._lost:
                continue
            start = 0
            for end, length in enumerate(folder.sizes, 1):
                leaves, size = leaves + 1, size + length
                if leaves >= _JOB_LEAVES or size >= _JOB_BYTES:
                    portions.append(Portion(folder.path, folder.tree, folder.leaves[start:end]))
                    self._submit(WriteLeaves(tuple(portions)), None)
                    portions, start, leaves, size = [], end, 0, 0
            if start < len(folder.leaves):
                portions.append(Portion(folder.path, folder.tree, folder.leaves[start:]))
        if portions:
            self._submit(WriteLeaves(tuple(portions)), None)
        for path, node in self._plan.big_files:
            self._write_big(path, node)
        while self._crew.busy:
            self._collect(block=True)

    def link(self) -> None:
        for first, other in self._plan.links:
            try:
                self._target.link(first, other)
                self.files += 1
            except OSError as error:
                self._fail(other, f"it could not be linked to {as_text(first)}: {describe(error)}")

    def finish_folders(self) -> None:
        """Deepest first, since writing into a folder changes its time, and its mode may forbid it."""
        for folder in reversed(self._plan.folders):
            if folder.node is None or folder.path in self._lost:
                continue
            try:
                if problem := self._target.finish_folder(folder.path, folder.node):
                    self._fail(folder.path, problem)
                self.folders += 1
            except OSError as error:
                self._fail(folder.path, describe(error))

    def _write_big(self, path: bytes, node: Node) -> None:
        big = _BigFile(path, node)
        try:
            folder, name = os.path.split(path)
            os.close(self._target.create(folder, name))
        except OSError as error:
            self._fail(path, describe(error))
            return
        part: list[tuple[int, bytes]] = []
        offset = start = 0
        for name in node.content or ():
            location = self._repository.index.lookup(BlobKind.DATA, name)
            part.append((offset, name))
            offset += plain_length(location.length, location.uncompressed_length) if location else 0
            if offset - start >= _JOB_BYTES:
                self._submit_part(big, part)
                part, start = [], offset
        if offset != node.size:
            big.failed = True
            self._fail(path, f"its blobs hold {offset} bytes, and its metadata say {node.size}")
        if part:
            self._submit_part(big, part)
        self._finish_big(big)

    def _submit_part(self, big: _BigFile, part: Iterable[tuple[int, bytes]]) -> None:
        big.parts += 1
        self._submit(WriteBlobs(big.path, tuple(part)), big)

    def _finish_big(self, big: _BigFile) -> None:
        big.parts -= 1
        if big.parts:
            return
        if big.failed:
            folder, name = os.path.split(big.path)
            self._target.remove(folder, name)
            return
        try:
            descriptor = self._target.reopen(big.path)
            try:
                os.ftruncate(descriptor, big.node.size)
                if problem := apply_metadata(descriptor, big.node):
                    self._fail(big.path, problem)
            finally:
                os.close(descriptor)
            self.files += 1
        except OSError as error:
            self._fail(big.path, describe(error))

    def _submit(self, job: WriteJob, token: _BigFile | None) -> None:
        if self._stop is not None and self._stop():
            raise Interrupted("the restore was stopped; what is in the target is not complete")
        self._crew.submit(job, token)
        self._collect(block=False)

    def _collect(self, *, block: bool) -> None:
        for token, written in self._crew.results(block=block):
            if isinstance(written, Written):
                self.files += written.leaves
                self.written_bytes += written.bytes
                self.problems += written.problems
                if isinstance(token, _BigFile):
                    token.failed = token.failed or bool(written.problems)
                    self._finish_big(token)
        if self._progress is not None:
            self._progress(RestoreProgress(self.files, self.written_bytes, self._plan.files, self._plan.bytes))

    def _fail(self, path: bytes, reason: str) -> None:
        self.problems.append(Problem(as_text(path), reason))
