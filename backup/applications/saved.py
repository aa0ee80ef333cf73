"""What the snapshots of databases hold, read from the repository without restoring them.

A job that saves one database has it in the folder of its name; a group has a folder for each member, and says in
``JOB.manifest.json`` which they are, and of which moment each is.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from backup.applications.base import RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.errors import CorruptData, SnapshotMissing
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.wal.names import log_name
from backup.walking import locate


@dataclass(frozen=True, slots=True)
class SavedDatabase:
    """One database in a snapshot."""

    folder: str
    """The job's or the member's name: where it lies."""
    log: str
    """What its log is called, if it has one."""
    manifest: Manifest


def databases_in(repository: Repository, snapshot: Snapshot) -> list[SavedDatabase]:
    """Find the databases in a snapshot of a job; the index must be loaded. Raises CorruptData."""
    job = job_of(snapshot)
    if not job:
        return []
    places = {member: log_name(job, member) for member in group_in(repository, snapshot)} or {job: job}
    found = []
    for folder, log in places.items():
        if f"/{folder}" in snapshot.paths:
            with suppress(SnapshotMissing):  # files that lie there, or a command's output
                found.append(SavedDatabase(folder, log, manifest_of(repository, folder, snapshot)))
    return found


def group_in(repository: Repository, snapshot: Snapshot) -> dict[str, datetime]:
    """Read of which moment each member of a group is; empty for another job. Raises CorruptData."""
    path = f"/{job_of(snapshot)}.manifest.json"
    try:
        found = json.loads(_content(repository, snapshot, path))
        if found["kind"] != "group":
            return {}
        return {name: datetime.fromisoformat(told["first"]) for name, told in found["members"].items()}
    except SnapshotMissing:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"could not read {path} of snapshot {snapshot.short_id}: {error}") from None


def manifest_of(repository: Repository, folder: str, snapshot: Snapshot) -> Manifest:
    """Read the manifest of one database; the index must be loaded. Raises SnapshotMissing, CorruptData."""
    try:
        return Manifest.from_json(_content(repository, snapshot, f"/{folder}/{FILE_NAME}"))
    except ValueError as error:
        raise CorruptData(f"could not read the manifest of snapshot {snapshot.short_id}: {error}") from None


def _content(repository: Repository, snapshot: Snapshot, path: str) -> bytes:
    node = locate(repository, snapshot, path).node
    if node is None or node.content is None:
        raise CorruptData(f"could not read {path} of snapshot {snapshot.short_id}: it is no file")
    return b"".join(repository.load_blob(BlobKind.DATA, blob) for blob in node.content)


def job_of(snapshot: Snapshot) -> str:
    """Name the job that made a snapshot; empty for one of another program."""
    return next((tag.removeprefix("job:") for tag in snapshot.tags if tag.startswith("job:")), "")


def newest_before(repository: Repository, job: str, target: RecoveryTarget) -> Snapshot:
    """Find the newest snapshot of databases from which ``target`` can be reached. Raises SnapshotMissing."""
    mine = [snapshot for snapshot in repository.snapshots() if job_of(snapshot) == job and not snapshot.is_log]
    for snapshot in reversed(mine):
        if target.moment is None or (
            snapshot.time <= target.moment
            and all(saved.manifest.taken_at <= target.moment for saved in databases_in(repository, snapshot))
        ):
            return snapshot
    raise SnapshotMissing(
        f"could not find a snapshot of job {job} from before {target.moment:%Y-%m-%d %H:%M:%S}"
        if target.moment
        else f"could not find a snapshot of job {job}",
        hint=f"`keepwatch snapshots --job {job}` lists what there is",
    )
