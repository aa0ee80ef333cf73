"""Snapshots as values, and their JSON: when, of what, by whom, and the id of the root tree.

The format is restic's (doc/design.rst, "Snapshots"; internal/restic/snapshot.go), field order included. Fields that
this program does not know are kept in ``extra`` and written back, so that passing a snapshot through here loses
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import orjson

from backup.errors import CorruptData
from backup.rfc3339 import format_time, parse_time

_ID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """What the run that made the snapshot did. Counts of files, folders and blobs; sizes in bytes; restic's names."""

    backup_start: datetime
    backup_end: datetime
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    """Before compression."""
    data_added_packed: int = 0
    """As stored."""
    total_files_processed: int = 0
    total_bytes_processed: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One restorable state. Empty fields are left out of the JSON."""

    time: datetime
    tree: bytes
    """Id of the root tree's blob."""
    paths: tuple[str, ...]
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent: str | None = None
    """Id of the snapshot whose unchanged files were trusted."""
    original: str | None = None
    """First id of a snapshot whose metadata was rewritten."""
    program_version: str = ""
    summary: SnapshotSummary | None = None
    time_text: str = ""
    """The time as read, where ``time`` cannot hold its nanoseconds or offset; written again while it still is right."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Fields of other programs, as read."""
    id: str = ""
    """Name of its file; empty until it is stored. Not part of the JSON."""

    @property
    def short_id(self) -> str:
        """The first eight digits, as shown to people."""
        return self.id[:8]

    @property
    def is_log(self) -> bool:
        """Whether it holds files of a database's log, and so is no backup that could be restored or counted."""
        return "wal" in self.tags


_KNOWN: Final = {item.name for item in fields(Snapshot)} - {"extra", "id", "time_text"}


def format_snapshot(snapshot: Snapshot) -> bytes:
    """Write a snapshot's JSON, without a newline at its end."""
    document: dict[str, Any] = {
        "time": _time_document(snapshot),
        "parent": snapshot.parent,
        "tree": snapshot.tree.hex(),
        "paths": _texts(snapshot.paths),
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "uid": snapshot.uid,
        "gid": snapshot.gid,
        "excludes": _texts(snapshot.excludes),
        "tags": _texts(snapshot.tags),
        "original": snapshot.original,
        "program_version": snapshot.program_version,
        "summary": _summary_document(snapshot.summary),
    }
    always = {"time", "tree", "paths"}
    document = {key: value for key, value in document.items() if value or key in always}
    return orjson.dumps(document | dict(snapshot.extra))


def _time_document(snapshot: Snapshot) -> str:
    """Keep what a moment of Python cannot hold: programs tell copies of one snapshot by its exact time."""
    text = snapshot.time_text
    return text if text and parse_time(text) == snapshot.time else format_time(snapshot.time)


def _texts(values: Sequence[str]) -> list[str]:
    """Names that are no text (surrogates of odd bytes) go in readable, since JSON must be UTF-8."""
    return [value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for value in values]


def _summary_document(summary: SnapshotSummary | None) -> dict[str, str | int] | None:
    if summary is None:
        return None
    return {
        item.name: format_time(value) if isinstance(value := getattr(summary, item.name), datetime) else value
        for item in fields(summary)
    }


def parse_snapshot(document: bytes, name: str) -> Snapshot:
    """Read a snapshot's JSON; ``name`` is its id. Raises CorruptData."""
    try:
        found = orjson.loads(document)
        tree = bytes.fromhex(found["tree"])
        if len(tree) != _ID_BYTES:
            raise ValueError("tree is no id")
        return Snapshot(
            time=(time := parse_time(found["time"])),
            time_text=found["time"] if found["time"] != format_time(time) else "",
            tree=tree,
            paths=tuple(found.get("paths") or ()),
            hostname=found.get("hostname", ""),
            username=found.get("username", ""),
            uid=found.get("uid", 0),
            gid=found.get("gid", 0),
            excludes=tuple(found.get("excludes") or ()),
            tags=tuple(found.get("tags") or ()),
            parent=found.get("parent"),
            original=found.get("original"),
            program_version=found.get("program_version", ""),
            summary=_summary(found.get("summary")),
            extra={key: value for key, value in found.items() if key not in _KNOWN},
            id=name,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"could not read snapshot {name[:8]}: {type(error).__name__}: {error}", name=name) from error


def _summary(found: Mapping[str, Any] | None) -> SnapshotSummary | None:
    if found is None:
        return None
    known = {item.name for item in fields(SnapshotSummary)}
    counts = {key: value for key, value in found.items() if key in known and isinstance(value, int)}
    return SnapshotSummary(parse_time(found["backup_start"]), parse_time(found["backup_end"]), **counts)


def matches(
    snapshot: Snapshot,
    *,
    hostname: str | None = None,
    paths: Sequence[str] | None = None,
    tags: Sequence[str] = (),
) -> bool:
    """Whether a snapshot is of this host, of exactly these paths in any order, and carries all these tags."""
    if hostname is not None and snapshot.hostname != hostname:
        return False
    if paths is not None and set(snapshot.paths) != set(paths):
        return False
    return set(tags) <= set(snapshot.tags)
