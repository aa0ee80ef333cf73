"""Plans a restore: what of a snapshot goes where, what is there already, what is to be removed.

The plan reads every tree it needs, refuses names that would lead outside the target, and counts. It looks at the target
and changes nothing in it. It wants the repository's index loaded.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup.errors import RestoreError
from backup.overwriting import Overwrite, Verdict, judge
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restoring import unsafe_name
from backup.snapshot import Snapshot
from backup.sources.base import Problem
from backup.sources.files import Excludes
from backup.target import Target
from backup.tree import Entry, Node, as_text, parse_entries
from backup.walking import locate
from config.units import format_size
from config.wording import counted

BIG_FILE_BYTES = 64 << 20
"""From here on several workers write one file."""
RawPath = bytes
"""A path as the system has it, relative to the target."""


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
    """How many of these files are there already; ``overwrite`` decides what becomes of them."""
    overwrite: Overwrite = Overwrite.ALWAYS
    removals: tuple[RawPath, ...] = ()
    """What the target has and the snapshot has not, each with all below: relative paths, sorted."""
    refused: tuple[Problem, ...] = ()
    """What the snapshot holds but must not or cannot be written."""

    @property
    def folder_count(self) -> int:
        """Folders below the target."""
        return sum(folder.node is not None for folder in self.folders)

    def __str__(self) -> str:
        there = f", {self.existing} of them there already ({self.overwrite})" if self.existing else ""
        removed = f"; {len(self.removals)} to be removed" if self.removals else ""
        refused = f"; {len(self.refused)} refused" if self.refused else ""
        return (
            f"snapshot {self.snapshot.short_id} into {self.target}: "
            f"{counted(self.folder_count, 'folder')}, {counted(self.files, 'file')}{there},"
            f" {format_size(self.bytes)}{removed}{refused}"
        )


def plan_restore(
    repository: Repository,
    snapshot: Snapshot,
    target: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    subfolder: str = "/",
    overwrite: Overwrite = Overwrite.ALWAYS,
    delete: bool = False,
) -> RestorePlan:
    """Read the snapshot's trees and say what a restore into ``target`` would do.

    ``include`` and ``exclude`` are gitignore patterns on the snapshot's paths; a folder that is included brings all
    that lies below it. With ``subfolder`` only what lies below it is restored, right into the target, and patterns are
    on paths below it. With ``delete`` what the target has in included folders, and the snapshot has not, is removed;
    what is excluded stays. Raises SnapshotMissing for a subfolder that is none, RestoreError when all of ``/`` would
    be cleared or the target cannot be read, CorruptData when a tree cannot be read, StorageError.
    """
    if delete and not include and target.resolve() == Path("/"):
        raise RestoreError(
            "refused to remove from / whatever the snapshot lacks: it would take the system with it",
            hint="say with --include which folders are meant",
        )
    place = locate(repository, snapshot, subfolder)
    if place.tree is None:
        raise RestoreError(
            f"could not restore {subfolder} as a folder: it is a {place.node.type if place.node else 'nothing'}",
            hint="use --include for a single file",
        )
    survey = _Survey(repository, include, exclude, target, overwrite, delete=delete)
    survey.walk(place.tree)
    existing = survey.count_existing()
    folders = tuple(sorted(survey.folders.values(), key=lambda folder: folder.path.split(b"/")))
    return RestorePlan(
        snapshot, target, folders, tuple(survey.big_files), tuple(survey.links), survey.files, survey.bytes, existing,
        overwrite, tuple(survey.removals()), tuple(survey.refused),
    )  # fmt: skip


@dataclass(slots=True)
class _Visit:
    """A folder whose tree is still to be read."""

    path: bytes
    node: Node | None
    chosen: bool
    """Whether everything in it is included."""
    above: "_Visit | None"
    names: dict[bytes, bool] = field(default_factory=dict)
    """All that the tree has, and whether it is a folder; kept only when others are to be removed."""


class _Survey:
    """Walks trees level by level, so that each pack of trees is read in few and long ranges."""

    def __init__(
        self,
        repository: Repository,
        include: Sequence[str],
        exclude: Sequence[str],
        target: Path,
        overwrite: Overwrite,
        *,
        delete: bool,
    ) -> None:
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
        self._target = target
        self._overwrite = overwrite
        self._visits: list[_Visit] | None = [] if delete else None

    def walk(self, root: bytes) -> None:
        """Read every tree below."""
        level = {root: [_Visit(b"", None, self._include is None, None)]}
        while level:
            below: dict[bytes, list[_Visit]] = {}
            for name, content in self._repository.load_blobs(BlobKind.TREE, level):
                entries = parse_entries(content)
                for visit in level[name]:
                    self._visit(visit, name, entries, below)
            level = below

    def count_existing(self) -> int:
        """Count the leaves that are in the target already."""
        try:
            with os.scandir(self._target) as entries:
                if not any(True for _ in entries):
                    return 0
        except OSError:  # executing the plan will say what is wrong with it, if it is more than that it is not there
            return 0
        top = os.fsencode(self._target)
        paths = (os.path.join(top, folder, name) for folder, names in self._names for name in names)
        return sum(os.path.lexists(path) for path in paths)

    def removals(self) -> list[bytes]:
        """List what is in the target, was included, and is not in the snapshot or not of its kind."""
        if not self._visits:
            return []
        try:
            target = Target(os.fspath(self._target))
        except FileNotFoundError:
            return []
        found = []
        try:
            for visit in self._visits:
                try:
                    there = target.names(visit.path)
                except OSError:  # not there, or no folder, and so an extra of the folder above
                    continue
                found += [os.path.join(visit.path, name) for name in there if self._is_extra(target, visit, name)]
        finally:
            target.close()
        return sorted(found, key=lambda path: path.split(b"/"))

    def _is_extra(self, target: Target, visit: _Visit, name: bytes) -> bool:
        status = target.status(visit.path, name)
        is_folder = status is not None and stat.S_ISDIR(status.st_mode)
        if status is None or visit.names.get(name) == is_folder:
            return False
        return bool(self._chooses(os.path.join(visit.path, name), is_folder, visit))

    def _visit(self, visit: _Visit, tree: bytes, entries: list[Entry], below: dict[bytes, list[_Visit]]) -> None:
        seen: set[bytes] = set()
        leaves: list[int] = []
        sizes: list[int] = []
        names: list[bytes] = []
        above = visit.path + b"/" if visit.path else b""
        for position, entry in enumerate(entries):
            name, is_folder = entry.name, entry.type == "dir"
            path = above + name
            if reason := unsafe_name(name, seen):
                self.refused.append(Problem(f"{as_text(visit.path)}/{as_text(name)!r}", reason))
                continue
            seen.add(name)
            if self._visits is not None:
                visit.names[name] = is_folder
            chosen = self._chooses(path, is_folder, visit)
            if chosen is None:
                continue
            if is_folder:
                self._descend(_Visit(path, entry.node(), chosen, visit), below)
            elif chosen:
                names.append(name)
                self._leaf(path, position, entry, leaves, sizes)
        if self._visits is not None:
            self._visits.append(visit)
        if visit.chosen or names:
            self._make(visit)
            self.folders[visit.path] = FolderPlan(visit.path, visit.node, tree, tuple(leaves), tuple(sizes))
            self._names.append((visit.path, names))

    def _chooses(self, path: bytes, is_folder: bool, visit: _Visit) -> bool | None:
        """Whether an entry is wanted; None for one that is excluded with all below it."""
        if self._include is None and self._exclude is None:
            return True
        text = "/" + as_text(path)
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

    def _is_left_alone(self, path: bytes, entry: Entry) -> bool:
        """Whether a name of a file with several is not to be touched: the others are not to be linked to it then."""
        if self._overwrite not in (Overwrite.NEVER, Overwrite.IF_NEWER):
            return False
        try:
            status = os.lstat(os.path.join(os.fsencode(self._target), path))
        except OSError:
            return False
        return judge(self._overwrite, entry.node(), status) is Verdict.LEAVE

    def _leaf(self, path: bytes, position: int, entry: Entry, leaves: list[int], sizes: list[int]) -> None:
        if entry.type in ("socket", "irregular"):
            self.refused.append(Problem(as_text(path), f"it is of type {entry.type}, which cannot be restored"))
            return
        self.files += 1
        if entry.links > 1 and entry.inode and not self._is_left_alone(path, entry):
            first = self._first_of.setdefault((entry.inode, entry.device_id), path)
            if first != path:
                self.links.append((first, path))
                return
        self.bytes += entry.size
        if entry.size >= BIG_FILE_BYTES and entry.type == "file":
            self.big_files.append((path, entry.node()))
            return
        leaves.append(position)
        sizes.append(entry.size)
