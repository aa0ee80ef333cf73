"""The last rungs of a drill: the application runs on what came back, and is asked whether it is what was saved.

Every failure names what failed: a table, a file, an assertion. What this machine lacks (a program, room, time) is no
failure of the backup and is raised as RestoreError.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from backup.applications.base import Application, RecoveryTarget, Running
from backup.applications.manifest import FILE_NAME, Manifest, differences
from backup.drills.assertions import Assertion, judge, run_command
from backup.errors import ApplicationError, RestoreError
from backup.repository import Repository
from config.said import Said


@dataclass(slots=True)
class Outcome:
    """What an application said."""

    recovering_seconds: float = 0.0
    """Until it answered; part of the measured recovery time."""
    reached_at: datetime | None = None
    """Commit moment of the newest transaction that is there."""
    proofs: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """What failed, and why."""
    planted: str = ""
    """What a fault that was planted in it was done to."""


def bring_up(
    application: Application,
    repository: Repository,
    folder: Path,
    *,
    workspace: Path,
    target: RecoveryTarget | None,
    assertions: Sequence[Assertion],
    clock: Callable[[], datetime],
    timeout_seconds: float,
    plant: str | None,
    tell: Callable[[str], None],
) -> Outcome:
    """Recover, start and ask one application on the restored ``folder``; ``tell`` hears each phase's name.

    Without a ``target`` it is the snapshot that runs, and has to be what was counted when it was saved. Once a log was
    replayed only the log knows what the counts should be: then they are told, and prove nothing.
    ``plant`` is damage to be done once it runs. Raises RestoreError when this machine cannot run it, or the records to
    recover with cannot be had.
    """
    if application.missing:
        raise RestoreError(f"could not start the application: {application.missing}", hint="install it on this machine")
    outcome = Outcome()
    saved = _manifest(folder)
    began = time.monotonic()
    tell("recovering")
    if target is not None:
        application.recover(repository, folder, target)
    tell("starting")
    try:
        with application.start(folder, workspace=workspace, timeout_seconds=timeout_seconds) as running:
            outcome.recovering_seconds = time.monotonic() - began
            tell("asking")
            if plant:
                outcome.planted = _plant(running, plant, folder)
            _ask(running, saved, assertions, folder, clock(), outcome, replayed=target is not None)
    except ApplicationError as error:
        outcome.failures.append((folder.name, str(error)))
    return outcome


def _plant(running: Running, fault: str, folder: Path) -> str:
    try:
        return running.plant(fault)
    except ValueError as error:
        raise RestoreError(f"could not plant a fault in {folder.name}: {error}") from None


def run_commands(assertions: Sequence[Assertion], restored: Path) -> Outcome:
    """Judge assertions on files that no application of ours runs on."""
    outcome = Outcome()
    for assertion in assertions:
        _note(outcome, assertion, run_command(assertion, restored, {}, without_network()))
    return outcome


@cache
def without_network() -> tuple[str, ...]:
    """Return what to put before a command to run it in a network of its own; empty where the kernel refuses."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    for way in ((unshare, "--net"), (unshare, "--user", "--map-current-user", "--net")):
        if os.geteuid() != 0 and "--user" not in way:
            continue
        done = subprocess.run([*way, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode == 0:
            return way
    return ()


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.from_json((folder / FILE_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ApplicationError(f"{folder.name}/{FILE_NAME}: {error}") from None


def _ask(
    running: Running,
    saved: Manifest | None,
    assertions: Sequence[Assertion],
    folder: Path,
    now: datetime,
    outcome: Outcome,
    *,
    replayed: bool,
) -> None:
    outcome.reached_at = running.reached_at
    outcome.failures += [(folder.name, problem) for problem in running.integrity()]
    if saved is not None:
        found = running.manifest()
        if replayed:
            text = "%(server)s runs on it: %(tables)s tables, %(rows)s rows after the log was replayed"
        else:
            outcome.failures += [(folder.name, problem) for problem in differences(saved, found)]
            text = "%(server)s runs on it: %(tables)s tables, %(rows)s rows, none missing"
        server, tables = f"{found.kind} {found.version}", len((found if replayed else saved).tables)
        outcome.proofs.append(Said(text, server=server, tables=tables, rows=found.rows))
    for assertion in assertions:
        if assertion.sql:
            _note(outcome, assertion, judge(assertion, running, now))
        else:
            _note(outcome, assertion, run_command(assertion, folder, running.environment, without_network()))


def _note(outcome: Outcome, assertion: Assertion, fault: str) -> None:
    if fault:
        outcome.failures.append(("assertion", fault))
    else:
        outcome.proofs.append(Said("holds: %(what)s", what=str(assertion)))
