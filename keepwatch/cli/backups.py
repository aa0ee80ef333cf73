"""Commands that save and bring back: backup, restore."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from backup.catalog import Catalog
from backup.restore_plan import plan_restore
from backup.restorer import execute_restore
from config.units import format_duration, format_size
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
from keepwatch.cli.output import ProgressPrinter, complain, note, print_json
from keepwatch.cli.repository import LOCK_WAIT, open_chosen
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.orders import Ending, Order, Progress
from keepwatch.runs import carry_out

JobsArgument = Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="Which jobs; all by default.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Let the running daemon do it.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
_CODES = (
    "0 done; 1 failed; 2 usage or configuration; 3 partial; 10 no repository; 11 locked; 12 wrong password;"
    " 130 interrupted"
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup", epilog=exit_status("keepwatch backup documents --full", _CODES))(backup)
    example = "keepwatch restore latest --target /tmp/back --include /etc/ssh"
    app.command("restore", epilog=exit_status(example, _CODES))(restore)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; the second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("stopping; what is stored so far helps the next run. Once more to stop at once.")

    before = [(number, signal.signal(number, ask)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def run_orders(setup: Setup, orders: list[Order], *, quiet: bool, as_json: bool) -> int:
    """Carry the orders out one after the other and return the worst exit status."""
    endings: list[tuple[Order, Ending]] = []
    with stop_on_signal() as stop:
        for order in orders:
            printer = ProgressPrinter(as_json=as_json, quiet=quiet)
            try:
                ending = carry_out(order, setup.settings, setup.state, clock=now, progress=printer, stop=stop)
            finally:
                printer.close()
            endings.append((order, ending))
            if not as_json:
                _tell(order, ending)
            if stop.is_set():
                break
    if as_json:
        rows = [{"kind": o.kind, "job": o.job, "repository": o.repository, "ending": e} for o, e in endings]
        print_json(rows)
    return max((ending.exit_code for _, ending in endings), default=0)


def hand_over(setup: Setup, orders: list[Order]) -> int:
    """Leave the orders to the running daemon. Raises UsageError when none runs."""
    if not setup.state.is_locked("daemon"):
        raise UsageError("no daemon runs that could do it", hint="leave --detach out to do it here and now")
    with Catalog(setup.state.backup_db) as catalog:
        for order in orders:
            catalog.request(*order.key, now=now())
    note("handed over to the daemon; the page and `keepwatch status` show what becomes of it")
    return 0


def _tell(order: Order, ending: Ending) -> None:
    line = f"{order.job or order.repository}: {order.kind} {ending.outcome}: {ending.message}"
    if ending.exit_code in (0, 3):
        print(line)
        if ending.hint:
            note(f"hint: {ending.hint}")
    else:
        complain(line, ending.hint)


def backup(
    jobs: JobsArgument = None,
    full: Annotated[bool, typer.Option("--full", help="Read every byte, changed or not.")] = False,
    detach: DetachOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> int:
    """Back up now, in the foreground: what changed, or everything with --full."""
    setup = Setup(config, state_dir)
    kind = "full" if full else "incremental"
    orders = [
        Order(0, kind, job, repository)
        for job in setup.jobs(jobs)
        for repository in setup.settings.jobs[job].repositories
    ]
    if detach:
        return hand_over(setup, orders)
    return run_orders(setup, orders, quiet=quiet, as_json=as_json)


def restore(
    snapshot: SnapshotArgument,
    target: Annotated[Path, typer.Option("--target", help="Where to; created when missing.", show_default=False)],
    include: Annotated[list[str] | None, typer.Option("--include", help="Only this path or pattern.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Not this path or pattern.")] = None,
    job: Annotated[str | None, typer.Option(help="With latest: of this job.", show_default=False)] = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    repository: RepositoryOption = None,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> int:
    """Bring files back from a snapshot, byte for byte, below a target folder."""
    setup = Setup(config, state_dir)
    opened = open_chosen(setup, repository, repository_url, password_file)
    with opened.lock(retry_for=LOCK_WAIT):
        opened.load_index()
        chosen = opened.find_snapshot(snapshot, tags=[f"job:{job}"] if job else [])
        plan = plan_restore(opened, chosen, target, include=include or (), exclude=exclude or ())
        if dry_run:
            print_json(plan) if as_json else print(plan)
            return 0
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
                )
            finally:
                printer.close()
    if as_json:
        print_json(report)
    else:
        done, took = format_size(report.bytes), format_duration(report.took_seconds)
        print(f"{report.files} files in {report.folders} folders, {done}, restored to {target} in {took}")
        for problem in report.problems:
            complain(f"{problem.path}: {problem.reason}")
    return 3 if report.problems else 0
