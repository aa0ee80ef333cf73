"""The command ``wal``: PostgreSQL's log by hand, and what archive_command runs when no receiver is there."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from backup.wal.keeping import runs
from backup.wal.names import Segment
from backup.wal.reading import Log
from config.postgres import PostgresSource
from keepwatch.cli.mounting import mount
from keepwatch.cli.opening import ChosenRepository
from keepwatch.cli.options import JsonOption, RepositoryOption, Setup
from keepwatch.cli.output import complain, moment, print_json, print_table
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.wal.kept import kept_logs

JobOption = Annotated[
    str | None, typer.Option("--job", help="Whose log, JOB or JOB:MEMBER of a group; needed when several have one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    wal = typer.Typer(help="Archive PostgreSQL's write-ahead log, and see what is there.", no_args_is_help=True)
    mount(wal, push, "archive_command = 'keepwatch wal push %p'")
    mount(wal, receive, "keepwatch wal receive --job ledger")
    mount(wal, list_, "keepwatch wal list --json", name="list")
    app.add_typer(wal, name="wal")


def _job(setup: Setup, name: str | None) -> str:
    known = [log for log, kept in kept_logs(setup.settings).items() if isinstance(kept.source, PostgresSource)]
    if name is None and len(known) == 1:
        return known[0]
    if name is None or name not in known:
        hint = f"jobs with a log: {', '.join(known)}" if known else 'set wal = "push" for the source of a job'
        raise UsageError("say whose log it is" if name is None else f"no job {name} archives its log", hint=hint)
    return name


def push(
    setup: Setup,
    path: Annotated[Path, typer.Argument(help="The file, as %p has it.", show_default=False)],
    job: JobOption = None,
    socket: Annotated[Path | None, typer.Option("--socket", help="Where the receiver listens.")] = None,
) -> int:
    """Store one file of the log, durable when this returns: through the receiver, or directly when there is none.

    The same file again is fine, and one of its name with other bytes is refused. When the repository is away it waits,
    durable, in the state directory.
    """
    from keepwatch.wal import push as client
    from keepwatch.wal.receiver import Receiver, socket_path

    name = _job(setup, job)
    source = kept_logs(setup.settings)[name].source
    assert isinstance(source, PostgresSource)
    try:
        answer = client.push(str(socket or socket_path(source, setup.state.path, name)), name, str(path))
    except client.NoReceiver:
        with setup.state.lock(f"wal-{name}", what=f"the receiver of job {name}'s log"):
            receiver = Receiver(setup.settings, setup.state.path, name, now)
            try:
                answer = receiver.take_file(path)
            finally:
                receiver.close()
    except OSError as error:
        raise UsageError(f"could not read {path}: {(error.strerror or str(error)).lower()}") from None
    if not answer.startswith("ok"):
        complain(f"could not push WAL {path.name}: {answer}")
        return 1
    return 0


def receive(setup: Setup, job: JobOption = None) -> int:
    """Take in a job's log in the foreground, as the daemon does for each job that has `wal`, until interrupted."""
    from keepwatch.wal.receiver import run

    name = _job(setup, job)
    with setup.state.lock(f"wal-{name}", what=f"the receiver of job {name}'s log"):
        run(setup.settings, setup.state.path, name, now, lambda: False)
    return 0


def list_(setup: Setup, job: JobOption = None, repository: RepositoryOption = None, as_json: JsonOption = False) -> int:
    """List what a repository holds of a job's log: runs of segments without a gap."""
    name = _job(setup, job)
    repository = repository or kept_logs(setup.settings)[name].repositories[0]
    log = Log.of(ChosenRepository(setup, repository).open().snapshots(), name)
    found = [
        _Run(run[0].timeline, log.name(run[0]), log.name(run[-1]), len(run), _until(log, run))
        for run in runs(log.segments)
    ]
    if as_json:
        print_json(found)
        return 0
    zone = setup.settings.daemon.zone
    rows = [(row.timeline, row.first, row.last, row.segments, moment(row.until, zone)) for row in found]
    print_table(("timeline", "first", "last", "segments", "until"), rows, empty="no log is there")
    return 0


@dataclass(frozen=True, slots=True)
class _Run:
    """Segments without a gap."""

    timeline: int
    first: str
    last: str
    segments: int
    until: datetime | None


def _until(log: Log, run: list[Segment]) -> datetime | None:
    return max((holder.time for segment in run if (holder := log.holder(segment))), default=None)
