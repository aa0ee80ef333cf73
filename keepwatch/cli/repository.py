"""Commands on one repository: snapshots, ls, verify, forget, prune, unlock.

They work on any restic repository, configured or given by ``--repository-url`` and ``--password-file``.
"""

from datetime import UTC, timedelta, tzinfo
from typing import Annotated

import typer

from backup.catalog import Catalog
from backup.forget import all_together, execute_forget, plan_forget
from backup.listing import walk
from backup.lock import execute_unlock, plan_unlock
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.verify import verify as verify_repository
from config.units import format_size
from keepwatch.cli.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    PasswordOption,
    RepositoryOption,
    Setup,
    SnapshotArgument,
    StateOption,
    UrlOption,
    exit_status,
)
from keepwatch.cli.output import moment, note, print_json, print_table
from keepwatch.clock import now
from keepwatch.repositories import open_repository
from keepwatch.runs import proven_snapshots, remember

_REPOSITORY_CODES = "0 done; 1 failed; 2 usage or configuration; 10 no repository; 11 locked; 12 wrong password"
LOCK_WAIT = timedelta(minutes=1)
"""How long a command waits for somebody else's lock."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (snapshots, "keepwatch snapshots --json"),
        (ls, "keepwatch ls latest /etc"),
        (verify, "keepwatch verify --read-data"),
        (forget, "keepwatch forget --dry-run"),
        (prune, "keepwatch prune --dry-run"),
        (unlock, "keepwatch unlock"),
    ):
        app.command(command.__name__, epilog=exit_status(example, _REPOSITORY_CODES))(command)


def open_chosen(setup: Setup, name: str | None, url: str | None, password_file: PasswordOption) -> Repository:
    """Open the repository that the options mean."""
    return open_repository(setup.repository(name, url, password_file), clock=now)


def zone_of(setup: Setup, url: str | None) -> tzinfo:
    """Return the zone to show moments in; UTC for a repository that no configuration knows."""
    return UTC if url else setup.settings.daemon.zone


def snapshots(
    repository: RepositoryOption = None,
    job: Annotated[str | None, typer.Option(help="Only this job's.", show_default=False)] = None,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """List the snapshots of a repository, newest last."""
    setup = Setup(config, state_dir)
    opened = open_chosen(setup, repository, repository_url, password_file)
    found = [s for s in opened.snapshots() if job is None or f"job:{job}" in s.tags]
    if as_json:
        print_json(found)
        return
    zone = zone_of(setup, repository_url)
    rows = [
        (
            s.id[:8],
            moment(s.time, zone),
            s.hostname,
            ",".join(s.tags),
            s.summary.total_files_processed if s.summary else "",
            format_size(s.summary.total_bytes_processed) if s.summary else "",
            " ".join(s.paths),
        )
        for s in found
    ]
    print_table(("id", "taken", "host", "tags", "files", "size", "paths"), rows, empty="no snapshots yet")


def ls(
    snapshot: SnapshotArgument,
    path: Annotated[str, typer.Argument(help="Only what lies below this path.")] = "/",
    job: Annotated[str | None, typer.Option(help="With latest: of this job.", show_default=False)] = None,
    repository: RepositoryOption = None,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """List the files of a snapshot."""
    setup = Setup(config, state_dir)
    opened = open_chosen(setup, repository, repository_url, password_file)
    with opened.lock(retry_for=LOCK_WAIT):
        opened.load_index()
        chosen = opened.find_snapshot(snapshot, tags=[f"job:{job}"] if job else [])
        entries = walk(opened, chosen, below=path)
        if as_json:
            print_json(list(entries))
            return
        for entry in entries:
            print(entry.line(zone_of(setup, repository_url)))


def verify(
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and check every byte of every pack.")] = False,
    repository: RepositoryOption = None,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> int:
    """Check a repository's consistency: a superset of `restic check`. Exit 4 when something is damaged."""
    setup = Setup(config, state_dir)
    opened = open_chosen(setup, repository, repository_url, password_file)
    with opened.lock(exclusive=True, retry_for=LOCK_WAIT):
        findings = list(verify_repository(opened, read_data=read_data))
    if as_json:
        print_json(findings)
    else:
        rows = [(f.severity, f.code, f.subject, f.message) for f in findings]
        print_table(("severity", "code", "subject", "message"), rows, empty="no errors were found")
    return 4 if any(f.severity == "error" for f in findings) else 0


def forget(
    job: Annotated[str | None, typer.Option(help="Which job's policy to apply; all with one by default.")] = None,
    repository: RepositoryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Drop the snapshots that no keep rule wants. The space comes back with `keepwatch prune`."""
    setup = Setup(config, state_dir)
    name = setup.repository_name(repository)
    opened = open_repository(setup.settings.repositories[name], clock=now)
    for job_name in setup.jobs([job] if job else None):
        settings = setup.settings.jobs[job_name]
        if settings.keep is None or name not in settings.repositories:
            note(f"{job_name}: no keep policy for {name}, everything stays")
            continue
        _forget_job(setup, opened, job_name, name, dry_run=dry_run, as_json=as_json)


def _forget_job(setup: Setup, opened: Repository, job: str, name: str, *, dry_run: bool, as_json: bool) -> None:
    """Plan, show and, unless ``dry_run``, drop the snapshots of one job."""
    zone = setup.settings.daemon.zone
    with Catalog(setup.state.backup_db) as catalog, opened.lock(exclusive=not dry_run, retry_for=LOCK_WAIT):
        plan = plan_forget(
            opened, setup.settings.jobs[job].keep, now(), tags=[f"job:{job}"], group_by=all_together, zone=zone,
            proven=proven_snapshots(catalog, name),
        )  # fmt: skip
        if as_json:
            print_json(plan)
        else:
            rows = []
            for decision in (decision for group in plan.groups for decision in group.decisions):
                what, snapshot = "keep" if decision.keep else "forget", decision.snapshot
                rows.append((what, snapshot.short_id, moment(snapshot.time, zone), ", ".join(decision.reasons)))
            print_table((job, "id", "taken", "why"), rows, empty=f"{job}: no snapshots yet")
        if not dry_run:
            removed = execute_forget(opened, plan)
            remember(opened, name, catalog, now)
            note(f"{job}: {len(removed)} forgotten, {len(plan.kept)} kept")


def prune(
    repository: RepositoryOption = None,
    dry_run: DryRunOption = False,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Give back the space of data that no snapshot needs any more."""
    setup = Setup(config, state_dir)
    opened = open_chosen(setup, repository, repository_url, password_file)
    with opened.lock(exclusive=True, retry_for=LOCK_WAIT):
        plan = plan_prune(opened)
        if dry_run:
            print_json(plan) if as_json else print(plan)
            return
        report = execute_prune(opened, plan)
    print_json(report) if as_json else print(report)


def unlock(
    remove_all: Annotated[bool, typer.Option("--remove-all", help="Also locks that are in use. Be sure.")] = False,
    repository: RepositoryOption = None,
    dry_run: DryRunOption = False,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Remove locks that crashed programs left behind."""
    setup = Setup(config, state_dir)
    opened = open_chosen(setup, repository, repository_url, password_file)
    table = opened.lock_table()
    plan = plan_unlock(table, everything=remove_all)
    for lock, reason in plan.removed:
        print(f"{'would remove' if dry_run else 'removed'} {lock}: {reason}")
    for lock in plan.kept:
        print(f"kept {lock}: it is in use")
    if not dry_run:
        execute_unlock(table, plan)
