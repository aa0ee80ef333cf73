"""The command ``restore``: plan, show on request, execute."""

from pathlib import Path
from typing import Annotated

import typer

from backup.listing import printable
from backup.overwriting import Overwrite
from backup.previewing import preview
from backup.repository import Repository
from backup.restore_plan import RestorePlan, plan_restore
from backup.restorer import RestoreReport, execute_restore
from backup.tree import as_text
from config.units import format_duration, format_size
from keepwatch.cli.backups import QuietOption, stop_on_signal
from keepwatch.cli.contents import choose, reading
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
from keepwatch.cli.output import ProgressPrinter, complain, print_json
from keepwatch.cli.repository import NoLockOption, open_chosen
from keepwatch.orders import Progress

_CODES = (
    "0 done; 1 failed; 2 usage or configuration; 3 partial; 4 damaged; 10 no repository; 11 locked; 12 wrong password;"
    " 130 interrupted"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "keepwatch restore latest --target /tmp/back --include /etc/ssh"
    app.command("restore", epilog=exit_status(example, _CODES))(restore)


def restore(
    snapshot: SnapshotArgument,
    target: Annotated[Path, typer.Option("--target", help="Where to; created when missing.", show_default=False)],
    include: Annotated[list[str] | None, typer.Option("--include", help="Only this path or pattern.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Not this path or pattern.")] = None,
    job: Annotated[str | None, typer.Option(help="With latest: of this job.", show_default=False)] = None,
    overwrite: Annotated[
        Overwrite, typer.Option(help="What exists: always compares content, if-changed goes by size and time.")
    ] = Overwrite.ALWAYS,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what the snapshot lacks, in included folders only.")
    ] = False,
    sparse: Annotated[bool, typer.Option("--sparse/--no-sparse", help="Leave holes for long runs of zeros.")] = True,
    dry_run: DryRunOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="With --dry-run: list each path.")] = False,
    quiet: QuietOption = False,
    repository: RepositoryOption = None,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
    no_lock: NoLockOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> int:
    """Bring files back from SNAPSHOT, or SNAPSHOT:SUBFOLDER, byte for byte, below a target folder.

    Of a file that is there only what differs is written. An interrupted restore goes on when it is run again; with
    --overwrite if-changed what is complete is not even read.
    """
    setup = Setup(config, state_dir)
    with reading(open_chosen(setup, repository, repository_url, password_file), no_lock=no_lock) as opened:
        chosen, subfolder = choose(opened, snapshot, job)
        plan = plan_restore(
            opened, chosen, target, include=include or (), exclude=exclude or (), subfolder=subfolder,
            overwrite=overwrite, delete=delete,
        )  # fmt: skip
        if dry_run:
            _show(plan, opened, verbose=verbose, as_json=as_json)
            return 3 if plan.refused else 0
        printer = ProgressPrinter(as_json=as_json, quiet=quiet)
        with stop_on_signal() as stop:
            try:
                report = execute_restore(
                    plan,
                    opened,
                    progress=lambda p: printer(
                        Progress("restoring", p.bytes, p.bytes_expected, p.files, p.files_expected)
                    ),
                    stop=stop.is_set,
                    sparse=sparse,
                )
            finally:
                printer.close()
    if as_json:
        print_json(report)
    else:
        _tell(report, target)
    return 3 if report.problems else 0


def _show(plan: RestorePlan, opened: Repository, *, verbose: bool, as_json: bool) -> None:
    """Show a dry run: counts and removals, with ``verbose`` each path."""
    steps = list(preview(plan, opened)) if verbose else []
    if as_json:
        document = {
            "snapshot": plan.snapshot.id,
            "target": plan.target,
            "overwrite": plan.overwrite.value,
            "files": plan.files,
            "folders": plan.folder_count,
            "bytes": plan.bytes,
            "existing": plan.existing,
            "removals": [as_text(path) for path in plan.removals],
            "refused": plan.refused,
        }
        print_json(document | ({"steps": steps} if verbose else {}))
        return
    if verbose:
        for step in steps:
            print(f"{step.action:<9} {printable(step.path)}")
    else:
        for path in plan.removals:
            print(f"{'remove':<9} {printable(as_text(path))}")
    for problem in plan.refused:
        complain(f"{printable(problem.path)}: {problem.reason}")
    print(plan)


def _tell(report: RestoreReport, target: Path) -> None:
    done, took = format_size(report.bytes), format_duration(report.took_seconds)
    details = [
        f"{count} {what}"
        for count, what in (
            (report.unchanged, "unchanged"),
            (report.left_alone, "left alone"),
            (report.removed, "removed"),
        )
        if count
    ]
    more = f" ({', '.join(details)})" if details else ""
    print(f"{report.files} files in {report.folders} folders{more}, {done}, restored to {target} in {took}")
    for problem in report.problems:
        complain(f"{printable(problem.path)}: {problem.reason}")
