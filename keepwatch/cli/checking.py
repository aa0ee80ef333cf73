"""The command ``check``: measures here and now; what is found is recorded nowhere."""

from typing import Annotated

import typer

from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup
from keepwatch.cli.output import print_json
from keepwatch.clock import now
from keepwatch.errors import UsageError
from monitor.build import build_checks
from monitor.check import run_check
from monitor.memory import Memories
from monitor.probes.file_systems import FileSystems
from monitor.result import Result, Status

_NAGIOS = {Status.OK: 0, Status.ABSENT: 0, Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}
_WORST_FIRST = (Status.CRITICAL, Status.UNKNOWN, Status.WARNING, Status.ABSENT, Status.OK)


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, check, "keepwatch check 'root disk'", "0 ok; 1 warning; 2 critical; 3 unknown, as Nagios plugins")


def check(
    setup: Setup,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which ones; all by default.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Run checks once, now, and print what they find; nothing is recorded and nobody is told."""
    known = {settings.name: settings for settings in setup.settings.checks}
    for name in names or []:
        if name not in known:
            raise UsageError(f"no check is named {name}", hint=f"configured: {', '.join(known) or 'none'}")
    file_systems = FileSystems()
    try:
        chosen = [known[name] for name in names] if names else list(known.values())
        built = build_checks(
            chosen, file_systems=file_systems, clock=now, zone=setup.settings.daemon.zone,
            memories=Memories(setup.settings.daemon.state_dir / "memories", may_write=False),
        )  # fmt: skip
        results = [result for one in built for result in run_check(one, {}, now)]
    finally:
        file_systems.close()
    if as_json:
        print_json(results)
    else:
        for result in results:
            print(f"{result.status.label.upper():9}{_subject(result)}: {result.message}")
    worst = min((result.status for result in results), key=_WORST_FIRST.index, default=Status.OK)
    return _NAGIOS[worst]


def _subject(result: Result) -> str:
    return f"{result.check} [{result.entity}]" if result.entity else result.check
