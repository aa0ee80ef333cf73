"""Finds what of a job's write-ahead log a repository holds, and writes it into a folder for a server to replay.

What is there is read off the snapshots' tags: one file, or a run of segments without a gap that were folded into one
snapshot. Files are proven by their hashes on the way out. It never guesses: a log with a gap ends at the gap.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backup.errors import CorruptData, LogIncomplete, RestoreError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.tree import Node
from backup.wal.names import (
    PARTIAL,
    SEGMENT_BYTES,
    Segment,
    Switch,
    parse_history,
    parse_segment,
    path_of,
    segment_name,
    timeline_of_history,
)
from backup.wal.writing import folder_of, tag_of
from backup.walking import load_tree, locate

_ONE, _RUN = "segment:", "segments:"


@dataclass(frozen=True, slots=True)
class Log:
    """What a repository holds of one job's log."""

    job: str
    files: dict[str, Snapshot] = field(default_factory=dict)
    """Name of each file -> the snapshot that holds it."""
    segment_bytes: int = SEGMENT_BYTES

    @classmethod
    def of(cls, snapshots: Iterable[Snapshot], job: str, *, segment_bytes: int = SEGMENT_BYTES) -> "Log":
        """Pick the job's log out of all snapshots, oldest first."""
        mine = (snapshot for snapshot in snapshots if tag_of(job) in snapshot.tags)
        log = cls(job, segment_bytes=segment_bytes)
        for snapshot in mine:
            for name in names_in(snapshot, segment_bytes):
                log.files[name] = snapshot
        for name in [name for name in log.files if name.endswith(PARTIAL) and name.removesuffix(PARTIAL) in log.files]:
            del log.files[name]
        return log

    @property
    def segments(self) -> list[Segment]:
        """All whole segments, in order."""
        found = (parse_segment(name, self.segment_bytes) for name in self.files)
        return sorted(segment for segment in found if segment is not None)

    @property
    def newest(self) -> Segment | None:
        """The segment with the highest number on the highest timeline; a partial one counts."""
        names = (name.removesuffix(PARTIAL) for name in self.files)
        return max((found for name in names if (found := parse_segment(name, self.segment_bytes))), default=None)

    @property
    def ends_at(self) -> datetime | None:
        """When the newest file was complete."""
        return max((snapshot.time for snapshot in self.files.values()), default=None)

    def name(self, segment: Segment) -> str:
        """Write a segment's name."""
        return segment_name(segment, self.segment_bytes)

    def holder(self, segment: Segment) -> Snapshot | None:
        """Find the snapshot that holds a segment, or as much of it as there is."""
        name = self.name(segment)
        return self.files.get(name) or self.files.get(name + PARTIAL)

    def missing(self, path: Iterable[Segment]) -> list[str]:
        """Name the segments of a path that are not there."""
        return [self.name(segment) for segment in path if self.holder(segment) is None]

    def timelines(self) -> list[int]:
        """Tell which timelines there are, by segments or histories, the oldest first."""
        known = {segment.timeline for segment in self.segments}
        known |= {found for name in self.files if (found := timeline_of_history(name)) is not None}
        if self.newest:
            known.add(self.newest.timeline)
        return sorted(known)

    def history_names(self) -> list[str]:
        """Name the history files."""
        return sorted(name for name in self.files if timeline_of_history(name) is not None)


def names_in(snapshot: Snapshot, segment_bytes: int = SEGMENT_BYTES) -> Iterator[str]:
    """Yield the names of the files that a snapshot of a log holds, by its tags."""
    for tag in snapshot.tags:
        if tag.startswith(_ONE):
            yield tag.removeprefix(_ONE)
        elif tag.startswith(_RUN):
            first, _, last = tag.removeprefix(_RUN).partition("-")
            start, end = parse_segment(first, segment_bytes), parse_segment(last, segment_bytes)
            if start and end:
                for number in range(start.number, end.number + 1):
                    yield segment_name(Segment(start.timeline, number), segment_bytes)


def run_tag(first: str, last: str) -> str:
    """Write the tag of a folded run of segments."""
    return f"{_RUN}{first}-{last}"


@dataclass(frozen=True, slots=True)
class Way:
    """The log from a base backup on, on its way to a timeline."""

    segments: tuple[Segment, ...]
    histories: tuple[str, ...]


def way_from(log: Log, start: Segment, read: Callable[[str], bytes]) -> Way:
    """Find the way from ``start`` to the newest record, across timelines; ``read`` reads a history file.

    Raises LogIncomplete for a timeline whose history is missing.
    """
    target, switches = start.timeline, list[Switch]()
    for timeline in reversed(log.timelines()):
        if timeline <= start.timeline:
            break
        name = f"{timeline:08X}.history"
        if name not in log.files:
            raise LogIncomplete(
                f"could not follow the log to timeline {timeline}: {name} is missing",
                hint="copy it from the server's pg_wal folder and push it by `keepwatch wal push`",
            )
        found = parse_history(read(name).decode("utf-8", "replace"))
        if any(switch.timeline == start.timeline for switch in found):
            target, switches = timeline, found
            break
    on_way = {switch.timeline for switch in switches} | {target}
    numbers = [segment.number for segment in log.segments if segment.timeline == target]
    newest = log.newest
    if newest is not None and newest.timeline == target:
        numbers.append(newest.number)
    last = max([start.number, *numbers])
    names = tuple(name for name in log.history_names() if (timeline_of_history(name) or 0) in on_way)
    return Way(tuple(path_of(start, last, target, switches, log.segment_bytes)), names)


def nodes_in(repository: Repository, job: str, snapshot: Snapshot) -> list[Node]:
    """Read the nodes of the files that a snapshot of a log holds, with the index as it is now where the loaded one is
    older: a log grows while a backup before it is being restored.
    """
    try:
        return _nodes(repository, job, snapshot)
    except CorruptData:
        repository.load_index()
        return _nodes(repository, job, snapshot)


def _nodes(repository: Repository, job: str, snapshot: Snapshot) -> list[Node]:
    tree = locate(repository, snapshot, f"/{folder_of(job)}").tree
    return load_tree(repository, tree) if tree else []


def read_wal(repository: Repository, job: str, snapshot: Snapshot, name: str) -> bytes:
    """Read one file of the log. Raises RestoreError when the snapshot lacks it, CorruptData, StorageError."""
    for node in nodes_in(repository, job, snapshot):
        if node.name == name.encode():
            ids = node.content or ()
            pieces = dict(repository.load_blobs(BlobKind.DATA, set(ids)))
            return b"".join(pieces[piece] for piece in ids)
    raise RestoreError(f"could not read WAL {name}: snapshot {snapshot.short_id} does not hold it")


def fetch(repository: Repository, log: Log, segments: Sequence[Segment], names: Sequence[str], folder: Path) -> None:
    """Write segments, each under its full name, and other files into a folder. Raises LogIncomplete naming a gap."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if missing := log.missing(segments):
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LogIncomplete(
            f"could not replay the log: WAL segment {missing[0]} is missing{more}",
            hint="recover to a moment before it, or from a later base backup; if the server still has it, push it",
        )
    for segment in segments:
        name, holder = log.name(segment), log.holder(segment)
        assert holder is not None
        stored = name if name in log.files else name + PARTIAL
        _write(folder / name, read_wal(repository, log.job, holder, stored))
    for name in names:
        _write(folder / name, read_wal(repository, log.job, log.files[name], name))


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
