"""The command ``report``: what a manager reads, as text, as JSON, or as one HTML file."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup
from keepwatch.cli.output import note, print_json
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.languages import language
from keepwatch.report.gathering import gather
from keepwatch.report.writing import as_text

_CODES = "0 done; 1 failed; 2 usage or configuration; 4 the evidence is broken"


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, report, "keepwatch report --period month --output report.html", _CODES)


def report(
    setup: Setup,
    period: Annotated[Literal["day", "week", "month"], typer.Option(help="How far back.")] = "week",
    output: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> int:
    """Tell what was promised and what came of it: jobs, drills, alerts, plans, repositories, and the evidence."""
    zone = setup.settings.daemon.zone
    made = gather(setup.settings, setup.recorded, period, now())
    say = language(setup.settings.daemon.language)

    def moment(at: datetime) -> str:
        return at.astimezone(zone).strftime("%Y-%m-%d %H:%M")

    if output:
        from keepwatch.report.page import as_html

        _write(output, as_html(made, say, moment))
        note(f"written to {output}")
    elif as_json:
        print_json(made)
    else:
        print(as_text(made, say, moment), end="")
    return 0 if made.is_trustworthy else 4


def _write(file: Path, text: str) -> None:
    """Write the file whole or not at all: a mail program may be waiting for it."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8", errors="replace")
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        hint = "name another file with --output"
        raise UsageError(f"writing the report to {file}: {(error.strerror or str(error)).lower()}", hint=hint) from None
