"""Lines of logs that match, counted over a window, with the last of them for the message."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.memory import Memories
from monitor.probes.journal import Journal
from monitor.probes.log_files import LogFiles
from monitor.result import Measurement, NoData, ProbeError, Reading

_SHOWN_LETTERS = 200


@dataclass(frozen=True, slots=True)
class LineRules:
    """Which lines count: those that any of ``matches`` fits (all, when there are none) and none of ``ignore``."""

    matches: Sequence[str] = ()
    ignore: Sequence[str] = ()

    def filter(self, lines: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str] | None]:
        """Yield what counts as text, and None for each line that does not."""
        wanted, unwanted = _any_of(self.matches), _any_of(self.ignore)
        for where, line in lines:
            text = line.decode("utf-8", "replace")
            counts = (wanted is None or wanted.search(text)) and not (unwanted and unwanted.search(text))
            yield (where, text) if counts else None


class LogProbe:
    """Follows ``files`` and the journal. What was read is kept in ``memories`` under ``name``."""

    def __init__(
        self,
        name: str,
        rules: LineRules,
        *,
        files: Sequence[str] = (),
        journal: Sequence[str] | None = None,
        journal_where: Sequence[str] = (),
        window: timedelta,
        show: int = 3,
        timeout_seconds: float,
        memories: Memories,
        clock: Callable[[], datetime],
    ) -> None:
        self._name = f"log {name}"
        self._rules = rules
        self._files = list(files)
        self._journal = journal
        self._journal_where = journal_where
        self._window = window
        self._show = show
        self._timeout_seconds = timeout_seconds
        self._memories = memories
        self._clock = clock

    def measure(self) -> Measurement:
        """Return ``matches`` within the window, and ``lines_per_second`` since the last look; the last matching lines
        are a note. Raises ProbeError when nothing can be read, NoData without a journal.
        """
        kept = self._memories.load(self._name)
        now = self._clock()
        since = now - self._window
        counted = [row for row in kept.get("counted", ()) if datetime.fromisoformat(row[0]) > since]
        last_lines: list[str] = kept.get("last_lines", []) if counted else []
        read = found = 0
        deadline = time.monotonic() + self._timeout_seconds * 0.8
        files = LogFiles(self._files, kept.get("places"))
        journal = Journal(self._journal or (), self._timeout_seconds, kept.get("cursor"), self._journal_where)
        for counts in self._rules.filter(self._new_lines(files, journal, deadline)):
            read += 1
            if counts:
                found += 1
                last_lines = [*last_lines, _told(*counts, alone=files.found == 1)][-max(self._show, 1) :]
        if found:
            counted.append([now.isoformat(), found])
        seconds = (now - datetime.fromisoformat(kept["at"])).total_seconds() if "at" in kept else 0.0
        self._keep(
            {
                "at": now.isoformat(), "places": files.memory, "cursor": journal.cursor, "counted": counted,
                "last_lines": last_lines,
            }
        )  # fmt: skip
        if self._files and files.unreadable and len(files.unreadable) == files.found:
            path, reason = next(iter(files.unreadable.items()))
            raise ProbeError(f"reading {path}: {reason}", hint="may the user that keepwatch runs as read it?")
        if self._files and not files.found and self._journal is None:
            raise ProbeError(f"reading {', '.join(self._files)}: there is no such file")
        readings = [
            Reading("matches", sum(row[1] for row in counted), "count"),
            Reading("lines_per_second", read / seconds if seconds > 0 else 0.0, "per_second"),
        ]
        note = self._note(last_lines, files.unreadable)
        return Measurement(readings, notes={"": note} if note else {})

    def _new_lines(self, files: LogFiles, journal: Journal, deadline: float) -> Iterator[tuple[str, bytes]]:
        if self._files:
            yield from files.lines(deadline)
        if self._journal is not None:
            try:
                yield from journal.lines()
            except NoData:
                if not self._files:
                    raise

    def _keep(self, memory: dict[str, Any]) -> None:
        try:
            self._memories.save(self._name, memory)
        except OSError as error:
            raise ProbeError(
                f"keeping how far logs were read: {(error.strerror or str(error)).lower()}",
                hint="look at the free space of the state directory",
            ) from error

    def _note(self, last_lines: Sequence[str], unreadable: dict[str, str]) -> str:
        parts = list(last_lines) if self._show else []
        parts += [f"cannot read {path}: {reason}" for path, reason in list(unreadable.items())[:2]]
        return " | ".join(parts)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None


def _told(where: str, line: str, *, alone: bool) -> str:
    text = line.strip() if alone else f"{os.path.basename(where)}: {line.strip()}"
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"
