"""Which of many things a setting means: names and shell patterns to take, and to leave out.

A value, like a threshold. It does not know what there is; whoever discovers things asks it about each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken: all of ``include`` (everything, when it is empty) but what ``exclude`` matches."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def takes(self, name: str) -> bool:
        """Tell whether a thing of this name is meant. Patterns are those of fnmatch(3): ``*``, ``?`` and ``[seq]``."""
        wanted = not self.include or _matches(name, self.include)
        return wanted and not _matches(name, self.exclude)

    @property
    def named(self) -> tuple[str, ...]:
        """What is included by its full name, so that its absence means something."""
        return tuple(name for name in self.include if not any(letter in name for letter in "*?["))

    def missing(self, found: Iterable[str]) -> list[str]:
        """Return what is included by its full name and not among ``found``."""
        there = set(found)
        return [name for name in self.named if name not in there]


EVERYTHING = Selection()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
