"""What goes wrong in the office, by the clock: each fault begins, lasts, is put right, and comes again with the cycle.

Beginning and ending are plain functions that may be called twice, so a fault that a killed office left behind is put
right at the next start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CYCLE_SECONDS = 300.0
_TOO_LARGE_BYTES = 7_900_000
"""Above the in-tray's bound for warning and critical, above what the importer takes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``name`` for people; seconds from the start of a cycle; ``check`` is the one that should see it."""

    name: str
    check: str
    begins: float
    ends: float
    begin: Callable[[], None]
    end: Callable[[], None]

    def is_on(self, elapsed: float) -> bool:
        """Tell whether it is on ``elapsed`` seconds after the office opened."""
        return self.begins <= elapsed % CYCLE_SECONDS < self.ends


class Timetable:
    """Switches the faults on and off as time passes."""

    def __init__(self, faults: list[Fault]) -> None:
        """Put right whatever a former office left behind."""
        self._faults = faults
        self._on: set[str] = set()
        for fault in faults:
            fault.end()

    def advance(self, elapsed: float) -> list[str]:
        """Begin and end what is due. Returns what happened, a line each."""
        happened = []
        for fault in self._faults:
            if fault.is_on(elapsed) and fault.name not in self._on:
                fault.begin()
                self._on.add(fault.name)
                happened.append(f"goes wrong: {fault.name}")
            elif not fault.is_on(elapsed) and fault.name in self._on:
                fault.end()
                self._on.discard(fault.name)
                happened.append(f"put right:  {fault.name}")
        return happened

    def going_on(self) -> list[str]:
        """Names of the faults that are on."""
        return [fault.name for fault in self._faults if fault.name in self._on]


def hide(document: Path) -> None:
    """Let a document vanish."""
    if document.exists():
        document.rename(document.with_suffix(".vanished"))


def bring_back(archive: Path) -> None:
    """Bring back every document that vanished."""
    for path in archive.rglob("*.vanished"):
        path.rename(path.with_suffix(".xml"))


def lock_out(document: Path) -> None:
    """Take every permission from a document."""
    document.chmod(0)


def let_in(archive: Path) -> None:
    """Give every document its permissions."""
    for path in archive.rglob("*.xml"):
        if path.stat().st_mode & 0o777 != 0o640:
            path.chmod(0o640)


def stuff(in_tray: Path) -> None:
    """Put a scan into the in-tray that is too large to be filed."""
    (in_tray / "annual-report.scan").write_bytes(bytes(_TOO_LARGE_BYTES))


def clear_out(in_tray: Path) -> None:
    """Take it away."""
    (in_tray / "annual-report.scan").unlink(missing_ok=True)
