"""The binlog as a file: which files there are, where its events begin, when transactions were committed.

An event begins with 19 bytes: when it was made (seconds), its type, the server, its length, where the next one begins,
flags (sql/log_event.h; https://mariadb.com/kb/en/2-binlog-event-header/).
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

MAGIC = b"\xfebin"
_HEAD = struct.Struct("<IBIIIH")
_QUERY, _XID = 2, 16
_FLAGS_AT = len(MAGIC) + 17
_IN_USE = 1
_NAME = re.compile(r"(.+)\.(\d{6,})")


@dataclass(frozen=True, slots=True, order=True)
class BinlogName:
    """``binlog.000012``: sorts as the log goes on."""

    base: str
    number: int
    text: str

    @classmethod
    def parse(cls, text: str) -> "BinlogName | None":
        """Take a name apart; None for another file, such as the index."""
        found = _NAME.fullmatch(text)
        return cls(found[1], int(found[2]), text) if found else None


def binlogs_in(folder: Path, base: str = "") -> list[Path]:
    """List the binlog files of a folder in order; ``base`` is what their names begin with, any when left out."""
    names = (BinlogName.parse(path.name) for path in folder.iterdir() if path.is_file())
    return [folder / name.text for name in sorted(name for name in names if name and base in ("", name.base))]


def first_missing(names: Iterable[str]) -> str:
    """Name the first file that is missing between the first and the last of these; empty when none is."""
    found = sorted(name for text in names if (name := BinlogName.parse(text)))
    for before, after in pairwise(found):
        if after.base == before.base and after.number > before.number + 1:
            return f"{before.base}.{before.number + 1:0{len(before.text) - len(before.base) - 1}}"
    return ""


def whole_events(data: bytes, at: int = 0) -> int:
    """Return where the last whole event of ``data`` ends, the first beginning at ``at``."""
    while at + _HEAD.size <= len(data):
        length = _HEAD.unpack_from(data, at)[3]
        if length < _HEAD.size or at + length > len(data):
            break
        at += length
    return at


def as_closed(data: bytes) -> bytes:
    """Return the beginning of a file as it is once the server has closed it: until then its first event carries a flag.

    The event's checksum is of the closed form (LOG_EVENT_BINLOG_IN_USE_F in sql/log_event.h).
    """
    if len(data) <= _FLAGS_AT or not data[_FLAGS_AT] & _IN_USE:
        return data
    return data[:_FLAGS_AT] + bytes((data[_FLAGS_AT] & ~_IN_USE,)) + data[_FLAGS_AT + 1 :]


def commits(path: Path, start: int = len(MAGIC)) -> Iterator[tuple[int, datetime]]:
    """Yield where each transaction of a file ends, and when it was committed; single statements are among them."""
    with path.open("rb") as content:
        content.seek(max(start, len(MAGIC)))
        while len(head := content.read(_HEAD.size)) == _HEAD.size:
            seconds, kind, _, length, end, _ = _HEAD.unpack(head)
            if length < _HEAD.size:
                return
            if kind in (_QUERY, _XID):
                yield end, datetime.fromtimestamp(seconds, UTC)
            content.seek(length - _HEAD.size, 1)
