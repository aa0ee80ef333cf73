"""Copies snapshots from one repository to another: plan first, then execute.

Blobs are opened, proven and sealed anew under the other repository's key; they are not cut again, so what both hold
already is not copied. The order is packs, index, snapshot, as everywhere: a copy that dies leaves nothing but blobs
that the next one finds. A copy is known by ``original``, the id that a snapshot had first, as in restic (``restic
copy``), so the two programs recognise each other's copies. Whatever the source cannot give whole is not copied: its
snapshot is named as a problem and the others go on.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from backup.errors import BackupError, CorruptData, Interrupted
from backup.pack import TARGET_BYTES, BlobKind
from backup.reachable import mark_reachable
from backup.reader import reads
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.base import Problem
from backup.storage.reading_ahead import Read, announced

log = logging.getLogger(__name__)

_COMMIT_BYTES: Final = 4 * TARGET_BYTES
"""Snapshots are committed once this much is stored for them: a flush for each would leave many small packs."""
_TAKEN: Final = 2
"""Mark of a blob that is in the other repository, or on its way there."""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What a copy will do. Print it for a dry run."""

    snapshots: tuple[Snapshot, ...]
    """To be copied, oldest first."""
    already: tuple[Snapshot, ...]
    """There already."""
    blobs: int
    """Missing in the other repository."""
    bytes: int
    """Their plaintext."""
    stored_bytes: int
    """As the source stores them."""
    problems: tuple[Problem, ...] = ()
    """Snapshots that cannot be copied, and why."""

    def __str__(self) -> str:
        unable = f"; {len(self.problems)} cannot be copied" if self.problems else ""
        return (
            f"{len(self.snapshots)} snapshots to copy, {len(self.already)} there already:"
            f" {self.blobs} blobs, {self.bytes} bytes, about {self.stored_bytes} stored{unable}"
        )


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """Where a copy is. Sizes are of plaintext."""

    snapshots: int
    bytes: int
    snapshots_expected: int
    bytes_expected: int


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did."""

    copied: tuple[tuple[str, str], ...]
    """Each snapshot's id in the source, and in the other repository."""
    already: int
    blobs: int
    bytes: int
    stored_bytes: int
    """Sealed bytes added."""
    problems: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        return (
            f"{len(self.copied)} snapshots copied, {self.already} were there already:"
            f" {self.blobs} blobs, {self.bytes} bytes, {self.stored_bytes} stored"
        )


def plan_copy(source: Repository, target: Repository, snapshots: Sequence[Snapshot]) -> CopyPlan:
    """Say what copying these snapshots of ``source`` would do. Both indexes must be loaded.

    Raises BackupError when both are the same place, CorruptData when a snapshot of ``target`` cannot be read,
    StorageError.
    """
    if source.storage.properties.location == target.storage.properties.location:
        raise BackupError(f"refused to copy {source.storage.properties.location} to itself", hint="name another one")
    known = _Copies(target.snapshots())
    wanted, already = [], []
    for snapshot in sorted(snapshots, key=lambda item: (item.time, item.id)):
        if known.has(snapshot):
            already.append(snapshot)
        else:
            known.add(replace(snapshot, original=snapshot.original or snapshot.id))
            wanted.append(snapshot)
    survey = _Missing(source, target)
    able, problems = [], []
    blobs = plain = stored = 0
    for snapshot in wanted:
        try:
            records = survey.mark(snapshot)
        except CorruptData as error:
            problems.append(_problem(snapshot, error))
            continue
        able.append(snapshot)
        for record in records:
            entry = source.index.entry(record)
            blobs, plain, stored = blobs + 1, plain + entry.plain_length, stored + entry.length
        survey.settle()
    return CopyPlan(tuple(able), tuple(already), blobs, plain, stored, tuple(problems))


