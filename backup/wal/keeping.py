"""Keeps a log small in number and no longer than it is needed: folds single segments, lets go what no base needs.

Only what another snapshot holds entirely is ever removed, or what lies before the start of every base backup that is
kept; without a base backup nothing is. Removing a snapshot takes nothing from whoever is reading it: data go with a
prune, which excludes everybody else. So folding needs no exclusive lock, and credentials that may not delete leave the
single ones behind.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from backup.errors import FileMissing, StorageError
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from backup.tree import as_text, encode_node
from backup.wal.names import SEGMENT_BYTES, Segment, parse_segment, segment_name
from backup.wal.reading import Log, names_in, nodes_in, run_tag
from backup.wal.writing import WalWriter

log = logging.getLogger(__name__)


def runs(segments: Iterable[Segment], boundaries: Sequence[int] = ()) -> Iterator[list[Segment]]:
    """Group segments into runs without a gap on one timeline; a number of ``boundaries`` begins a new one."""
    ordered = sorted(segments)
    run = ordered[:1]
    for before, segment in pairwise(ordered):
        joined = segment.timeline == before.timeline and segment.number == before.number + 1
        if not joined or segment.number in boundaries:
            yield run
            run = []
        run.append(segment)
    if run:
        yield run


def fold(
    repository: Repository, writer: WalWriter, job: str, bases: Sequence[Segment] = (), *,
    segment_bytes: int = SEGMENT_BYTES,
) -> int:  # fmt: skip
    """Fold single segments into one snapshot for each interval between base backups; gives how many were folded.

    The newest segment of all stays single, since more may come for it. The index must be loaded; wants a lock.
    Raises CorruptData, StorageError.
    """
    found = Log.of(repository.snapshots(), job, segment_bytes=segment_bytes)
    singles = {segment: found.files[found.name(segment)] for segment in found.segments if segment != found.newest}
    folded = 0
    for run in runs(singles, [base.number for base in bases]):
        holders = {holder.id: holder for segment in run if (holder := singles[segment])}
        if len(holders) < 2:
            continue
        names = {segment_name(segment, segment_bytes) for segment in run}
        nodes = {
            name: encode_node(node)
            for holder in holders.values()
            for node in nodes_in(repository, job, holder)
            if (name := as_text(node.name)) in names
        }
        if set(nodes) != names:
            log.error("log not folded", extra={"job": job, "missing": min(names - set(nodes))})
            continue
        tag = run_tag(min(names), max(names))
        writer.commit(sorted(nodes.items()), max(holder.time for holder in holders.values()), [], (tag,))
        whole = [holder for holder in holders.values() if set(names_in(holder, segment_bytes)) <= names]
        remove(repository, whole)
        folded += len(run)
    return folded


def expired(found: Log, bases: Sequence[Segment]) -> list[Snapshot]:
    """Name the snapshots of a log that no base backup needs: all they hold lies before the first one's start.

    Histories are needed for ever: they are small, and tell timelines apart.
    """
    if not bases:
        return []
    first = min(base.number for base in bases)
    by_holder: dict[str, list[str]] = {}
    holders = {}
    for name, holder in found.files.items():
        by_holder.setdefault(holder.id, []).append(name)
        holders[holder.id] = holder
    return [
        holders[holder] for holder, names in by_holder.items() if all(_before(name, first, found) for name in names)
    ]


def superseded(snapshots: Iterable[Snapshot], found: Log) -> list[Snapshot]:
    """Name the snapshots of a job's log all of whose files a later one holds, too."""
    mine = [snapshot for snapshot in snapshots if found.job and any(t == f"wal-of:{found.job}" for t in snapshot.tags)]
    used = {holder.id for holder in found.files.values()}
    return [snapshot for snapshot in mine if snapshot.id not in used]


def remove(repository: Repository, snapshots: Iterable[Snapshot]) -> int:
    """Remove snapshots of a log, as far as these credentials may; gives how many are gone."""
    gone = 0
    for snapshot in snapshots:
        try:
            repository.storage.delete(FileKind.SNAPSHOT, snapshot.id)
        except FileMissing:
            continue
        except StorageError as error:
            log.debug("snapshot of a log left", extra={"snapshot": snapshot.short_id, "reason": str(error)})
            return gone
        gone += 1
    return gone


def _before(name: str, first: int, found: Log) -> bool:
    segment = parse_segment(name[:24], found.segment_bytes)
    return segment is not None and segment.number < first
