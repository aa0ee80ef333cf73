"""Brings a base backup to a moment: its tablespaces, its WAL, and what the server is to be told of how far to go.

Everything lies in the data directory itself, by names that stay true when it is moved: WAL in ``keepwatch_wal``, which
the server removes when it has recovered, targets in ``postgresql.auto.conf``.
"""

from pathlib import Path

from backup.applications.base import LATEST, Record, RecoveryTarget
from backup.applications.manifest import Manifest
from backup.errors import RestoreError
from backup.repository import Repository

ARCHIVE = "keepwatch_wal"


def records(_repository: Repository, _job: str, _manifest: Manifest) -> list[Record]:
    """Name the WAL segments from the base backup's start on."""
    return []


def recover(
    _repository: Repository, _job: str, folder: Path, manifest: Manifest, target: RecoveryTarget, _programs: Path | None
) -> None:
    """Fetch what is needed to reach ``target``."""
    if manifest.details.get("method") == "logical":
        if target != LATEST:
            raise RestoreError("could not recover dumps to a moment: they hold the one at which they were taken")
        return
    prepare(folder, manifest)
    if target != LATEST:
        raise RestoreError("could not recover: no WAL")


def prepare(folder: Path, manifest: Manifest) -> None:
    """Make a data directory that a server accepts: its permissions, its tablespaces beside it."""
    data = folder / "data"
    data.chmod(0o700)
    (data / "standby.signal").unlink(missing_ok=True)
    tablespaces = manifest.details.get("tablespaces") or {}
    for oid in tablespaces:
        link = data / "pg_tblspc" / oid
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../tablespaces/{oid}")
    if tablespaces and (data / "backup_label").exists():
        (data / "tablespace_map").write_text("".join(f"{oid} ../../tablespaces/{oid}\n" for oid in tablespaces))
