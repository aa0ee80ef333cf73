"""Commands about proof: ``drill`` and ``drill log``.

``drill log`` is a command below ``drill``, which takes job names itself; a job that is really called "log" is drilled
with ``keepwatch drill run log``.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from backup.drills.drill import run_drill
from backup.drills.faults import PLANTS
from backup.drills.levels import RUNS_APPLICATION, Level
from backup.drills.report import RANDOM_MOMENT, DrillWishes
from backup.journal import Journal
from backup.storage.open import open_storage
from config.secrets import read_secret_file
from config.units import format_duration
from keepwatch.cli.backups import DetachOption, hand_over, run_orders
from keepwatch.cli.journals import HoldsOption, verify_journal
from keepwatch.cli.mounting import exit_status, mount
from keepwatch.cli.options import JobsArgument, JsonOption, PasswordOption, QuietOption, Setup, UrlOption
from keepwatch.cli.output import ProgressPrinter, note, print_json, print_table
from keepwatch.cli.stopping import stop_on_signal
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.orders import Order, Progress
from keepwatch.proving import drill_ending
from keepwatch.work import LOCK_WAIT

_CODES = "0 passed, or the planted fault was found; 1 failed to run; 2 usage or configuration; 3 inconclusive; 4 failed"
_COMMANDS = ("run", "log")


class _DrillGroup(TyperGroup):
    """Lets ``keepwatch drill JOB`` mean ``keepwatch drill run JOB``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the implied ``run`` in front."""
        if args[:1] not in ([name] for name in _COMMANDS) and not {"-h", "--help"} & set(args[:1]):
            args = ["run", *args]
        return super().parse_args(ctx, args)


drill_app = typer.Typer(
    cls=_DrillGroup,
    help="Prove that backups come back: restore into scratch under the clock and compare every byte. "
    "`keepwatch drill [JOB]...` is short for `keepwatch drill run [JOB]...`.",
    epilog=exit_status("keepwatch drill documents --plant flipped-bit", _CODES),
    no_args_is_help=False,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    mount(drill_app, drill, "keepwatch drill documents", _CODES, name="run")
    mount(drill_app, log, "keepwatch drill log --verify", "0 done; 4 the journal is broken")
    app.add_typer(drill_app, name="drill")


def drill(
    setup: Setup,
    jobs: JobsArgument = None,
    snapshot: Annotated[
        str | None, typer.Option(help="Which one: an id, a prefix, latest, oldest or random.", show_default="by turns")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help=f"How far to go: {', '.join(Level)}.", show_default="the job's")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Where point-in-time goes to: latest, random, or a date and time.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat what an earlier drill chose at random.")] = None,
    plant: Annotated[str | None, typer.Option(help=f"Plant a fault that must be found: {', '.join(PLANTS)}.")] = None,
    keep_scratch: Annotated[bool, typer.Option("--keep-scratch", help="Leave the restored files there.")] = False,
    scratch: Annotated[Path | None, typer.Option(help="Where to restore to, with --repository-url.")] = None,
    detach: DetachOption = False,
    quiet: QuietOption = False,
    repository_url: UrlOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
) -> int:
    """Prove that a snapshot comes back, as far as the level says, and measure RTO and RPO."""
    if level is not None and level not in tuple(Level):
        raise UsageError(f"no drill level is named {level}", hint=f"known: {', '.join(Level)}")
    _require_moment(until)
    if plant is not None and plant not in PLANTS:
        raise UsageError(f"no fault is named {plant}", hint=f"known: {', '.join(PLANTS)}")
    if repository_url:
        wishes = DrillWishes(
            scratch=(scratch or Path()).absolute(), clock=now, snapshot=snapshot or "latest", plant=plant,
            level=Level(level or "restore"), seed=seed or 0, keep_scratch=keep_scratch, lock_wait=LOCK_WAIT,
        )  # fmt: skip
        if password_file is None or scratch is None:
            hint = "name a folder with enough room"
            raise UsageError("--repository-url needs --password-file and --scratch", hint=hint)
        return _drill_anything(repository_url, password_file, wishes, quiet=quiet, as_json=as_json)
    orders = []
    for job in setup.jobs(jobs):
        settings = setup.settings.jobs[job]
        target = (settings.drill.repository if settings.drill else None) or settings.repositories[0]
        orders.append(
            Order(
                0,
                "drill",
                job,
                target,
                snapshot or "",
                plant=plant,
                keep_scratch=keep_scratch,
                level=level or "",
                until=until or "",
                seed=seed,
            )
        )
    if detach:
        if (plant, keep_scratch, snapshot, level, until, seed) != (None, False, None, None, None, None):
            raise UsageError("--detach drills as the job's settings say, and takes no more", hint="leave --detach out")
        return hand_over(setup, orders)
    return run_orders(setup, orders, quiet=quiet, as_json=as_json)


def _require_moment(until: str | None) -> None:
    if until not in (None, "latest", RANDOM_MOMENT):
        try:
            datetime.fromisoformat(str(until))
        except ValueError:
            hint = "write latest, random, or a moment such as 2027-01-31T12:00:00"
            raise UsageError(f"{until} is no moment", hint=hint) from None


def _drill_anything(url: str, password_file: Path, wishes: DrillWishes, *, quiet: bool, as_json: bool) -> int:
    """Drill a repository that no configuration knows. Nothing is recorded; the result is what is printed."""
    if wishes.level in RUNS_APPLICATION:
        hint = "give the job a configuration, whose settings say what application it is"
        raise UsageError(f"the level {wishes.level} needs to know the application", hint=hint)
    printer = ProgressPrinter(as_json=as_json, quiet=quiet)
    with stop_on_signal() as stop:
        try:
            report = run_drill(
                open_storage(url),
                read_secret_file(password_file.absolute(), {}).get_secret_value(),
                replace(
                    wishes,
                    stop=stop.is_set,
                    progress=lambda p: printer(Progress(p.phase, p.bytes, p.bytes_expected, p.files, p.files_expected)),
                ),
            )
        finally:
            printer.close()
    if as_json:
        print_json(report)
    else:
        print(f"{report.verdict}: {report.message}")
        if report.hint:
            note(f"hint: {report.hint}")
    return drill_ending(report, 0).exit_code


def log(
    setup: Setup,
    verify: Annotated[bool, typer.Option("--verify", help="Check that nobody changed the journal.")] = False,
    holds: HoldsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show the journal of all drills: what was restored, how long it took, what came of it."""
    journal = Journal(setup.recorded.journal)
    if verify:
        return verify_journal(journal, holds or (), as_json=as_json)
    lines = list(journal.lines())
    if as_json:
        print_json(lines)
        return 0
    rows = []
    for line in lines:
        record = line.record
        rto = record.get("rto_seconds")
        rows.append(
            (
                line.line,
                line.at[:19].replace("T", " "),
                record["job"],
                str(record["snapshot"])[:8],
                record["verdict"],
                format_duration(float(rto)) if isinstance(rto, int | float) else "-",
                record["message"],
            )
        )
    print_table(("line", "at (UTC)", "job", "snapshot", "verdict", "RTO", "what"), rows, empty="no drill has ended yet")
    return 0
