r"""Reads the script that ``pg_restore --section=data --file=-`` writes: its statements, and the rows of tables in lots.

The script is psql's language as far as ``pg_restore`` uses it: statements, comments, the lines ``\restrict`` and
``\unrestrict``, and after each ``COPY ... FROM stdin;`` the rows in COPY's text format up to a line ``\.``. In that
format a raw newline ends a row and nothing else does: the newlines of values are written ``\n``. So rows can be cut
apart without a look into them (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format").

It runs nothing, and holds no more than one statement, or one row, beyond the part that it was handed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from backup.errors import RestoreError

_BETWEEN: Final = rb"(?:\s++|--[^\n]*+\n|\\(?:un)?restrict [^\n]*+\n)*+"
_QUOTED: Final = rb"\"[^\"]*+\"|'[^']*+'"
"""A doubled quote is an end and a new beginning; backslashes are plain, as standard_conforming_strings has it."""
_STATEMENT: Final = re.compile(_BETWEEN + rb"((?:[^;\"'-]++|-(?!-)|--[^\n]*+\n|" + _QUOTED + rb")++;)\n")
_NAME: Final = re.compile(rb"(?:\"[^\"]*+\"|[^\" ]++)++")
_NOTHING_MORE: Final = re.compile(_BETWEEN + rb"\Z")
_ROWS_FOLLOW: Final = b" FROM stdin;"
_OF_THE_SESSION: Final = (b"SET ", b"SELECT pg_catalog.set_config(")
_END: Final = b"\\.\n"
_LOT_BYTES: Final = 256 << 10
"""Less is not worth handing on."""
_MOST_BYTES: Final = 64 << 20
"""No statement is as long: one that writes into a large object has 16 KiB of it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What is to be run before anything that follows, and after nothing in particular: rows may still be under way."""

    text: bytes

    @property
    def is_for_the_session(self) -> bool:
        """Whether it changes how the following is understood, in whichever session that runs."""
        return self.text.startswith(_OF_THE_SESSION)


@dataclass(frozen=True, slots=True)
class Copy:
    """One table's rows to come."""

    statement: bytes
    number: int
    """Of this COPY in its script: the same words may stand there twice."""

    @property
    def table(self) -> bytes:
        """The table's name, as the statement has it."""
        found = _NAME.match(self.statement, len(b"COPY "))
        return found[0] if found else self.statement


@dataclass(frozen=True, slots=True)
class Lot:
    """Some whole rows."""

    copy: Copy
    rows: bytes
    first: int
    """Which row of the table the first of them is, counted from 1."""
    count: int


def read_script(parts: Iterable[bytes]) -> Iterator[Statement | Lot]:
    """Give everything in its order; Raises RestoreError for a torn script."""
    script, copies = _Script(iter(parts)), 0
    while True:
        if found := _STATEMENT.match(script.buffer, script.at):
            script.at = found.end()
            if found[1].startswith(b"COPY ") and found[1].endswith(_ROWS_FOLLOW):
                copies += 1
                yield from _rows(script, Copy(found[1], copies))
            else:
                yield Statement(found[1])
        elif len(script.buffer) - script.at > _MOST_BYTES or not script.more():
            if _NOTHING_MORE.match(script.buffer, script.at):
                return
            raise RestoreError("could not read what pg_restore wrote: a statement has no end")


def _rows(script: "_Script", copy: Copy) -> Iterator[Lot]:
    first = 1
    while not script.buffer.startswith(_END, script.at):
        backslash = script.buffer.find(b"\\", script.at)  # found or missed in a tenth of the time
        end = script.buffer.find(b"\n" + _END, max(script.at, backslash - 1)) if backslash >= 0 else -1
        cut = (end if end >= 0 else script.buffer.rfind(b"\n", script.at)) + 1
        if cut:
            rows = script.buffer[script.at : cut]
            script.at = cut
            count = rows.count(b"\n")
            yield Lot(copy, rows, first, count)
            first += count
        elif not script.more():
            raise RestoreError("could not read what pg_restore wrote: the rows of a table have no end")
    script.at += len(_END)


class _Script:
    """What has come and is not understood yet: ``buffer`` from ``at`` on."""

    def __init__(self, coming: Iterator[bytes]) -> None:
        self.buffer = b""
        self.at = 0
        self._coming = coming

    def more(self) -> bool:
        """Wait for a good deal more, and for the end of a line; False when nothing comes any more."""
        parts, size = [self.buffer[self.at :]], 0
        for part in self._coming:
            parts.append(part)
            size += len(part)
            if size >= _LOT_BYTES and b"\n" in part:
                break
        self.buffer, self.at = b"".join(parts), 0
        return size > 0