def execute_copy(
    plan: CopyPlan,
    source: Repository,
    target: Repository,
    *,
    progress: Callable[[CopyProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> CopyReport:
    """Do what the plan says. ``target`` must be locked and its index loaded after that; ``source`` had better be.

    Raises RepositoryLocked, StorageError, and Interrupted when ``stop`` turned true; what was copied until then stays
    and is not copied again.
    """
    target.require_lock()
    execution = _Execution(plan, source, target, progress, stop)
    for snapshot in plan.snapshots:
        execution.copy(snapshot)
    execution.commit()
    return CopyReport(
        tuple(execution.copied), len(plan.already), execution.blobs, execution.plain_bytes, execution.stored_bytes,
        (*plan.problems, *execution.problems),
    )  # fmt: skip


class _Copies:
    """The snapshots of a repository by the ids that they had first, to recognise copies as restic does."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._by_origin: dict[str, list[Snapshot]] = {}
        for snapshot in snapshots:
            self.add(snapshot)

    def add(self, snapshot: Snapshot) -> None:
        for origin in {snapshot.id, snapshot.original} - {None, ""}:
            self._by_origin.setdefault(str(origin), []).append(snapshot)

    def has(self, snapshot: Snapshot) -> bool:
        candidates = self._by_origin.get(snapshot.original or snapshot.id, ())
        return any(_is_alike(candidate, snapshot) for candidate in candidates)


def _is_alike(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots of one origin are the same still: a changed tag makes another one worth copying."""
    return _essence(one) == _essence(other)


def _essence(snapshot: Snapshot) -> tuple[object, ...]:
    return (
        snapshot.time, snapshot.tree, snapshot.hostname, snapshot.username, snapshot.uid, snapshot.gid,
        sorted(snapshot.paths), snapshot.excludes, sorted(snapshot.tags),
    )  # fmt: skip


class _Missing:
    """Which blobs of the source the target lacks, snapshot by snapshot: a byte for each record of the source's index.

    1 stands for what the snapshot at hand needs first, `_TAKEN` for what is done with.
    """

    def __init__(self, source: Repository, target: Repository) -> None:
        self._source = source
        self._target = target
        self._marks = bytearray(len(source.index))

    def mark(self, snapshot: Snapshot) -> Iterator[int]:
        """Give the records of blobs that a snapshot needs, in addition to those before it, and the target lacks.

        Every tree is read, though the target may have it: only what a snapshot there refers to is complete there.
        Raises CorruptData, with nothing marked, when the source lacks a blob or cannot read a tree.
        """
        try:
            mark_reachable(self._source, [snapshot.tree], marks=self._marks)
        except CorruptData:
            self.forget()
            raise
        return self._records()

    def _records(self) -> Iterator[int]:
        index, known = self._source.index, self._target.index
        position = self._marks.find(1)
        while position >= 0:
            entry = index.entry(position)
            if not known.contains(entry.kind, entry.id):
                yield position
            position = self._marks.find(1, position + 1)

    def settle(self) -> None:
        """Count what is marked as taken."""
        self._marks = self._marks.replace(b"\1", bytes((_TAKEN,)))

    def forget(self) -> None:
        """Take the marks of the snapshot at hand back, so that a later one that needs the same is judged anew."""
        self._marks = self._marks.replace(b"\1", b"\0")


@dataclass(slots=True)
class _Execution:
    """The state of one copy."""

    plan: CopyPlan
    source: Repository
    target: Repository
    progress: Callable[[CopyProgress], None] | None
    stop: Callable[[], bool] | None
    copied: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    blobs: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    _missing: _Missing = field(init=False)
    _complete: list[Snapshot] = field(default_factory=list)
    _uncommitted_bytes: int = 0

    def __post_init__(self) -> None:
        self._missing = _Missing(self.source, self.target)

    def copy(self, snapshot: Snapshot) -> None:
        """Copy what one snapshot needs. A source that cannot give it whole is a problem, not an end."""
        try:
            groups = self._groups(self._missing.mark(snapshot))
            for kind, names in announced(self.source.storage, groups, self._reads):
                self._copy_blobs(kind, names)
        except CorruptData as error:
            self._missing.forget()
            self.problems.append(_problem(snapshot, error))
            return
        self._missing.settle()
        self._complete.append(snapshot)
        if self._uncommitted_bytes >= _COMMIT_BYTES:
            self.commit()

    def _groups(self, records: Iterator[int]) -> Iterator[tuple[BlobKind, list[bytes]]]:
        """Put together what lies in one pack and is of one kind."""
        index = self.source.index

        def place(record: int) -> tuple[int, BlobKind]:
            return index.pack_number(record), index.entry(record).kind

        for (_, kind), group in groupby(records, place):
            yield kind, [index.entry(record).id for record in group]

    def _reads(self, group: tuple[BlobKind, list[bytes]]) -> Iterator[Read]:
        return (read for wanted in self.source.plan_reads(*group) for read in reads(wanted))

    def _copy_blobs(self, kind: BlobKind, names: Sequence[bytes]) -> None:
        if self.stop is not None and self.stop():
            self.commit()
            raise Interrupted("the copy was stopped; what is copied so far is not copied again")
        for name, content in self.source.load_blobs(kind, names):
            _, added = self.target.save_blob(kind, content, name)
            if added:
                self.blobs += 1
                self.plain_bytes += len(content)
                self.stored_bytes += added
                self._uncommitted_bytes += added
        self._tell()

    def commit(self) -> None:
        """Make everything copied durable, then the snapshots that are complete with it."""
        self.target.flush()
        for snapshot in self._complete:
            origin = snapshot.original or snapshot.id
            name = self.target.commit(replace(snapshot, parent=None, original=origin))
            log.info("snapshot copied", extra={"snapshot": snapshot.short_id, "as_snapshot": name[:8]})
            self.copied.append((snapshot.id, name))
        self._complete.clear()
        self._uncommitted_bytes = 0
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            done = len(self.copied) + len(self._complete)
            self.progress(CopyProgress(done, self.plain_bytes, len(self.plan.snapshots), self.plan.bytes))


def _problem(snapshot: Snapshot, error: BackupError) -> Problem:
    return Problem(f"snapshot {snapshot.short_id}", str(error))
