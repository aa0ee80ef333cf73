"""The fourth question: are the records whole, and is none missing or late? Databases, evidence, duties, alerts.

Reads only: databases are opened read-only, and a damaged one is named, not set aside.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from backup.errors import BackupError
from backup.journal import Journal
from config.wording import counted
from keepwatch import bridge
from keepwatch.diagnose.answer import Answer, note, ok, problem, unknown
from keepwatch.state import StateDirectory
from keepwatch.view import View
from monitor.result import Status


def records(state: StateDirectory, view: View | None, now: datetime) -> Iterator[Answer]:
    """Answer for both databases, both chains of evidence, what is late, and what fires. ``view`` None: unreadable."""
    yield database(state.monitor_db)
    yield database(state.backup_db)
    yield chain(state.journal)
    yield chain(state.plan_log)
    if state.is_locked("daemon"):
        yield ok("daemon", "it runs")
    else:
        yield problem("daemon", "it does not run, so nothing is checked or backed up", "systemctl start keepwatch")
    if view is None:
        yield unknown("ledger", "it could not be read; see above")
        return
    yield from _late(view, now)
    firing = [alert for alert in view.alerts if alert.state in ("firing", "recovering")]
    for alert in firing:
        yield note(f"alert {alert.check} {alert.entity}".strip(), f"{alert.severity}: {alert.message}")
    if view.config_problem:
        yield problem("configuration", view.config_problem)


def database(path: Path) -> Answer:
    """Judge an SQLite file by its own integrity check."""
    if not path.exists():
        return note(path.name, f"{path} is not there yet", "it is made at the daemon's first start")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        return problem(path.name, f"{path} cannot be read: {error}", "the daemon sets a damaged one aside by itself")
    if found != ["ok"]:
        return problem(path.name, f"{path} is damaged: {'; '.join(found)}", "restart the daemon, which sets it aside")
    return ok(path.name, f"whole, {path.stat().st_size} bytes")


def chain(path: Path) -> Answer:
    """Judge a hash-chained file."""
    try:
        found = Journal(path).verify()
    except BackupError as error:
        return problem(path.name, str(error))
    if found.broken_line is not None:
        return problem(path.name, f"line {found.broken_line}: {found.problem}", "the lines before it are sound")
    return ok(path.name, f"{counted(found.lines, 'line')}, unbroken")


def _late(view: View, now: datetime) -> Iterator[Answer]:
    """Judge every promise as the daemon does."""
    late = 0
    for result in bridge.results(view.jobs, view.repositories, {}, now):
        if result.status is not Status.OK:
            late += 1
            yield problem(f"{result.check} {result.entity}".strip(), result.message)
    for plan in view.plans:
        for finding in plan.findings:
            late += 1
            yield problem(f"plan {plan.name}", finding)
    if not late:
        yield ok("backups, drills, verifications, plans", "none is missing or late")
    stale = [run for run in view.runs if run.outcome == "running"]
    for run in stale:
        yield note(f"run {run.id}", f"{run.kind} of {run.job or run.repository} runs since {run.started_at:%H:%M} UTC")
