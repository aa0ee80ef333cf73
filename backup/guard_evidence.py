"""Collects what the guard judges by: the figures of trusted predecessors, and, where they arouse suspicion, a closer
look at the trees. Judges nothing itself, writes nothing, and never keeps a backup from being stored: what cannot be
read for a closer look is logged, and the figures alone decide.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from backup.errors import BackupError, SnapshotMissing
from backup.guard import Contents, Emptied, Figures, Past, ending_of, is_log, judge, rewritten_share
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.suspicions import TAG
from backup.tree import Node
from backup.walking import load_tree, locate, walk_together
from config.jobs import GuardSettings

_LATELY = 10
_HABIT = 2
"""A path that was empty so often lately is emptied again and again."""
_LEAST_BYTES = 16 << 20
"""From so much new data on, the source's own history tells how well it compresses; the whole repository otherwise."""

log = logging.getLogger(__name__)


def inspect(
    repository: Repository,
    snapshot: Snapshot,
    parent: Snapshot,
    job: str,
    agreed: Collection[str],
    settings: GuardSettings,
) -> tuple[str, ...]:
    """Say why a snapshot that is about to be stored is suspicious; nothing when it is not.

    ``agreed``: ids of suspicious snapshots that a person agreed to. The repository's index is loaded, and what the
    snapshot refers to is in it. Raises CorruptData, StorageError when the snapshots cannot be listed.
    """
    now, before = figures_of(snapshot), figures_of(parent)
    if settings.off or now is None or before is None:
        return ()
    alike = [s for s in repository.snapshots() if f"job:{job}" in s.tags and _same_source(s, snapshot)]
    accepted = list(_accepted(alike, agreed))
    look = _Look(repository, parent, snapshot)
    measured = _measured(alike)
    counted = [(s, found) for s in accepted if (found := measured[s.id]) is not None]
    figures = [found for _, found in counted]
    changed_at = max((number for number, (s, _) in enumerate(counted) if TAG in s.tags), default=0)
    return judge(
        now, before, Past(figures, changed_at), look.emptied(accepted),
        lambda: _usual_ratio(repository, figures[changed_at:], now), look, settings,
    )  # fmt: skip


def figures_of(snapshot: Snapshot) -> Figures | None:
    """Read a snapshot's summary; None when it has none, as those of older programs."""
    summary = snapshot.summary
    if summary is None:
        return None
    return Figures(
        summary.total_files_processed, summary.total_bytes_processed, summary.files_unmodified, summary.data_added,
        summary.data_added_packed,
    )  # fmt: skip


def _measured(alike: Iterable[Snapshot]) -> dict[str, Figures | None]:
    """Figures by id, with what each rewrote of its parent; of the one before it where the parent is gone."""
    found: dict[str, Figures | None] = {}
    before: Figures | None = None
    for snapshot in alike:
        now, parent = figures_of(snapshot), found.get(snapshot.parent or "") or before
        if now and parent:
            now = replace(now, rewritten=rewritten_share(now, parent))
        found[snapshot.id] = before = now
    return found


def _same_source(one: Snapshot, other: Snapshot) -> bool:
    return one.hostname == other.hostname and sorted(one.paths) == sorted(other.paths)


def _accepted(snapshots: Iterable[Snapshot], agreed: Collection[str]) -> Iterator[Snapshot]:
    """Give what may serve as a measure, oldest first: everything up to the first open doubt."""
    for snapshot in snapshots:
        if TAG in snapshot.tags and snapshot.id not in agreed and snapshot.original not in agreed:
            return
        yield snapshot


def _usual_ratio(repository: Repository, trusted: Sequence[Figures], now: Figures) -> float | None:
    """Stored to added bytes of this source's history; of all that is stored when its history is too short for that."""
    added, stored = sum(figures.added for figures in trusted), sum(figures.stored for figures in trusted)
    if added < _LEAST_BYTES:
        index = repository.index
        added, stored = -now.added, -now.stored
        for entry in map(index.entry, range(len(index))):
            stored += entry.length
            added += entry.uncompressed_length or entry.length
    return stored / added if added > 0 and stored > 0 else None


class _Look:
    """Reads the trees of parent and snapshot, once, and only when asked."""

    def __init__(self, repository: Repository, parent: Snapshot, snapshot: Snapshot) -> None:
        self._repository = repository
        self._parent = parent
        self._snapshot = snapshot
        self._seen: tuple[Contents, Contents] | None = None

    def __call__(self) -> tuple[Contents, Contents] | None:
        if self._seen is None:
            try:
                self._seen = self._contents(self._parent), self._contents(self._snapshot)
            except BackupError as error:
                log.warning("guard could not look closer", extra={"reason": str(error)})
        return self._seen

    def emptied(self, accepted: Sequence[Snapshot]) -> list[Emptied]:
        """Find the source paths that are empty now, had files in the parent, and are not empty every other day."""
        try:
            return [
                found
                for path in self._snapshot.paths
                if self._is_empty(self._snapshot, path)
                and sum(self._is_empty(snapshot, path) for snapshot in accepted[-_LATELY:]) < _HABIT
                and (found := self._held(path)).files
            ]
        except BackupError as error:
            log.warning("guard could not look for emptied paths", extra={"reason": str(error)})
            return []

    def _is_empty(self, snapshot: Snapshot, path: str) -> bool:
        """Whether a path is gone or a folder without entries; a snapshot of one path has it as its root."""
        nodes, node = self._below(snapshot, path)
        return not nodes and (node is None or node.type == "dir")

    def _below(self, snapshot: Snapshot, path: str) -> tuple[Sequence[Node], Node | None]:
        try:
            place = locate(self._repository, snapshot, path)
        except SnapshotMissing:
            return (), None
        return (load_tree(self._repository, place.tree) if place.tree else ()), place.node

    def _held(self, path: str) -> Emptied:
        place = locate(self._repository, self._parent, path)
        files = size = 0
        for _, node, _ in walk_together(self._repository, [place.tree] if place.tree else []):
            files += node.type != "dir"
            size += node.size
        return Emptied(path, files, size)

    def _contents(self, snapshot: Snapshot) -> Contents:
        size, endings = 0, Counter[bytes]()
        for path, node, _ in walk_together(self._repository, [snapshot.tree]):
            if node.type == "file":
                endings[ending_of(node.name)] += 1
                size += 0 if is_log(path) else node.size
        return Contents(size, endings)


