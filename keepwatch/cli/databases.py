"""What ``restore`` does beyond files: brings a database to a moment and hands it to its server's user."""

import os
import pwd
from collections.abc import Mapping
from datetime import datetime, tzinfo
from pathlib import Path

from backup.applications.base import LATEST, Recovery, RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.applications.saved import SavedDatabase, databases_in, group_in, newest_before
from backup.applications.together import Goal, goals
from backup.repository import Repository
from backup.snapshot import Snapshot
from config.units import format_duration
from keepwatch.cli.opening import choose
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


def recovery_of(saved: SavedDatabase) -> Recovery | None:
    """Return what recovers such data; None where nothing has to be done after the files are there."""
    match saved.manifest.kind:
        case "postgres":
            from backup.applications.postgres_recovery import PostgresRecovery

            return PostgresRecovery(saved.log)
        case "mariadb":
            from backup.applications.mariadb import MariaDbApplication

            return MariaDbApplication(saved.log)
        case "sqlite":
            from backup.applications.sqlite import SqliteApplication

            return SqliteApplication()
        case "redis":
            from backup.applications.redis import RedisApplication  # brings psutil

            return RedisApplication()
    return None


def recover(opened: Repository, snapshot: Snapshot, target: Path, until: RecoveryTarget) -> str:
    """Recover what was restored below ``target``; gives what to do now, for people. Raises RestoreError, UsageError."""
    found = [saved for saved in databases_in(opened, snapshot) if (target / saved.folder / FILE_NAME).exists()]
    recoveries = {saved.folder: of for saved in found if (of := recovery_of(saved))}
    if not recoveries:
        if until != LATEST:
            raise UsageError(f"snapshot {snapshot.short_id} holds no database that could be brought to a moment")
        return ""
    group = group_in(opened, snapshot)
    reached = goals(opened, recoveries, target, group, until) if group else {}
    said = []
    for saved in found:
        if saved.folder in recoveries:
            goal = reached[saved.folder].target if group else until
            recoveries[saved.folder].recover(opened, target / saved.folder, goal)
            said.append(_hand_over(saved, snapshot, target / saved.folder))
    return "\n".join([*said, *([_skew(reached)] if group else [])])


def _skew(reached: Mapping[str, Goal]) -> str:
    """Say of which moments the members of a group are now, and how far they lie apart."""
    told, moments = list[str](), list[datetime]()
    for name, goal in sorted(reached.items(), key=lambda item: item[1].at):
        if point := goal.target.name or goal.target.position:
            told.append(f"{name} at {point} by its log")
            continue
        moments.append(goal.at)
        told.append(f"{name} as of {goal.at:%Y-%m-%d %H:%M:%S} UTC{' by its log' if goal.by_log else ''}")
    apart = f"; {format_duration(moments[-1] - moments[0])} apart" if len(moments) == len(told) else ""
    return f"{', '.join(told)}{apart}"


def _hand_over(saved: SavedDatabase, snapshot: Snapshot, folder: Path) -> str:
    """Give a data directory to its server's user; gives what to do with it now."""
    if saved.manifest.kind in ("postgres", "mariadb") and not (folder / "data").exists():
        return f"load {saved.folder} with: keepwatch restore {snapshot.short_id} --into DSN"
    _give_away(folder, _USERS.get(saved.manifest.kind, ""))
    return _advice(saved.manifest, folder)


def _advice(manifest: Manifest, folder: Path) -> str:
    match manifest.kind:
        case "postgres":
            return f"start it with: pg_ctl -D {folder / 'data'} start (PostgreSQL {manifest.details.get('major')})"
        case "mariadb":
            return f"start it with: mariadbd --datadir={folder / 'data'} (MariaDB {manifest.version})"
        case "redis":
            return f"start it with: redis-server --dir {folder} (Redis {manifest.version})"
    return f"it is whole: {folder / str(manifest.details.get('file', ''))}"


def _give_away(folder: Path, name: str) -> None:
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
