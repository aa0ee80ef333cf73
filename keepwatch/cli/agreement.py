"""The command by which a person agrees to a suspicious snapshot: agree.

It writes into backup.db; a running daemon sees it at its next tick, and it works just as well while none runs.
"""

from typing import Annotated

import typer

from backup.catalog import Catalog
from keepwatch.cli.alerts import AuthorOption
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup
from keepwatch.cli.output import note, print_json
from keepwatch.clock import now
from keepwatch.guarding import agree as agree_to

CommentOption = Annotated[str, typer.Option("--comment", "-c", help="Why it is right.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, agree, "keepwatch agree documents -c 'the old years moved to the archive'")


def agree(
    setup: Setup,
    job: Annotated[str, typer.Argument(help="Whose snapshots.", show_default=False)],
    author: AuthorOption,
    comment: CommentOption,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", help="Only this one: an id or a prefix; all that wait by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Agree to a suspicious snapshot: it is right as it is, and the new normal. Forget and prune go on."""
    with Catalog(setup.state.backup_db) as catalog:
        agreed = agree_to(catalog, job, snapshot, author, comment, now)
    if as_json:
        print_json(agreed)
        return
    for suspicion in agreed:
        print(f"{suspicion.repository}: {suspicion}")
    note(f"agreed by {author}; forget and prune go on from the next run")
