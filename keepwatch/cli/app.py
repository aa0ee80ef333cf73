"""The root of the command line: mounts the commands and turns errors into one line, a hint and an exit status."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer

from backup.errors import BackupError
from config.problems import ConfigProblems
from config.secrets import SecretError
from keepwatch import __version__, logs
from keepwatch.cli.output import complain
from keepwatch.errors import KeepwatchError

COMMANDS = {
    "daemon_command": ("run",),
    "status": ("status", "check"),
    "alerts": ("alerts", "ack", "silence"),
    "tracing": ("why", "replay"),
    "agreement": ("agree",),
    "backups": ("backup",),
    "pausing": ("pause", "resume"),
    "restores": ("restore",),
    "drills": ("drill",),
    "plans": ("plan",),
    "repository": ("snapshots", "verify", "forget", "prune", "unlock"),
    "contents": ("ls", "find", "diff", "dump"),
    "copies": ("copy",),
    "wal": ("wal",),
    "binlog": ("binlog",),
    "keys": ("key",),
    "reports": ("report",),
    "diagnosis": ("diagnose",),
    "configure": ("config",),
}
"""Module below keepwatch.cli -> the commands it registers, in the order of the help.

Only the module of the command that was typed is imported: all of them together cost a third of a second, and a
backup of unchanged files takes little more than that.
"""
_WRONG_USE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Base of typer's own errors; some releases carry click inside, some beside them, and none exports it."""
_READER_GONE = 128 + signal.SIGPIPE
"""The status of any program whose reader has gone, as in ``keepwatch find | head``. None of ours means that."""


def make_app(command: str | None = None) -> typer.Typer:
    """Return the command line: with one command where ``command`` is one, with all of them otherwise."""
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
    app.callback(invoke_without_command=True)(_root)
    chosen = [module for module, names in COMMANDS.items() if command in names]
    for module in chosen or COMMANDS:
        import_module(f"keepwatch.cli.{module}").register(app)
    return app


def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        print(f"keepwatch {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. A user error never shows a traceback; a bug always does."""
    logs.configure(level=logging.WARNING)
    app = make_app(arguments[0] if arguments else None)
    try:
        result = app(args=list(arguments), prog_name="keepwatch", standalone_mode=False)
        sys.stdout.flush()
    except ConfigProblems as problems:
        for problem in problems.problems:
            print(problem, file=sys.stderr)
        complain(str(problems).split("\n", 1)[0], problems.hint)
        return 2
    except (BackupError, KeepwatchError, SecretError) as error:
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
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error.__context__ or error, BrokenPipeError):  # typer makes it an exit of its own
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered
        return _READER_GONE
    except Exception as error:
        from monitor.database import MonitorStoreError  # a backup has no use for it

        if not isinstance(error, MonitorStoreError):
            raise
        complain(str(error), error.hint)
        return 1
    return result if isinstance(result, int) else 0
