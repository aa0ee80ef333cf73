"""The command ``restore``: plan, show on request, execute."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
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
from config.wording import counted
from keepwatch.cli.databases import choose_to_reach, recover, target_of
from keepwatch.cli.loading import dump_in, load_restored, load_saved
from keepwatch.cli.mounting import mount
from keepwatch.cli.opening import ChosenRepository, NoLockOption, reading
from keepwatch.cli.options import DryRunOption, JsonOption, QuietOption, SnapshotArgument
from keepwatch.cli.output import ProgressPrinter, complain, print_json
from keepwatch.cli.stopping import stop_on_signal
from keepwatch.errors import UsageError
from keepwatch.orders import Progress

_CODES = (
    "0 done; 1 failed; 2 usage or configuration; 3 partial; 4 damaged; 10 no repository; 11 locked; 12 wrong password;"
    " 130 interrupted"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "keepwatch restore latest --target /tmp/back --include /etc/ssh"
    mount(app, restore, example, _CODES)


def restore(
    repository: ChosenRepository,
    snapshot: SnapshotArgument,
    target: Annotated[
        Path | None, typer.Option("--target", help="Where to; created when missing.", show_default=False)
    ] = None,
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
    until: Annotated[
        str | None, typer.Option(help="Databases: recover to this moment, as 2026-03-01T12:00:00.", show_default=False)
    ] = None,
    until_name: Annotated[
        str | None, typer.Option("--until-name", help="Databases: to this named restore point.", show_default=False)
    ] = None,
    until_position: Annotated[
        str | None, typer.Option("--until-position", help="Databases: to this WAL position.", show_default=False)
    ] = None,
    into: Annotated[
        str | None, typer.Option("--into", help="Dumps: load them into this server.", metavar="DSN", show_default=False)
    ] = None,
    dry_run: DryRunOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="With --dry-run: list each path.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    no_lock: NoLockOption = False,
) -> int:
    """Bring files back from SNAPSHOT, or SNAPSHOT:SUBFOLDER, byte for byte, below a target folder.

    Of a file that is there only what differs is written. An interrupted restore goes on when it is run again; with
    --overwrite if-changed what is complete is not even read.

    A base backup of PostgreSQL is made ready to start, with the archived WAL up to its end or to the moment that is
    asked for; dumps are loaded into a new server by --into.
    """
    limit = target_of(until, until_name, until_position, repository.zone)
    if target is None and into is None:
        raise UsageError("say where to", hint="--target FOLDER, or --into DSN for dumps of a database")
    with ExitStack() as held:
        opened = held.enter_context(reading(repository.open(), no_lock=no_lock))
        chosen, subfolder = choose_to_reach(opened, snapshot, job, limit)
        place = target or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="keepwatch-", dir="/var/tmp")))
        plan = plan_restore(
            opened, chosen, place, include=include or (), exclude=exclude or (), subfolder=subfolder,
            overwrite=overwrite, delete=delete,
        )  # fmt: skip
        if (include or exclude) and not (plan.files or plan.folder_count or plan.removals or plan.refused):
            _refuse_nothing(chosen.short_id)
        if dry_run:
            _show(plan, opened, verbose=verbose, as_json=as_json)
            return 3 if plan.refused else 0
        printer = ProgressPrinter(as_json=as_json, quiet=quiet)
        if into is not None and target is None:
            return _load(plan, opened, into, printer, as_json=as_json)
        report = _execute(plan, opened, printer, sparse=sparse, read_next=into is not None)
        advice = ""
        if not report.problems and into is not None:
            advice = _loaded(load_restored(place, dump_in(opened, plan), into))
        elif not report.problems:
            advice = recover(opened, chosen, place, limit)
    if as_json:
        print_json(report)
    else:
        _tell(report, place)
        if advice:
            print(advice)
    return 3 if report.problems else 0


def _refuse_nothing(snapshot: str) -> None:
    """An empty restore would pass for a good one, in the very hour in which nobody has time to look twice."""
    raise UsageError(
        f"nothing in snapshot {snapshot} is what --include and --exclude leave",
        hint=f"`keepwatch ls {snapshot}` shows all there is; a pattern that begins with a slash is a whole path",
    )


def _execute(
    plan: RestorePlan, opened: Repository, printer: ProgressPrinter, *, sparse: bool, read_next: bool
) -> RestoreReport:
    with stop_on_signal() as stop:
        try:
            return execute_restore(
                plan,
                opened,
                progress=lambda p: printer(Progress("restoring", p.bytes, p.bytes_expected, p.files, p.files_expected)),
                stop=stop.is_set,
                sparse=sparse,
                read_next=read_next,
            )
        finally:
            printer.close()


def _load(plan: RestorePlan, opened: Repository, into: str, printer: ProgressPrinter, *, as_json: bool) -> int:
    """Load a dump without a folder in between."""
    dump = dump_in(opened, plan)
    try:
        report, databases = load_saved(opened, plan.snapshot, dump, into, printer)
    finally:
        printer.close()
    if as_json:
        print_json(report)
    else:
        files, size = counted(report.files, "file"), format_size(report.bytes)
        print(f"{files}, {size}, loaded in {format_duration(report.took_seconds)}")
        print(_loaded(databases))
    return 0


def _loaded(databases: Sequence[str]) -> str:
    return f"databases loaded: {', '.join(databases)}"


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
    files, folders = counted(report.files, "file"), counted(report.folders, "folder")
    print(f"{files} in {folders}{more}, {done}, restored to {target} in {took}")
    for problem in report.problems:
        complain(f"{printable(problem.path)}: {problem.reason}")
