"""Whether anybody changed a journal of ours: what ``drill log --verify`` and ``plan log --verify`` say."""

from backup.journal import Journal
from keepwatch.cli.output import complain, print_json


def verify_journal(journal: Journal, *, as_json: bool) -> int:
    """Re-check the chain, print what was found, and give the exit status: 0 unbroken, 4 broken."""
    found = journal.verify()
    if as_json:
        print_json(found)
    elif found.broken_line is None:
        print(f"{found.lines} lines, unbroken; the last has hash {found.last_hash}")
    else:
        complain(f"line {found.broken_line} of {journal.path}: {found.problem}", "the lines before it are sound")
    return 0 if found.broken_line is None else 4
