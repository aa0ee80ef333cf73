"""Commands on one repository: snapshots, verify, forget, prune, unlock.

They work on any restic repository, configured or given by ``--repository-url`` and ``--password-file``.
"""

from contextlib import nullcontext
from typing import Annotated

import typer

from backup.catalog import Catalog
from backup.forget import all_together, execute_forget, plan_forget
from backup.lock import execute_unlock, plan_unlock
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.verify import Finding
from backup.verify import verify as verify_repository
from config.units import format_size
from config.wording import counted
from keepwatch.cli.mounting import mount
from keepwatch.cli.opening import LOCK_WAIT, ChosenRepository, NoLockOption
from keepwatch.cli.options import DryRunOption, JobOption, JsonOption, RepositoryOption, Setup
from keepwatch.cli.output import ProgressPrinter, moment, note, print_json, print_table
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.guarding import refuse_tagged, require_agreement
from keepwatch.remembering import proven_snapshots, remember
from keepwatch.repositories import open_repository
from keepwatch.verifying import Portion, verify_and_remember

_REPOSITORY_CODES = "0 done; 1 failed; 2 usage or configuration; 10 no repository; 11 locked; 12 wrong password"
InSpiteOption = Annotated[
    bool, typer.Option("--in-spite-of-guard", help="Even while a suspicious snapshot waits for agreement.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (snapshots, "keepwatch snapshots --json"),
        (verify, "keepwatch verify --read-data"),
        (forget, "keepwatch forget --dry-run"),
        (prune, "keepwatch prune --dry-run"),
        (unlock, "keepwatch unlock"),
    ):
        codes = _REPOSITORY_CODES.replace("; 10", "; 4 damaged; 10") if command is verify else _REPOSITORY_CODES
        mount(app, command, example, codes)


def snapshots(repository: ChosenRepository, job: JobOption = None, as_json: JsonOption = False) -> None:
    """List the snapshots of a repository, newest last."""
    opened = repository.open()
    found = [s for s in opened.snapshots() if not s.is_log and (job is None or f"job:{job}" in s.tags)]
    if as_json:
        print_json(found)
        return
    zone = repository.zone
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


def verify(
    repository: ChosenRepository,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and check every byte of every pack.")] = False,
    read_some: Annotated[
        bool, typer.Option("--read-some", help="Read the packs that were not verified for longest.")
    ] = False,
    no_lock: NoLockOption = False,
    as_json: JsonOption = False,
) -> int:
    """Check a repository's consistency: a superset of `restic check`. Exit 4 when something is damaged.

    What is read of a configured repository is remembered, and shown on the page.
    """
    opened = repository.open()
    with nullcontext() if no_lock else opened.lock(exclusive=True, retry_for=LOCK_WAIT):
        if repository.url:
            if read_some:
                raise UsageError("--read-some needs to remember what was read", hint="use --read-data with a URL")
            findings = tuple(verify_repository(opened, read_data=read_data))
        else:
            some = Portion.SOME if read_some else Portion.DAMAGED
            findings = _verify_known(repository, opened, Portion.ALL if read_data else some, as_json=as_json)
    if as_json:
        print_json(findings)
    else:
        rows = [(f.severity, f.code, f.subject, f.message) for f in findings]
        print_table(("severity", "code", "subject", "message"), rows, empty="no errors were found")
    return 4 if any(f.severity == "error" for f in findings) else 0


def _verify_known(
    repository: ChosenRepository, opened: Repository, portion: Portion, *, as_json: bool
) -> tuple[Finding, ...]:
    """Verify a configured repository and remember it as a scheduled run does."""
    setup, name = repository.setup, repository.setup.repository_name(repository.repository)
    printer = ProgressPrinter(as_json=as_json)
    try:
        with Catalog(setup.state.backup_db) as catalog:
            found = verify_and_remember(
                opened, name, setup.settings.repositories[name], catalog, portion, zone=setup.settings.daemon.zone,
                clock=now, progress=printer,
            )  # fmt: skip
    finally:
        printer.close()
    if found.packs_read:
        note(f"{counted(found.packs_read, 'pack')}, {format_size(found.bytes_read)}, read")
    return found.findings


def forget(
    setup: Setup,
    job: Annotated[str | None, typer.Option(help="Which job's policy to apply; all with one by default.")] = None,
    repository: RepositoryOption = None,
    dry_run: DryRunOption = False,
    in_spite_of_guard: InSpiteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop the snapshots that no keep rule wants. The space comes back with `keepwatch prune`.

    Refuses while a suspicious snapshot of the job waits for `keepwatch agree`.
    """
    name = setup.repository_name(repository)
    opened = open_repository(setup.settings.repositories[name], clock=now, zone=setup.settings.daemon.zone)
    for job_name in setup.jobs([job] if job else None):
        settings = setup.settings.jobs[job_name]
        if settings.keep is None or name not in settings.repositories:
            note(f"{job_name}: no keep policy for {name}, everything stays")
            continue
        guarded = not (dry_run or in_spite_of_guard)
        _forget_job(setup, opened, job_name, name, dry_run=dry_run, guarded=guarded, as_json=as_json)


def _forget_job(
    setup: Setup, opened: Repository, job: str, name: str, *, dry_run: bool, guarded: bool, as_json: bool
) -> None:
    """Plan, show and, unless ``dry_run``, drop the snapshots of one job."""
    zone = setup.settings.daemon.zone
    place = setup.recorded if dry_run else setup.state
    with Catalog(place.backup_db, to_read=dry_run) as catalog, opened.lock(exclusive=not dry_run, retry_for=LOCK_WAIT):
        if guarded:
            require_agreement(catalog, opened, name, job)
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
    repository: ChosenRepository,
    dry_run: DryRunOption = False,
    in_spite_of_guard: InSpiteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give back the space of data that no snapshot needs any more.

    Refuses while a suspicious snapshot in the repository waits for `keepwatch agree`.
    """
    opened = repository.open()
    with opened.lock(exclusive=True, retry_for=LOCK_WAIT, load_index=True):
        if not (dry_run or in_spite_of_guard):
            _require_agreement(repository.setup, opened, repository.name)
        plan = plan_prune(opened)
        if not dry_run:
            report = execute_prune(opened, plan)
    if as_json:
        print_json(plan if dry_run else report)
    elif dry_run:
        gone, moved = len(plan.deleted) + len(plan.orphans), len(plan.rewritten)
        freed = format_size(plan.freed_bytes)
        print(f"{freed} would be given back; {counted(gone, 'pack')} removed, {moved} rewritten")
    else:
        print(
            f"{format_size(report.freed_bytes)} given back; {counted(report.deleted_packs, 'pack')} removed,"
            f" {report.rewritten_packs} rewritten"
        )


def _require_agreement(setup: Setup, opened: Repository, name: str | None) -> None:
    """Refuse to prune while a suspicion is open; whether somebody agreed is known of configured repositories only."""
    if name is None:
        refuse_tagged(opened)
        return
    with Catalog(setup.state.backup_db) as catalog:
        require_agreement(catalog, opened, name)


def unlock(
    repository: ChosenRepository,
    remove_all: Annotated[bool, typer.Option("--remove-all", help="Also locks that are in use. Be sure.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove locks that crashed programs left behind."""
    opened = repository.open()
    table = opened.lock_table()
    plan = plan_unlock(table, everything=remove_all)
    for lock, reason in plan.removed:
        print(f"{'would remove' if dry_run else 'removed'} {lock}: {reason}")
    for lock in plan.kept:
        print(f"kept {lock}: it is in use")
    if not plan.removed and not plan.kept:
        note("there are no locks")
    if not dry_run:
        execute_unlock(table, plan)
