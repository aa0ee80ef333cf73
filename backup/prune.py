"""Giving space back: a plan of which packs to delete and which to rewrite, and its execution in a crash-safe order.

A pack without a needed blob is deleted. Of those that hold some waste, the worst are rewritten (their needed blobs move
to new packs) until no more than a share of what stays is waste. Small packs and small index files, which hourly runs
leave behind, are merged. The plan is a value; the order of execution is DESIGN.md's: delete what no index names, write
new packs, write new indexes, delete old indexes, delete old packs. Dying in between leaves at worst waste, which the
next prune finds.

It refuses to plan when a needed blob is missing or a pack has not its size: what looks like waste then may be all there
is.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from backup.crew import Crew
from backup.errors import BackupError, CorruptData, UnsupportedRepository
from backup.index import FLUSH_BLOBS, Index, PackDocument
from backup.moving import MovingBench, whole
from backup.pack import TARGET_BYTES, BlobEntry, BlobKind
from backup.reachable import mark_reachable
from backup.reader import PackRead
from backup.repository import Repository
from backup.storage.base import FileKind, StoredFile, delete_all
from backup.storage.reading_ahead import announced

MAX_UNUSED: Final = 0.05
"""Share of the needed bytes that may stay as waste, as in restic: beyond it, rewriting costs more than it gives."""
_SMALL_PACK_BYTES: Final = TARGET_BYTES // 8
_SMALL_INDEX_BYTES: Final = 512 * 1024
_FEW: Final = 10
"""Fewer small files than this are left alone."""
_DELETED_AT_ONCE: Final = 1000
"""Files deleted between two looks at the lock."""
_WORTH_PROCESSES_BYTES: Final = 16 * 2**20
"""Moving less than this takes less time than starting processes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackUse:
    """One pack and what of it is needed; sizes in bytes, of sealed blobs for ``used`` and ``unused``."""

    pack: str
    size: int
    used_bytes: int
    unused_bytes: int
    kind: BlobKind


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What `execute_prune` will do."""

    orphans: tuple[StoredFile, ...]
    """Packs that no index names: left by runs that died."""
    deleted: tuple[PackUse, ...]
    """Packs without a needed blob."""
    rewritten: tuple[PackUse, ...]
    """Packs whose needed blobs move."""
    lost: tuple[str, ...]
    """Packs that the index names and the storage lacks; nothing in them is needed."""
    kept_packs: int
    kept_bytes: int
    """Size of the packs that stay as they are."""
    unused_bytes: int
    """Waste that stays in them."""
    index_files: tuple[str, ...]
    """Index files that are replaced."""
    moves: tuple[PackRead, ...] = field(repr=False)
    seen: frozenset[str] = field(repr=False)
    """Names of the snapshot and index files that the plan was made from."""

    @property
    def freed_bytes(self) -> int:
        """Bytes that the storage will have more; exact but for the headers of new packs."""
        gone = sum(item.size for item in (*self.deleted, *self.rewritten)) + sum(item.size for item in self.orphans)
        return gone - sum(item.used_bytes for item in self.rewritten)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.orphans or self.deleted or self.rewritten or self.lost or self.index_files)


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What was done; sizes in bytes."""

    deleted_packs: int
    rewritten_packs: int
    freed_bytes: int


def plan_prune(repository: Repository, *, max_unused: float = MAX_UNUSED) -> PrunePlan:
    """Find out what nobody needs. Loads the index, unless it was loaded under the exclusive lock that is held: plan and
    execution belong under one.

    ``max_unused`` is the share of waste, relative to needed bytes, that may stay. Raises CorruptData when something
    needed is missing, UnsupportedRepository for version 1, StorageError.
    """
    if repository.version != 2:
        raise UnsupportedRepository(f"refused to prune a repository of version {repository.version}: it is read only")
    snapshots = repository.snapshots()
    index = repository.current_index()
    stored = {file.name: file.size for file in repository.storage.list(FileKind.DATA)}
    packs = list(index.packs())
    _refuse_wrong_sizes(packs, stored)
    there = bytearray(pack in stored for pack, _ in packs)
    marks = mark_reachable(
        repository, (snapshot.tree for snapshot in snapshots), lambda record: bool(there[index.pack_number(record)])
    )
    uses = _uses(index, packs, marks)
    present = [use for use in uses if use.pack in stored]
    needed = sum(use.used_bytes for use in present)
    deleted = tuple(use for use in present if not use.used_bytes)
    rewritten = tuple(_to_rewrite([use for use in present if use.used_bytes], max_unused * needed))
    lost = tuple(use.pack for use in uses if use.pack not in stored)
    gone = {use.pack for use in (*deleted, *rewritten)}
    kept = [use for use in present if use.pack not in gone]
    known = {pack for pack, _ in packs}
    return PrunePlan(
        orphans=tuple(StoredFile(name, size) for name, size in stored.items() if name not in known),
        deleted=deleted,
        rewritten=rewritten,
        lost=lost,
        kept_packs=len(kept),
        kept_bytes=sum(use.size for use in kept),
        unused_bytes=sum(use.unused_bytes for use in kept),
        index_files=tuple(_affected_index_files(repository, gone.union(lost))),
        moves=tuple(_moves(index, marks, {use.pack for use in rewritten})),
        seen=frozenset(repository.index_files).union(snapshot.id for snapshot in snapshots),
    )


def _refuse_wrong_sizes(packs: Iterable[tuple[str, int]], stored: dict[str, int]) -> None:
    for pack, size in packs:
        if stored.get(pack, size) != size:
            raise CorruptData(
                f"refused to prune: pack {pack[:8]} has {stored[pack]} bytes instead of {size}", name=pack
            )


