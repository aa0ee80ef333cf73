"""``keepwatch run``: hands this very process over to the daemon.

The command line's libraries would stay in the daemon's memory for months, so it starts afresh without them.
"""

import os
import sys
from typing import Annotated

import typer

from keepwatch.cli.mounting import mount
from keepwatch.cli.options import Setup

ListenOption = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="Where the page is, instead of web.listen.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, run, "keepwatch run --config /etc/keepwatch/keepwatch.toml")


def run(setup: Setup, listen: ListenOption = None) -> None:
    """Run the daemon in the foreground: checks, backups, drills, page and metrics.

    Ctrl-C or SIGTERM ends it cleanly, a second one at once; SIGHUP reads the configuration again.
    """
    arguments = [sys.executable, "-m", "keepwatch.cli.daemon_main"]
    if setup.config:
        arguments += ["--config", str(setup.config)]
    if setup.state_dir:
        arguments += ["--state-dir", str(setup.state_dir)]
    if listen:
        arguments += ["--listen", listen]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, arguments)  # noqa: S606 - the same interpreter, no shell
