"""The command ``binlog``: archives MariaDB's binlog by hand, once or until interrupted."""

from typing import Annotated

import typer

from backup.errors import SourceError
from backup.extras import needed_for
from config.databases import MariaDbSource
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import Setup
from keepwatch.cli.output import complain
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.wal.kept import known_logs

_PATIENCE_SECONDS = 60.0
"""For a server that sends nothing of what it has."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, binlog, "keepwatch binlog ledger --once")


def binlog(
    setup: Setup,
    job: Annotated[str, typer.Argument(help="Whose binlog.", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Store what is new now, and end.")] = False,
) -> int:
    """Archive a MariaDB server's binlog, as the daemon does for each job that has `binlog = true`.

    JOB:MEMBER is a member of a group.
    """
    known = [name for name, of in known_logs(setup.settings).items() if isinstance(of.source, MariaDbSource)]
    if job not in known:
        raise UsageError(f"no job {job} backs up MariaDB", hint=f"jobs that do: {', '.join(known) or 'none'}")
    with needed_for(f"the server of job {job}", SourceError):
        from keepwatch.wal.binlogs import BinlogArchiver, run
    with setup.state.lock(f"wal-{job}", what=f"the archiver of job {job}'s binlog"):
        if not once:
            run(setup.settings, setup.state.path, job, now, lambda: False)
            return 0
        archiver = BinlogArchiver(setup.settings, setup.state.path, job, now)
        try:
            archiver.archive(patience_seconds=_PATIENCE_SECONDS)
        finally:
            archiver.close()
        if archiver.problem:
            complain(f"could not archive the binlog: {archiver.problem}")
            return 1
    return 0
