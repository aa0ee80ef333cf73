"""Commands that save: backup, and what other commands need to carry out orders in the foreground."""

import time
from typing import Annotated

import typer

from backup.catalog import Catalog
from backup.pauses import Pauses
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JobsArgument, JsonOption, QuietOption, Setup
from keepwatch.cli.output import ProgressPrinter, complain, note, print_json
from keepwatch.cli.stopping import stop_on_signal
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.orders import Ending, Order
from keepwatch.runs import carry_out

DetachOption = Annotated[bool, typer.Option("--detach", help="Let the running daemon do it.")]
_LOOK_EVERY_SECONDS = 1.0
_CODES = (
    "0 done; 1 failed; 2 usage or configuration; 3 partial; 10 no repository; 11 locked; 12 wrong password;"
    " 130 interrupted"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, backup, "keepwatch backup documents --full", _CODES)


class _PausedByRow:
    """Tells whether somebody lets the job rest, by the same rows that the daemon goes by."""

    def __init__(self, catalog: Catalog, job: str) -> None:
        self._pauses = Pauses(catalog)
        self._job = job
        self._asked = float("-inf")
        self._paused = False

    def __call__(self) -> bool:
        if time.monotonic() - self._asked >= _LOOK_EVERY_SECONDS:
            self._asked, before = time.monotonic(), self._paused
            pause = self._pauses.lasting(now()).get(self._job)
            self._paused = pause is not None
            if pause and not before:
                note(f"{self._job} is {pause}; it waits for `keepwatch resume {self._job}`")
        return self._paused


def run_orders(setup: Setup, orders: list[Order], *, quiet: bool, as_json: bool) -> int:
    """Carry the orders out one after the other and return the worst exit status."""
    endings: list[tuple[Order, Ending]] = []
    with stop_on_signal() as stop, Catalog(setup.state.backup_db) as catalog:
        for order in orders:
            printer = ProgressPrinter(as_json=as_json, quiet=quiet)
            try:
                ending = carry_out(
                    order, setup.settings, setup.state, clock=now, progress=printer, stop=stop,
                    is_paused=_PausedByRow(catalog, order.job),
                )  # fmt: skip
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
    setup: Setup,
    jobs: JobsArgument = None,
    full: Annotated[bool, typer.Option("--full", help="Read every byte, changed or not.")] = False,
    detach: DetachOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Back up now, in the foreground: what changed, or everything with --full."""
    kind = "full" if full else "incremental"
    orders = [
        Order(0, kind, job, repository)
        for job in setup.jobs(jobs)
        for repository in setup.settings.jobs[job].repositories
    ]
    if detach:
        return hand_over(setup, orders)
    return run_orders(setup, orders, quiet=quiet, as_json=as_json)
