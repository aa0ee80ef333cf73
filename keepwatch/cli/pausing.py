"""The commands by which a person lets jobs rest and go on: pause, resume.

They write into backup.db; a running daemon sees it at its next tick, and it works just as well while none runs.
"""

from typing import Annotated

import typer

from backup.catalog import Catalog
from backup.pauses import Pause, Pauses
from keepwatch.cli.alerts import AuthorOption, CommentOption
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JobsArgument, JsonOption, Setup, duration
from keepwatch.cli.output import moment, note, print_json
from keepwatch.clock import now


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (pause, "keepwatch pause documents --for 2h -c 'the line is needed'"),
        (resume, "keepwatch resume documents"),
    ):
        mount(app, command, example)


def pause(
    setup: Setup,
    author: AuthorOption,
    jobs: JobsArgument = None,
    lasting: Annotated[str | None, typer.Option("--for", help="For how long; until `resume` by default.")] = None,
    comment: CommentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let jobs rest: none of their runs begins, and a run under way waits where it can, between two packs.

    What is overdue is told all the same, with the pause as its reason. Verify and prune are not a job's and go on.
    """
    since = now()
    until = since + duration(lasting) if lasting else None
    made = [Pause(job, author, comment.strip(), since, until) for job in setup.jobs(jobs)]
    with Catalog(setup.state.backup_db) as catalog:
        Pauses(catalog).add(made)
    if as_json:
        print_json(made)
        return
    zone = setup.settings.daemon.zone
    end = f"until {moment(until, zone)}" if until else "until `keepwatch resume`"
    for one in made:
        print(f"{one.job}: {one}, {end}")


def resume(setup: Setup, jobs: JobsArgument = None, as_json: JsonOption = False) -> None:
    """Let paused jobs go on."""
    with Catalog(setup.state.backup_db) as catalog:
        ended = Pauses(catalog).remove(setup.jobs(jobs), now())
    if as_json:
        print_json(ended)
        return
    for one in ended:
        print(f"{one.job} goes on; it was {one}")
    if not ended:
        note("none of them was paused")
