"""The drill journal: evidence that is only ever added to, each line chained to the one before by its hash.

A line is ``{"at", "before", "hash", "line", "record"}`` in JSON; ``hash`` is SHA-256 over the canonical JSON (sorted
keys, no spaces) of the other four, and ``before`` is the hash of the line before, 64 zeros for the first. Whoever
changes, removes or inserts a line breaks the chain at a line that ``verify`` names. What the chain alone cannot show is
that its end was cut off, so the newest line's number and hash stand in a second file, the anchor ``NAME.anchor``, which
never goes back. That finds a file system that lost the end, an older state of the journal put back, and whoever edits
one file and knows nothing of the other. It does not find whoever may write here and means to deceive: they can replace
both, or write a whole new chain. Against them a hash helps that lies where they cannot reach it: ``verify`` takes any.

A writer that dies leaves at most a torn line. The next one begins a new line behind it, and the chain goes on from the
last whole one; nothing is ever rewritten.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backup.errors import BackupError
from backup.rfc3339 import format_time

log = logging.getLogger(__name__)

_FIRST = "0" * 64
_START = b'{"at": "'


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One entry of the journal."""

    line: int
    """Counted from 1 along the chain."""
    at: str
    """RFC 3339, UTC."""
    before: str
    record: Mapping[str, object]
    hash: str

    def expected_hash(self) -> str:
        """The hash that belongs to the rest of the line."""
        rest = {"line": self.line, "at": self.at, "before": self.before, "record": self.record}
        return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Anchor:
    """A line that is known to have been written."""

    line: int
    hash: str


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """What verifying a journal found."""

    lines: int
    """Whole lines in the chain, up to the first that is broken."""
    last_hash: str
    broken_line: int | None = None
    """The first line of the file, counted from 1, that does not belong or is not there; None when the chain holds."""
    problem: str | None = None
    torn: int = 0
    """Lines that a dying writer left behind; they are no damage."""


class Journal:
    """The journal at ``path``; several processes may append to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._anchor_path = path.with_suffix(".anchor")

    def append(self, record: Mapping[str, object], *, now: datetime) -> int:
        """Add a record durably and give its number. Raises BackupError when it cannot be written."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                with open(descriptor, "rb", closefd=False) as file:
                    content = file.read()
                last = _last(content)
                number, before = (last.line + 1, last.hash) if last else (1, _FIRST)
                entry = JournalLine(number, format_time(now), before, dict(record), "")
                document = {"at": entry.at, "before": before, "line": number, "record": entry.record}
                whole = json.dumps(document | {"hash": entry.expected_hash()}, sort_keys=True).encode() + b"\n"
                _write_all(descriptor, (b"\n" if content and not content.endswith(b"\n") else b"") + whole)
                os.fsync(descriptor)
                self._anchor(content, Anchor(number, entry.expected_hash()))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise BackupError(
                f"could not write the drill journal {self.path}: {error.strerror}",
                hint="look at the free space and rights of the state directory",
            ) from error
        return number

    def lines(self) -> Iterator[JournalLine]:
        """Give every whole line, oldest first. Raises BackupError when it cannot be read."""
        return (entry for raw in self._content().splitlines() if (entry := _parse(raw)))

    def verify(self, noted: Iterable[str] = ()) -> JournalCheck:
        """Check the whole chain, and that it still holds the anchor's line and those with the hashes ``noted``.

        Raises BackupError when the journal or its anchor cannot be read.
        """
        anchor = self._anchored()  # before the lines: whoever appends meanwhile writes it after them
        before, lines, torn, places = _FIRST, 0, 0, dict[str, int]()
        raws = self._content().splitlines()
        for place, raw in enumerate(raws, 1):
            entry = _parse(raw)
            if entry is None:
                if place < len(raws) and not _looks_torn(raw):
                    return JournalCheck(lines, before, place, "it is not a line of a journal", torn)
                torn += 1
                continue
            if entry.hash != entry.expected_hash():
                return JournalCheck(lines, before, place, "it was changed after it was written", torn)
            if entry.before != before or entry.line != lines + 1:
                return JournalCheck(lines, before, place, "a line before it was removed, inserted or moved", torn)
            before, lines = entry.hash, lines + 1
            places[entry.hash] = lines
        problem = None
        if anchor is not None and anchor.line > lines:
            problem = f"the end was cut off: {anchor.line} lines were written, the last with hash {anchor.hash}"
        elif anchor is not None and places.get(anchor.hash) != anchor.line:
            problem = f"line {anchor.line} is not the one that was written, with hash {anchor.hash}"
        elif missing := next((hash_ for hash_ in noted if hash_ not in places), None):
            problem = f"no line has the hash {missing}, which was noted elsewhere: lines were cut off"
        return JournalCheck(lines, before, len(raws) + 1 if problem else None, problem, torn)

    def _anchor(self, before: bytes, new: Anchor) -> None:
        """Move the anchor on to a new line, unless what it stands for is not in the journal: that must stay known."""
        try:
            known = self._anchored()
            if known is not None and not _holds(before, known):
                log.error("journal lost lines", extra={"file": str(self.path), "line": known.line})
                return
            draft = self._anchor_path.with_suffix(".anchor-new")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                json.dump({"line": new.line, "hash": new.hash}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._anchor_path)
        except (OSError, BackupError) as error:  # the line itself is written, and an older anchor is still true
            log.warning("journal not anchored", extra={"file": str(self.path), "reason": str(error)})

    def _anchored(self) -> Anchor | None:
        """Read the anchor; None for a journal that has none yet."""
        try:
            known = json.loads(self._anchor_path.read_bytes())
            return Anchor(int(known["line"]), str(known["hash"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupError(
                f"could not read {self._anchor_path}: {error}",
                hint="it holds the newest line's number and hash; remove it to go on without knowing about lost lines",
            ) from error

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise BackupError(f"could not read the drill journal {self.path}: {error.strerror}") from error


def _looks_torn(raw: bytes) -> bool:
    """Whether this is the beginning of a line, and no more."""
    return raw.startswith(_START[: len(raw)]) and not raw.endswith(b"}")


def _last(content: bytes) -> JournalLine | None:
    return next((entry for raw in reversed(content.splitlines()) if (entry := _parse(raw))), None)


def _holds(content: bytes, anchor: Anchor) -> bool:
    """Whether a line is there; it is mostly the last one."""
    found = (entry for raw in reversed(content.splitlines()) if (entry := _parse(raw)))
    return any((entry.line, entry.hash) == (anchor.line, anchor.hash) for entry in found)


def _parse(raw: bytes) -> JournalLine | None:
    try:
        entry = json.loads(raw)
        found = JournalLine(entry["line"], entry["at"], entry["before"], entry["record"], entry["hash"])
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found.line, int) and isinstance(found.hash, str) else None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
