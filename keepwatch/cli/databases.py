"""What ``restore`` does beyond files: brings a database to a moment, or loads dumps into a server that runs."""

import os
import pwd
from datetime import datetime, tzinfo
from pathlib import Path

from backup.applications.base import LATEST, Application, RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.applications.redis import RedisApplication
from backup.applications.saved import job_of, manifest_of, newest_before
from backup.applications.sqlite import SqliteApplication
from backup.errors import SnapshotMissing
from backup.repository import Repository
from backup.snapshot import Snapshot
from keepwatch.cli.contents import choose
from keepwatch.errors import UsageError

_USERS = {"postgres": "postgres", "mariadb": "mysql", "redis": "redis"}
"""Who owns a server's data on most machines."""


def target_of(until: str | None, name: str | None, position: str | None, zone: tzinfo) -> RecoveryTarget:
    """Return what the options say. Raises UsageError."""
    if sum(option is not None for option in (until, name, position)) > 1:
        raise UsageError("give one of --until, --until-name and --until-position")
    if until is None:
        return RecoveryTarget(name=name, position=position)
    try:
        moment = datetime.fromisoformat(until)
    except ValueError:
        raise UsageError(
            f"could not understand --until {until}", hint="write it as 2026-03-01T12:00:00, in the daemon's zone"
        ) from None
    return RecoveryTarget(moment=moment if moment.tzinfo else moment.replace(tzinfo=zone))


def choose_to_reach(
    opened: Repository, reference: str, job: str | None, target: RecoveryTarget
) -> tuple[Snapshot, str]:
    """Choose as ``choose`` does, but with a moment the newest snapshot from before it. Raises SnapshotMissing."""
    if reference == "latest" and job and target.moment is not None:
        return newest_before(opened, job, target), "/"
    return choose(opened, reference, job)


def database_in(opened: Repository, snapshot: Snapshot) -> Manifest | None:
    """Read the manifest of a snapshot of a database; None for one of anything else."""
    job = job_of(snapshot)
    if not job or f"/{job}" not in snapshot.paths:
        return None
    try:
        return manifest_of(opened, job, snapshot)
    except SnapshotMissing:
        return None


def application_of(manifest: Manifest, job: str) -> Application | None:
    """Return what recovers such data; None where nothing has to be done after the files are there."""
    match manifest.kind:
        case "postgres":
            from backup.applications.postgres import PostgresApplication
            from config.postgres import PostgresSource

            settings = {"type": "postgres", "dsn": "dbname=postgres"}
            return PostgresApplication(job, PostgresSource.model_validate(settings))
        case "mariadb":
            from backup.applications.mariadb import MariaDbApplication

            return MariaDbApplication(job)
        case "sqlite":
            return SqliteApplication()
        case "redis":
            return RedisApplication()
    return None


def recover(opened: Repository, snapshot: Snapshot, target: Path, until: RecoveryTarget) -> str:
    """Recover what was restored below ``target``; gives what to do now, for people. Raises RestoreError, UsageError."""
    job = job_of(snapshot)
    folder = target / job
    manifest = database_in(opened, snapshot)
    application = application_of(manifest, job) if manifest else None
    if manifest is None or application is None or not (folder / FILE_NAME).exists():
        if until != LATEST:
            raise UsageError(f"snapshot {snapshot.short_id} holds no database that could be brought to a moment")
        return ""
    application.recover(opened, folder, until)
    if manifest.kind in ("postgres", "mariadb") and not (folder / "data").exists():
        return f"load it with: keepwatch restore {snapshot.short_id} --into DSN"
    _hand_over(folder, _USERS.get(manifest.kind, ""))
    return _advice(manifest, folder)


def _advice(manifest: Manifest, folder: Path) -> str:
    match manifest.kind:
        case "postgres":
            return f"start it with: pg_ctl -D {folder / 'data'} start (PostgreSQL {manifest.details.get('major')})"
        case "mariadb":
            return f"start it with: mariadbd --datadir={folder / 'data'} (MariaDB {manifest.version})"
        case "redis":
            return f"start it with: redis-server --dir {folder} (Redis {manifest.version})"
    return f"it is whole: {folder / str(manifest.details.get('file', ''))}"


def load_into(opened: Repository, snapshot: Snapshot, place: Path, dsn: str) -> str:
    """Load dumps restored below ``place`` into the server that ``dsn`` names; gives what was done, for people.

    Raises RestoreError, SourceError, UsageError.
    """
    manifest = database_in(opened, snapshot)
    if manifest is None or manifest.kind not in ("postgres", "mariadb") or manifest.details["method"] != "logical":
        raise UsageError(f"snapshot {snapshot.short_id} holds no dumps that --into could load")
    if manifest.kind == "mariadb":
        from backup.applications import mariadb_loading

        loaded = mariadb_loading.load(mariadb_loading.server_at(dsn), place / job_of(snapshot), manifest)
        return f"databases loaded: {', '.join(loaded)}"
    from backup.applications.postgres_connection import Server
    from backup.applications.postgres_loading import load

    loaded = load(Server.parse(dsn), place / job_of(snapshot), manifest, jobs=max(2, os.cpu_count() or 1))
    return f"databases loaded: {', '.join(loaded)}"


def _hand_over(folder: Path, name: str) -> None:
    """Give a data directory to the user that its server runs as, where root restores: a server refuses others'."""
    if os.geteuid() != 0 or not name:
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
