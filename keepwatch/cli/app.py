"""The root of the command line: mounts the commands and turns errors into one line, a hint and an exit status."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from backup.errors import BackupError
from config.problems import ConfigProblems
from config.secrets import SecretError
from keepwatch import __version__, logs
from keepwatch.cli import (
    agreement,
    alerts,
    backups,
    configure,
    contents,
    copies,
    daemon_command,
    drills,
    keys,
    pausing,
    repository,
    restores,
    status,
)
from keepwatch.cli.output import complain
from keepwatch.errors import KeepwatchError
from monitor.store import MonitorStoreError

app = typer.Typer(
    name="keepwatch",
    help="Watches a machine, backs it up in restic's format, and proves by restore drills that it comes back.",
    epilog="Example: keepwatch run. EXIT STATUS: 0 done; 1 failed; 2 usage or configuration; 3 partial; "
    "4 verification or drill failed; 10 no repository; 11 locked; 12 wrong password; 130 interrupted",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
_WRONG_USE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Base of typer's own errors; some releases carry click inside, some beside them, and none exports it."""

for module in (
    daemon_command, status, alerts, agreement, backups, pausing, restores, drills, repository, contents, copies, keys
):  # fmt: skip
    module.register(app)
app.add_typer(configure.app, name="config")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True)) -> None:
    if version:
        print(f"keepwatch {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. A user error never shows a traceback; a bug always does."""
    logs.configure(level=logging.WARNING)
    try:
        result = app(args=list(arguments), prog_name="keepwatch", standalone_mode=False)
    except ConfigProblems as problems:
        for problem in problems.problems:
            print(problem, file=sys.stderr)
        complain(str(problems).split("\n", 1)[0], problems.hint)
        return 2
    except (BackupError, KeepwatchError, SecretError, MonitorStoreError) as error:
        complain(str(error), error.hint)
        return getattr(error, "exit_code", 1)
    except typer.Exit as leave:
        return leave.exit_code
    except _WRONG_USE as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0
