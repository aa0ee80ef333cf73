"""The root of the command line: mounts the commands and turns errors into one line, a hint and an exit status."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

from keepwatch import __version__, logs

COMMANDS = {
    "run": ("daemon_command", "Run the daemon: checks, backups, drills, page and metrics."),
    "status": ("status", "Show checks, alerts and jobs, as last recorded."),
    "check": ("checking", "Run checks once, now, and print what they find."),
    "alerts": ("alerts", "List the alerts: firing, pending, and lately resolved."),
    "ack": ("alerts", "Take an alert on: repeats stop until it is over or gets worse."),
    "silence": ("alerts", "Hold back messages about matching alerts for a time."),
    "why": ("tracing", "Print the whole trace of decisions about an alert."),
    "replay": ("tracing", "Play recorded readings again by today's rules."),
    "agree": ("agreement", "Agree to a suspicious snapshot: it is right as it is."),
    "backup": ("backups", "Back up now: what changed, or everything."),
    "pause": ("pausing", "Let jobs rest: no run begins, and one under way waits."),
    "resume": ("pausing", "Let paused jobs go on."),
    "restore": ("restores", "Bring files or databases back from a snapshot."),
    "drill": ("drills", "Prove that backups come back, and see the proofs."),
    "plan": ("plans", "Emergency plans: what to do when, by whom, and the proof."),
    "snapshots": ("repository", "List the snapshots of a repository, newest last."),
    "verify": ("repository", "Check a repository: a superset of `restic check`."),
    "forget": ("repository", "Drop the snapshots that no keep rule wants."),
    "prune": ("repository", "Give back the space of data that no snapshot needs."),
    "unlock": ("repository", "Remove locks that crashed programs left behind."),
    "ls": ("contents", "List the files of a snapshot."),
    "find": ("contents", "Find entries, or what needs a blob or a pack."),
    "diff": ("contents", "Compare two snapshots."),
    "dump": ("contents", "Write a file, or a folder as a tar archive, to stdout."),
    "copy": ("copies", "Copy snapshots to another repository."),
    "wal": ("wal", "Archive PostgreSQL's write-ahead log, and see what is there."),
    "binlog": ("binlog", "Archive a MariaDB server's binlog, as the daemon does."),
    "key": ("keys", "The passwords that open a repository."),
    "report": ("reports", "Tell what was promised and what came of it."),
    "diagnose": ("diagnosis", "Ask the five questions, and make a support bundle."),
    "config": ("configure", "Begin, check, show and describe the configuration."),
}
"""Command -> the module below keepwatch.cli that registers it, and what the list of commands says of it.

A module is imported when its command is typed: all of them together take longer than a backup of unchanged files.
"""
_WRONG_USE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Base of typer's own errors; some releases carry click inside, some beside them, and none exports it."""
_READER_GONE = 128 + signal.SIGPIPE
"""The status of any program whose reader has gone, as in ``keepwatch find | head``. None of ours means that."""


class _Commands(typer.core.TyperGroup):
    """Lists commands by the table, for help, completion and suggestions, and imports the one that is called."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.commands = {
            name: typer.core.TyperCommand(name=name, short_help=summary) for name, (_, summary) in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and _imported(str(name)), rest


def _imported(name: str) -> Any:
    commands = typer.Typer(rich_markup_mode=None)
    import_module(f"keepwatch.cli.{COMMANDS[name][0]}").register(commands)
    return typer.main.get_group(commands).commands[name]


def make_app() -> typer.Typer:
    """Return the command line."""
    app = typer.Typer(
        cls=_Commands,
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
    return app


def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        print(f"keepwatch {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. A user error never shows a traceback; a bug always does."""
    logs.configure(level=logging.WARNING)
    try:
        result = make_app()(args=list(arguments), prog_name="keepwatch", standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as leave:
        return leave.exit_code
    except _WRONG_USE as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("keepwatch: interrupted", file=sys.stderr)
        return 130
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error.__context__ or error, BrokenPipeError):  # typer makes it an exit of its own
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered
        return _READER_GONE
    except Exception as error:
        status = _told(error)
        if status is None:
            raise
        return status
    return result if isinstance(result, int) else 0


def _told(error: Exception) -> int | None:
    """Tell an operator what went wrong and return the exit status; None for what only a programmer can mend."""
    from backup.errors import BackupError
    from config.problems import ConfigProblems
    from config.secrets import SecretError
    from keepwatch.cli.output import complain
    from keepwatch.errors import KeepwatchError
    from monitor.database import MonitorStoreError

    if isinstance(error, ConfigProblems):
        for problem in error.problems:
            print(problem, file=sys.stderr)
        complain(str(error).split("\n", 1)[0], error.hint)
        return 2
    if isinstance(error, BackupError | KeepwatchError | SecretError | MonitorStoreError):
        complain(str(error), error.hint)
        return getattr(error, "exit_code", 1)
    return None
