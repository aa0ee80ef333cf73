"""Restores a snapshot, or a part of it, into a folder, as planned in `backup.restore_plan`.

First what is to be removed goes, then the folders are made, the crew writes files in the order in which their blobs lie
in packs, then come the hard links and, at the very end, the folders' own times and modes. A file's times are set when
it is complete, so a restore that was interrupted goes on where it was when it is run again. What fails is reported by
name and does not stop the rest. It wants the repository's index loaded and, where it can be written to, a lock.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from backup.crew import Crew
from backup.errors import Interrupted, RestoreError
from backup.overwriting import Overwrite, Verdict, judge
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.restoring import (
    Portion,
    WriteBlobs,
    WriteJob,
    WriteLeaves,
    WritingBench,
    Written,
    fit,
    plain_length,
)
from backup.sources.base import Problem
from backup.sources.files import describe
from backup.target import Target, apply_metadata
from backup.tree import Node, as_text

_JOB_LEAVES = 256
_JOB_BYTES = 16 << 20
_PART_BYTES = 64 << 20
"""Of a big file written by one job; more than a pack holds, unless it is compressed far."""


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
    """Written."""
    took_seconds: float
    unchanged: int = 0
    """Of the files, those whose content was there already."""
    left_alone: int = 0
    """Of the files, those that the rule forbids to touch."""
    removed: int = 0
    """What the snapshot lacks; a folder counts once."""
    problems: tuple[Problem, ...] = ()


def execute_restore(
    plan: RestorePlan,
    repository: Repository,
    *,
    progress: Callable[[RestoreProgress], None] | None = None,
    workers: int | None = None,
    stop: Callable[[], bool] | None = None,
    sparse: bool = True,
    read_next: bool = False,
) -> RestoreReport:
    """Do what the plan says. With ``sparse``, long runs of zeros in files that are made anew become holes.

    Big files go around the system's cache, unless the caller says that all will be read next.

    Raises RestoreError when the target cannot be made or written to at all, Interrupted when ``stop`` turned true.
    """
    started = time.monotonic()
    try:
        plan.target.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = Target(os.fspath(plan.target))
    except OSError as error:
        raise RestoreError(f"could not restore into {plan.target}: {describe(error)}") from error

    rule = rule_of(plan)

    def make_bench() -> WritingBench:
        return WritingBench(repository, os.fspath(plan.target), sparse=sparse, overwrite=rule, read_next=read_next)

    with closing(target), closing(Crew[WriteJob](make_bench, workers)) as crew:
        execution = _Execution(plan, repository, target, crew, progress, stop)
        execution.remove()
        execution.make_folders()
        execution.write()
        execution.link()
        execution.finish_folders()
    return RestoreReport(
        execution.files, execution.folders, execution.written_bytes, time.monotonic() - started,
        execution.unchanged, execution.left_alone, execution.removed,
        tuple(sorted((*plan.refused, *execution.problems), key=lambda problem: problem.path)),
    )  # fmt: skip


def rule_of(plan: RestorePlan) -> Overwrite | None:
    """Give the rule for what is there; None when nothing is and nothing that comes meanwhile needs protection."""
    if not plan.existing and plan.overwrite in (Overwrite.ALWAYS, Overwrite.IF_CHANGED):
        return None
    return plan.overwrite


@dataclass(slots=True)
class _BigFile:
    """A file whose parts are under way."""

    path: bytes
    node: Node
    parts: int = 1
    failed: bool = False
    reused: bool = False
    touched: bool = False


@dataclass(slots=True)
class _Part:
    """What of a big file lies in one pack: a pack is read once, wherever its blobs belong."""

    blobs: list[tuple[int, bytes]] = field(default_factory=list)
    bytes: int = 0


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
        self.files = self.folders = self.written_bytes = self.unchanged = self.left_alone = self.removed = 0
        self.problems: list[Problem] = []
        self._plan = plan
        self._repository = repository
        self._target = target
        self._crew = crew
        self._progress = progress
        self._stop = stop
        self._lost: set[bytes] = set()
        self._kept: set[bytes] = set()
        self._rule = rule_of(plan)

    def remove(self) -> None:
        for path in self._plan.removals:
            try:
                self._target.remove_tree(path)
                self.removed += 1
            except OSError as error:
                self._fail(path, f"it could not be removed: {describe(error)}")

    def make_folders(self) -> None:
        for folder in self._plan.folders:
            if folder.node is None:
                continue
            try:
                if not self._target.make_folder(folder.path) and self._plan.overwrite is Overwrite.NEVER:
                    self._kept.add(folder.path)
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
                if folder.path not in self._kept and (
                    problem := self._target.finish_folder(folder.path, folder.node)
                ):
                    self._fail(folder.path, problem)
                self.folders += 1
            except OSError as error:
                self._fail(folder.path, describe(error))

    def _write_big(self, path: bytes, node: Node) -> None:
        big = _BigFile(path, node)
        try:
            verdict = self._begin_big(big)
        except OSError as error:
            self._fail(path, describe(error))
            return
        if verdict is Verdict.LEAVE:
            self.files += 1
            self.left_alone += 1
            return
        if verdict is Verdict.TRUST:
            self._finish_big(big)
            return
        parts: dict[str, _Part] = {}
        offset = 0
        for name in node.content or ():
            pack, length = self._place(name)
            part = parts.setdefault(pack, _Part())
            part.blobs.append((offset, name))
            part.bytes += length
            offset += length
            if part.bytes >= _PART_BYTES:
                self._submit_part(big, parts.pop(pack).blobs)
        if offset != node.size:
            big.failed = True
            self._fail(path, f"its blobs hold {offset} bytes, and its metadata say {node.size}")
        for part in parts.values():
            self._submit_part(big, part.blobs)
        self._finish_big(big)

    def _place(self, name: bytes) -> tuple[str, int]:
        """Say in which pack a blob is, and how long it is; no pack has one that is missing."""
        location = self._repository.index.lookup(BlobKind.DATA, name)
        if location is None:
            return "", 0
        return location.pack, plain_length(location.length, location.uncompressed_length)

    def _begin_big(self, big: _BigFile) -> Verdict:
        """Open or make the file; what cannot be opened as it is is made anew. Raises OSError."""
        folder, name = os.path.split(big.path)
        verdict = Verdict.CREATE
        if self._rule is not None:
            verdict = judge(self._rule, big.node, self._target.status(folder, name))
        if verdict in (Verdict.COMPARE, Verdict.TRUST):
            try:
                os.close(self._target.open_there(folder, name, to_write=True))
                big.reused = True
            except OSError:
                verdict = Verdict.CREATE
        if verdict is Verdict.CREATE:
            os.close(self._target.create(folder, name))
        return verdict

    def _submit_part(self, big: _BigFile, part: Iterable[tuple[int, bytes]]) -> None:
        big.parts += 1
        self._submit(WriteBlobs(big.path, tuple(part), compare=big.reused), big)

    def _finish_big(self, big: _BigFile) -> None:
        big.parts -= 1
        if big.parts:
            return
        if big.failed:
            if big.touched or not big.reused:
                folder, name = os.path.split(big.path)
                self._target.remove(folder, name)
            return
        try:
            descriptor = self._target.reopen(big.path)
            try:
                if big.reused:
                    fit(descriptor, big.node)
                else:
                    os.ftruncate(descriptor, big.node.size)
                if problem := apply_metadata(descriptor, big.node):
                    self._fail(big.path, problem)
            finally:
                os.close(descriptor)
            self.files += 1
            self.unchanged += big.reused and not big.touched
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
                self.unchanged += written.unchanged
                self.left_alone += written.left_alone
                if isinstance(token, _BigFile):
                    token.touched = token.touched or written.bytes > 0
                    token.failed = token.failed or bool(written.problems)
                    self._finish_big(token)
        if self._progress is not None:
            self._progress(RestoreProgress(self.files, self.written_bytes, self._plan.files, self._plan.bytes))

    def _fail(self, path: bytes, reason: str) -> None:
        self.problems.append(Problem(as_text(path), reason))
