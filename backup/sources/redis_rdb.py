"""What the head and the end of an RDB file tell while it flows by: whose it is, of when, how many keys, whether whole.

Values are not looked at: the file's own checksum guards them, and the server that loads it counts them. The format is
Redis' own (rdb.h and rdb.c of its source).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_MAGIC = b"REDIS"
_AUX, _FUNCTION, _SELECT, _RESIZE, _END = 0xFA, 0xF5, 0xFE, 0xFB, 0xFF
_TAIL_BYTES = 9
"""The opcode of the end, and a checksum."""
_MARK_BYTES = 40
"""Random hexadecimal digits that a server appends when it did not know the length beforehand."""
_HEAD_BYTES = 1 << 20


class NotWhole(Exception):  # noqa: N818 - says what is the case
    """What came is no RDB file, or only a part of one."""


@dataclass(slots=True)
class RdbFile:
    """Passes an RDB file on, and knows what it said of itself once it is through."""

    size_bytes: int = 0
    aux: dict[str, str] = field(default_factory=dict)
    """Such as redis-ver, ctime, used-mem, repl-id, repl-offset."""
    database: int | None = None
    """The first that holds keys; None where that could not be read."""
    keys: int = 0
    """In that database."""
    expiring: int = 0
    """Those of them that have an end; they may be gone when the file is loaded."""

    def passing(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """Give the content without the mark behind it. Raises NotWhole before it ends when its end is missing."""
        head = bytearray()
        held = b""
        for part in content:
            if len(head) < _HEAD_BYTES:
                head += part[:_HEAD_BYTES]
            held += part
            if len(held) > _TAIL_BYTES + _MARK_BYTES:
                out, held = held[: -_TAIL_BYTES - _MARK_BYTES], held[-_TAIL_BYTES - _MARK_BYTES :]
                self.size_bytes += len(out)
                yield out
        if not head.startswith(_MAGIC):
            raise NotWhole("the server did not send an RDB file")
        tail = _without_mark(held)
        if len(tail) < _TAIL_BYTES or tail[-_TAIL_BYTES] != _END:
            raise NotWhole("the RDB file ended in the middle")
        self._read(bytes(head))
        self.size_bytes += len(tail)
        yield tail

    def _read(self, head: bytes) -> None:
        reader = _Reader(head, len(_MAGIC) + 4)
        try:
            while True:
                opcode = reader.byte()
                if opcode == _AUX:
                    key, value = reader.text(), reader.text()
                    self.aux[key] = value
                elif opcode == _FUNCTION:
                    reader.text()
                elif opcode == _SELECT:
                    number = reader.length()
                    if reader.byte() == _RESIZE:
                        self.keys, self.expiring, self.database = reader.length(), reader.length(), number
                    return
                else:
                    return
        except IndexError:  # longer than what is looked at: libraries of functions can be
            return


def _without_mark(held: bytes) -> bytes:
    digits = held[-_MARK_BYTES:]
    marked = len(held) == _TAIL_BYTES + _MARK_BYTES and held[0] == _END and not digits.strip(b"0123456789abcdef")
    return held[:-_MARK_BYTES] if marked else held


@dataclass(slots=True)
class _Reader:
    """Lengths and strings as RDB writes them."""

    data: bytes
    at: int

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise IndexError
        self.at += count
        return self.data[self.at - count : self.at]

    def length(self) -> int:
        first = self.byte()
        match first >> 6:
            case 0:
                return first & 0x3F
            case 1:
                return (first & 0x3F) << 8 | self.byte()
            case 2:
                return int.from_bytes(self.take(8 if first == 0x81 else 4), "big")
        raise IndexError

    def text(self) -> str:
        """Read a string; a compressed one is passed over and comes empty."""
        first = self.data[self.at]
        if first >> 6 != 3:
            return self.take(self.length()).decode("utf-8", "replace")
        self.at += 1
        match first & 0x3F:
            case 0 | 1 | 2 as power:
                return str(int.from_bytes(self.take(1 << power), "little", signed=True))
        compressed, _ = self.length(), self.length()
        self.take(compressed)
        return ""