def _uses(index: Index, packs: list[tuple[str, int]], marks: bytearray) -> list[PackUse]:
    used, total, last = [0] * len(packs), [0] * len(packs), [-1] * len(packs)
    for record, ((number, length), mark) in enumerate(zip(index.weights(), marks, strict=True)):
        total[number] += length
        used[number] += length * mark
        last[number] = record
    kinds = [BlobKind.DATA if record < 0 else index.entry(record).kind for record in last]
    return [
        PackUse(pack, size, used[number], total[number] - used[number], kinds[number])
        for number, (pack, size) in enumerate(packs)
    ]


def _to_rewrite(uses: list[PackUse], may_stay_bytes: float) -> Iterator[PackUse]:
    """Choose the most wasteful packs until little enough waste is left, then small ones where there are many."""
    small = Counter(use.kind for use in uses if use.size < _SMALL_PACK_BYTES)
    waste = sum(use.unused_bytes for use in uses)
    for use in sorted(uses, key=lambda use: use.unused_bytes / use.size, reverse=True):
        too_much = use.unused_bytes > 0 and waste > may_stay_bytes
        if too_much or (use.size < _SMALL_PACK_BYTES and small[use.kind] >= _FEW):
            waste -= use.unused_bytes
            yield use


def _affected_index_files(repository: Repository, gone: set[str]) -> Iterator[str]:
    files = list(repository.storage.list(FileKind.INDEX))
    small = {file.name for file in files if file.size < _SMALL_INDEX_BYTES}
    merge = len(small) >= _FEW
    for file in files:
        if (merge and file.name in small) or (
            gone and not gone.isdisjoint(pack["id"] for pack in repository.split_index_file(file.name))
        ):
            yield file.name


def _moves(index: Index, marks: bytearray, rewritten: set[str]) -> Iterator[PackRead]:
    numbers = {number: pack for number, (pack, _) in enumerate(index.packs()) if pack in rewritten}
    entries: dict[str, list[BlobEntry]] = {pack: [] for pack in numbers.values()}
    for record, mark in enumerate(marks):
        if mark and (pack := numbers.get(index.pack_number(record))):
            entries[pack].append(index.entry(record))
    for pack, wanted in entries.items():
        yield PackRead(pack, tuple(sorted(wanted, key=lambda entry: entry.offset)))


def _names(repository: Repository) -> frozenset[str]:
    kinds = (FileKind.SNAPSHOT, FileKind.INDEX)
    return frozenset(file.name for kind in kinds for file in repository.storage.list(kind))


def execute_prune(repository: Repository, plan: PrunePlan) -> PruneReport:
    """Carry a plan out. Wants the exclusive lock under which it was made; drops the index, which is another then.

    Raises BackupError when snapshots or indexes have changed since, CorruptData when a blob to move is damaged (nothing
    but orphans is deleted then), StorageError. Whatever happens, every snapshot stays whole.
    """
    repository.require_lock(exclusive=True)
    if _names(repository) != plan.seen:
        raise BackupError("refused to prune: snapshots or indexes changed since the plan was made", hint="plan again")
    _delete(repository, FileKind.DATA, (file.name for file in plan.orphans))
    _move(repository, plan.moves)
    repository.flush()
    gone = {use.pack for use in (*plan.deleted, *plan.rewritten)}
    _replace_index_files(repository, plan.index_files, gone.union(plan.lost))
    _delete(repository, FileKind.DATA, gone)
    repository.drop_index()
    report = PruneReport(len(plan.deleted) + len(plan.orphans), len(plan.rewritten), plan.freed_bytes)
    fields = {"deleted_packs": report.deleted_packs, "rewritten_packs": report.rewritten_packs}
    log.info("pruned", extra={**fields, "freed_bytes": report.freed_bytes})
    return report


def _move(repository: Repository, moves: Sequence[PackRead]) -> None:
    """Have all that moves stored anew, in worker processes where it is much, and taken into the index."""
    storage, key = repository.storage, repository.key
    size = sum(entry.length for move in moves for entry in move.entries)
    workers = None if size >= _WORTH_PROCESSES_BYTES else 0
    # a worker is told of the next pack; without workers it is on its way while this process moves one
    given = moves if workers is None else announced(storage, moves, lambda move: [whole(move)])
    make_bench = partial(MovingBench, storage, key)
    with closing(Crew[PackRead](make_bench, workers, on_report=partial(_take_over, repository))) as crew:
        for move in given:
            repository.require_lock(exclusive=True)
            crew.submit(move, None)
        while crew.busy:
            for _ in crew.results(block=True):
                repository.require_lock(exclusive=True)
        crew.finish()


def _take_over(repository: Repository, packs: object) -> None:
    assert isinstance(packs, list)
    repository.add_packs(packs)


def _replace_index_files(repository: Repository, names: Iterable[str], gone: set[str]) -> None:
    """Write what stays of these index files into new ones, then delete them. A pack never ends up in two new ones."""
    names = list(names)
    staying: list[PackDocument] = []
    blobs, written, done = 0, set[str](), set(gone)
    for name in names:
        for pack in repository.split_index_file(name):
            if pack["id"] in done:
                continue
            done.add(pack["id"])
            staying.append(pack)
            blobs += len(pack["blobs"])
            if blobs >= FLUSH_BLOBS:
                written.add(repository.join_index_file(staying))
                staying, blobs = [], 0
    if staying:
        written.add(repository.join_index_file(staying))
    _delete(repository, FileKind.INDEX, (name for name in names if name not in written))


def _delete(repository: Repository, kind: FileKind, names: Iterable[str]) -> None:
    rest = list(names)
    while rest:
        repository.require_lock(exclusive=True)
        delete_all(repository.storage, kind, rest[:_DELETED_AT_ONCE])
        del rest[:_DELETED_AT_ONCE]
