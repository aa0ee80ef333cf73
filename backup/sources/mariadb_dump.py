"""Reads along while a dump of MariaDB or MySQL flows by: rows of each table, position in the binlog, whether all came.

Rows are counted in the dump itself: it is one moment of the server, and no other connection could count at the same
one without a lock. Values cannot be taken for anything else: a dump writes line ends within them as escapes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_HEAD_BYTES = 64 << 10
_TAIL_BYTES = 4 << 10
_WHOLE = b"-- Dump completed"
_BEGINS = re.compile(rb"^(?:USE `((?:[^`]|``)+)`;|LOCK TABLES `((?:[^`]|``)+)` WRITE;)$", re.MULTILINE)
_ENDS = re.compile(rb"^UNLOCK TABLES;$", re.MULTILINE)
_ROWS_ON_LINES = re.compile(rb"^\(", re.MULTILINE)
_INSERT = re.compile(rb"^INSERT INTO `(?:[^`]|``)+`[^\n]* VALUES (\(.*)$", re.MULTILINE)
_ROW = re.compile(rb"\((?:[^'()]|'(?:[^'\\]|\\.|'')*')*\)", re.DOTALL)
_POSITION = re.compile(rb"(?:MASTER|SOURCE)_LOG_FILE='([^']+)', (?:MASTER|SOURCE)_LOG_POS=(\d+)")
_GTID = re.compile(rb"SET GLOBAL gtid_slave_pos='([^']*)'")


@dataclass(slots=True)
class DumpReader:
    """Passes a dump on, and knows what was in it once it is through."""

    rows: dict[str, int] = field(default_factory=dict)
    """``database.table`` -> rows."""
    size_bytes: int = 0
    position: str = ""
    """``FILE:POSITION`` in the binlog at its moment; empty where none is kept."""
    gtid: str = ""
    whole: bool = False
    """Whether its last line is there."""
    _database: str = ""
    _table: str = ""

    def passing(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """Give the content as it is."""
        head, rest, tail = b"", b"", b""
        for part in content:
            self.size_bytes += len(part)
            if len(head) < _HEAD_BYTES:
                head += part[:_HEAD_BYTES]
            tail = (tail + part)[-_TAIL_BYTES:]
            data = rest + part
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            self._read(data[:cut])
            yield part
        self._read(rest)
        if found := _POSITION.search(head):
            self.position = f"{found[1].decode()}:{found[2].decode()}"
        if found := _GTID.search(tail):
            self.gtid = found[1].decode()
        self.whole = is_whole(tail)

    def _read(self, lines: bytes) -> None:
        at = 0
        while at < len(lines):
            if self._table:
                found = _ENDS.search(lines, at)
                self._count(lines, at, found.start() if found else len(lines))
                if found is None:
                    return
                self._table = ""
            else:
                found = _BEGINS.search(lines, at)
                if found is None:
                    return
                if found[1] is not None:
                    self._database = _name(found[1])
                else:
                    self._table = f"{self._database}.{_name(found[2])}"
                    self.rows.setdefault(self._table, 0)
            at = found.end()

    def _count(self, lines: bytes, start: int, end: int) -> None:
        block = lines[start:end]
        number = len(_ROWS_ON_LINES.findall(block))
        if not number:  # MySQL writes all rows of a statement on its first line
            number = sum(len(_ROW.findall(insert[1])) for insert in _INSERT.finditer(block))
        self.rows[self._table] += number


def is_whole(tail: bytes) -> bool:
    """Say whether a dump with these last bytes came to its end."""
    return _WHOLE in tail[-200:]


def _name(quoted: bytes) -> str:
    return quoted.replace(b"``", b"`").decode("utf-8", "replace")
