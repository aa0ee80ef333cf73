"""The command ``copy``: snapshots from one repository to another."""

from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer

from backup.copying import CopyPlan, execute_copy, plan_copy
from backup.repository import Repository
from config.units import format_size
from config.wording import counted
from keepwatch.cli.mounting import mount
from keepwatch.cli.opening import LOCK_WAIT
from keepwatch.cli.options import DryRunOption, JobOption, JsonOption, QuietOption, Setup
from keepwatch.cli.output import ProgressPrinter, complain, moment, print_json, print_table
from keepwatch.cli.stopping import stop_on_signal
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.orders import Progress
from keepwatch.repositories import open_repository

_CODES = (
    "0 done; 1 failed; 2 usage or configuration; 3 some snapshots could not be copied; 10 no repository; 11 locked;"
    " 12 wrong password; 130 interrupted"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, copy, "keepwatch copy --from local --to offsite --job documents", _CODES)


def copy(
    setup: Setup,
    snapshots: Annotated[
        list[str] | None, typer.Argument(metavar="[SNAPSHOT]...", help="Ids or prefixes; all by default.")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", help="Repository to copy from.", show_default=False)] = None,
    target: Annotated[str | None, typer.Option("--to", help="Repository to copy to.", show_default=False)] = None,
    job: JobOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    from_url: Annotated[str | None, typer.Option(help="In place of --from: any restic repository.")] = None,
    from_password_file: Annotated[Path | None, typer.Option(help="Its password.", show_default=False)] = None,
    to_url: Annotated[str | None, typer.Option(help="In place of --to: any restic repository.")] = None,
    to_password_file: Annotated[Path | None, typer.Option(help="Its password.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> int:
    """Copy snapshots to another repository. What is there already is not copied again, by restic's own signs."""
    origin = _open(setup, "from", source, from_url, from_password_file)
    other = _open(setup, "to", target, to_url, to_password_file, may_create=not dry_run)
    with origin.lock(retry_for=LOCK_WAIT), other.lock(retry_for=LOCK_WAIT):
        origin.load_index()
        other.load_index()
        plan = _plan(origin, other, snapshots, job)
        if dry_run:
            _show(setup, plan, utc=bool(from_url), as_json=as_json)
            return 3 if plan.problems else 0
        printer = ProgressPrinter(as_json=as_json, quiet=quiet)
        with stop_on_signal() as stop:
            try:
                report = execute_copy(
                    plan, origin, other, stop=stop.is_set,
                    progress=lambda p: printer(
                        Progress("copying", p.bytes, p.bytes_expected, p.snapshots, p.snapshots_expected)
                    ),
                )  # fmt: skip
            finally:
                printer.close()
    if as_json:
        print_json(report)
    else:
        print(
            f"{counted(len(report.copied), 'snapshot')} copied, {report.already} were there already:"
            f" {report.blobs} blobs, {format_size(report.bytes)}, {format_size(report.stored_bytes)} stored"
        )
        for problem in report.problems:
            complain(f"{problem.path}: {problem.reason}")
    return 3 if report.problems else 0


def _open(
    setup: Setup, what: str, name: str | None, url: str | None, password_file: Path | None, *, may_create: bool = False
) -> Repository:
    if (name is None) == (url is None):
        raise UsageError(f"which repository to copy {what} is not clear", hint=f"give --{what} or --{what}-url")
    if url and password_file is None:
        raise UsageError(f"--{what}-url needs --{what}-password-file", hint="name a file with the password in it")
    zone = None if url else setup.settings.daemon.zone
    return open_repository(setup.repository(name, url, password_file), clock=now, zone=zone, may_create=may_create)


def _plan(origin: Repository, other: Repository, references: list[str] | None, job: str | None) -> CopyPlan:
    tags = [f"job:{job}"] if job else []
    if references:
        wanted = [origin.find_snapshot(reference, tags=tags) for reference in references]
    else:
        wanted = [snapshot for snapshot in origin.snapshots() if set(tags) <= set(snapshot.tags)]
    return plan_copy(origin, other, list({snapshot.id: snapshot for snapshot in wanted}.values()))


def _show(setup: Setup, plan: CopyPlan, *, utc: bool, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    zone = UTC if utc else setup.settings.daemon.zone
    rows = [
        (what, item.short_id, moment(item.time, zone), item.hostname, " ".join(item.paths))
        for what, group in (("copy", plan.snapshots), ("there", plan.already))
        for item in group
    ]
    print_table(("", "id", "taken", "host", "paths"), rows, empty="no snapshots")
    for problem in plan.problems:
        complain(f"{problem.path}: {problem.reason}")
    print(plan)
