"""What tests of sources do: save one, bring it back."""

from pathlib import Path
from typing import Any

from backup.archiver import BackupReport, backup
from backup.repository import Repository
from backup.restore_plan import plan_restore
from backup.restorer import execute_restore
from backup.sources.base import Source


def save(repository: Repository, made: Source, job: str, **more: Any) -> BackupReport:
    """Back a source up in this process."""
    return backup(repository, made, job=job, host="erp-1", clock=repository.clock, workers=0, **more)


def bring_back(repository: Repository, report: BackupReport, target: Path, name: str) -> Path:
    """Restore a snapshot below ``target``; gives the folder ``name`` in it."""
    repository.load_index()
    plan = plan_restore(repository, repository.load_snapshot(report.snapshot_id), target)
    assert execute_restore(plan, repository, workers=0).problems == ()
    return target / name
