"""Whether anybody changed a journal of ours: what ``drill log --verify`` and ``plan log --verify`` say."""

from collections.abc import Iterable
from typing import Annotated

import typer

from backup.journal import Journal
from config.wording import counted
from keepwatch.cli.output import complain, print_json

HoldsOption = Annotated[
    list[str] | None,
    typer.Option("--holds", metavar="HASH", help="With --verify: that this line, noted elsewhere, is still there."),
]


def verify_journal(journal: Journal, noted: Iterable[str] = (), *, as_json: bool) -> int:
    """Re-check the chain, print what was found, and give the exit status: 0 unbroken, 4 broken.

    ``noted``: hashes of lines that must be in it.
    """
    found = journal.verify(noted)
    if as_json:
        print_json(found)
    elif found.broken_line is None:
        print(f"{counted(found.lines, 'line')}, unbroken; the last has hash {found.last_hash}")
    else:
        complain(f"line {found.broken_line} of {journal.path}: {found.problem}", "the lines before it are sound")
    return 0 if found.broken_line is None else 4
