"""Which part of an archived binlog brings a backup to a moment, and how MariaDB's own tool is told so."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backup.applications.base import LATEST, Record, RecoveryTarget
from backup.applications.manifest import Manifest
from backup.binlog.archive import fetch, files_of, newest_log
from backup.binlog.events import BinlogName, commits, first_missing
from backup.errors import LogIncomplete, RestoreError
from backup.repository import Repository
from backup.tree import Node, as_text

_POSITION = re.compile(r"(\S+\.\d{6,}):(\d+)")
_GTID = re.compile(r"\d+-\d+-\d+(,\d+-\d+-\d+)*")


@dataclass(frozen=True, slots=True)
class Replay:
    """Files to replay, and how."""

    files: tuple[Path, ...]
    arguments: tuple[str, ...]
    """For mariadb-binlog, in UTC."""
    reached_at: datetime | None
    """When the last transaction in them was committed; None where there is none."""


def records(repository: Repository, job: str, saved: Manifest) -> list[Record]:
    """Name the files that lead from a backup to the end of the log."""
    snapshot = newest_log(repository, job, saved.taken_at)
    if snapshot is None:
        return []
    nodes = _from(files_of(repository, job, snapshot), saved)
    return [Record(as_text(node.name), snapshot.id, snapshot.time) for node in nodes]


def plan_replay(
    repository: Repository, job: str, saved: Manifest, target: RecoveryTarget, folder: Path
) -> Replay | None:
    """Fetch what has to be replayed into ``folder``; None when there is nothing to.

    Raises RestoreError for a gap, by the name of the file; for a target before the backup or after the log's end.
    """
    _require_sense(target, saved)
    snapshot = newest_log(repository, job, saved.taken_at)
    nodes = _from(files_of(repository, job, snapshot), saved) if snapshot is not None and saved.position else []
    if snapshot is None or not nodes:
        if target == LATEST:
            return None
        raise RestoreError(
            "could not recover MariaDB to a chosen moment: no binlog from the snapshot on is archived",
            hint="`keepwatch binlog JOB` archives it; the server must keep one (log_bin)",
        )
    start = int(saved.position.partition(":")[2])
    arguments = [f"--start-position={start}"]
    if found := _POSITION.fullmatch(target.position or ""):
        nodes = _up_to(nodes, found[1])
    log = _Log(fetch(repository, nodes, folder), start, archived_until=snapshot.time)
    if target.moment is not None:
        return log.until(target.moment, arguments)
    if found:
        return log.up_to(int(found[2]), arguments)
    if target.position is not None:
        arguments = [f"--start-position={saved.details['gtid']}", f"--stop-position={target.position}"]
        return Replay(tuple(log.paths), tuple(arguments), None)
    return Replay(tuple(log.paths), tuple(arguments), log.last())


def _require_sense(target: RecoveryTarget, saved: Manifest) -> None:
    if target.name is not None:
        raise RestoreError("could not recover MariaDB to a named point: it knows none", hint="use a moment or position")
    if target.moment is not None and target.moment < saved.taken_at:
        raise RestoreError(
            f"could not recover to {target.moment}: the snapshot is of {saved.taken_at}",
            hint="choose an older snapshot; `keepwatch snapshots` lists them",
        )
    position = target.position
    if position is not None and not (_POSITION.fullmatch(position) or _GTID.fullmatch(position)):
        raise RestoreError(
            f"could not understand the position {position}", hint="write FILE:POSITION or a GTID, such as 0-1-100"
        )


class _Log:
    """The files from a backup on, as they were fetched."""

    def __init__(self, paths: list[Path], start: int, *, archived_until: datetime) -> None:
        self.paths = paths
        self._archived_until = archived_until
        self._ends = [
            (number, end, at)
            for number, path in enumerate(paths)
            for end, at in commits(path, start if number == 0 else 0)
        ]

    def last(self) -> datetime | None:
        return max((at for _, _, at in self._ends), default=None)

    def until(self, moment: datetime, arguments: list[str]) -> Replay:
        """Stop at a moment. Those in the log are whole seconds: the one that it lies in is replayed to its end."""
        before = moment.replace(microsecond=0) + timedelta(seconds=1 if moment.microsecond else 0)
        last = self.last()
        if moment > self._archived_until and (last is None or last < before):
            raise RestoreError(
                f"could not recover to {moment}: the binlog is archived up to {self._archived_until}",
                hint="recover to the latest by leaving the moment out",
            )
        stop = f"--stop-datetime={before.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        reached = max((at for _, _, at in self._ends if at < before), default=None)
        return Replay(tuple(self.paths), (*arguments, stop), reached)

    def up_to(self, position: int, arguments: list[str]) -> Replay:
        """Stop at a position in the last file."""
        size = self.paths[-1].stat().st_size
        if position > size:
            raise RestoreError(
                f"could not recover to {self.paths[-1].name}:{position}: it is archived up to {size}",
                hint="recover to the latest by leaving the position out",
            )
        final = len(self.paths) - 1
        reached = max((at for number, end, at in self._ends if number < final or end <= position), default=None)
        return Replay(tuple(self.paths), (*arguments, f"--stop-position={position}"), reached)


def _from(nodes: Sequence[Node], saved: Manifest) -> list[Node]:
    """Give the files from the backup's position on, without a gap."""
    start = BinlogName.parse(saved.position.partition(":")[0])
    if start is None:
        return []
    found = {name: node for node in nodes if (name := BinlogName.parse(as_text(node.name))) and name >= start}
    names = sorted(name for name in found if name.base == start.base)
    if names and names[0] != start:
        raise LogIncomplete(_gap(start.text))
    if missing := first_missing(name.text for name in names):
        raise LogIncomplete(_gap(missing))
    return [found[name] for name in names]


def _gap(name: str) -> str:
    return f"could not replay the binlog: {name} is missing"


def _up_to(nodes: list[Node], name: str) -> list[Node]:
    names = [as_text(node.name) for node in nodes]
    if name not in names:
        raise RestoreError(f"could not replay the binlog: {name} is missing, or lies before the snapshot")
    return nodes[: names.index(name) + 1]
