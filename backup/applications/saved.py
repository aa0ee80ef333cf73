"""What the snapshots of a database hold, read from the repository without restoring them."""

from backup.applications.base import RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.errors import CorruptData, SnapshotMissing
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.walking import locate


def manifest_of(repository: Repository, job: str, snapshot: Snapshot) -> Manifest:
    """Read the manifest of a job's snapshot; the index must be loaded. Raises SnapshotMissing, CorruptData."""
    node = locate(repository, snapshot, f"/{job}/{FILE_NAME}").node
    if node is None or node.content is None:
        raise CorruptData(f"could not read the manifest of snapshot {snapshot.short_id}: it is no file")
    try:
        return Manifest.from_json(b"".join(repository.load_blob(BlobKind.DATA, blob) for blob in node.content))
    except ValueError as error:
        raise CorruptData(f"could not read the manifest of snapshot {snapshot.short_id}: {error}") from None


def job_of(snapshot: Snapshot) -> str:
    """Name the job that made a snapshot; empty for one of another program."""
    return next((tag.removeprefix("job:") for tag in snapshot.tags if tag.startswith("job:")), "")


def newest_before(repository: Repository, job: str, target: RecoveryTarget) -> Snapshot:
    """Find the newest snapshot of a database from which ``target`` can be reached. Raises SnapshotMissing."""
    mine = [snapshot for snapshot in repository.snapshots() if job_of(snapshot) == job and not snapshot.is_log]
    for snapshot in reversed(mine):
        if target.moment is None or (
            snapshot.time <= target.moment and manifest_of(repository, job, snapshot).taken_at <= target.moment
        ):
            return snapshot
    raise SnapshotMissing(
        f"could not find a snapshot of job {job} from before {target.moment:%Y-%m-%d %H:%M:%S}"
        if target.moment
        else f"could not find a snapshot of job {job}",
        hint=f"`keepwatch snapshots --job {job}` lists what there is",
    )
