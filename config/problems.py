"""What is wrong with a configuration: every problem at once, each with file, line and path.

Values here carry wording only; who found the problem decides what it says. Nothing secret may be put into ``got``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. Prints as ``file:line: path: problem (got value)``."""

    file: Path | None
    """Where it was written; None for the embedded default."""
    line: int | None
    """Counted from 1; None when the file as a whole is meant."""
    path: str
    """Dotted path such as ``jobs.documents.rpo`` or ``checks[2].warning``; empty for the file as a whole."""
    problem: str
    got: str | None = None
    """The value as written, where it may be shown."""

    def __str__(self) -> str:
        """Write the one line that an operator and an editor's error list can read."""
        place = str(self.file) if self.file else "embedded default"
        if self.line is not None:
            place += f":{self.line}"
        path = f" {self.path}:" if self.path else ""
        got = f" (got {self.got})" if self.got is not None else ""
        return f"{place}:{path} {self.problem}{got}"


class ConfigProblems(Exception):  # noqa: N818 - it is many errors
    """The configuration cannot be used. ``problems`` holds all of them, in the order of the files."""

    hint = "put every line right and try again with `keepwatch config check`; the settings in use stay as they were"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"the configuration has {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n  ".join([head, *map(str, self.problems)]))
