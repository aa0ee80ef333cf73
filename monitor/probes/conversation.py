"""A few bytes there and a few back over TCP, with one deadline for all of it and a cap on what the other side may say.

What the bytes mean is the business of the probes that speak a protocol.
"""

import codecs
import time
from types import TracebackType
from typing import Self

from monitor.probes.address import Unreachable, connect

MOST_BYTES = 64 * 1024


class Conversation:
    """A connection to ``host`` and ``port``. Every method raises :class:`Unreachable` when the other side is silent
    until the deadline (on the monotonic clock), hangs up, or says too much.
    """

    def __init__(self, host: str, port: int, deadline: float) -> None:
        self.where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._deadline = deadline
        self.socket, self.connect_seconds = connect(host, port, deadline)
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def hurry(self, deadline: float) -> None:
        """Wait no longer than until ``deadline`` from now on."""
        self._deadline = deadline

    def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self.socket.settimeout(self._remaining())
            self.socket.sendall(data)
        except OSError as error:
            raise self._broken(error) from error

    def read(self, count: int) -> bytes:
        """Return exactly ``count`` bytes."""
        if count > MOST_BYTES:
            raise Unreachable(f"{self.where} announces {count} bytes, which is no answer in its protocol")
        while len(self._pending) < count:
            self._receive()
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def read_line(self) -> bytes:
        """Return what comes before the next line feed, without the line end."""
        while b"\n" not in self._pending:
            if len(self._pending) > MOST_BYTES:
                raise Unreachable(f"{self.where} says more than {MOST_BYTES} bytes without a line end")
            self._receive()
        line, _, self._pending = self._pending.partition(b"\n")
        return line.rstrip(b"\r")

    def read_some(self) -> bytes:
        """Return what has come, waiting for the first byte."""
        if not self._pending:
            self._receive()
        taken, self._pending = self._pending, b""
        return taken

    def _receive(self) -> None:
        try:
            self.socket.settimeout(self._remaining())
            piece = self.socket.recv(16_384)
        except OSError as error:
            raise self._broken(error) from error
        if not piece:
            said = f" after {shown(self._pending)}" if self._pending else " without a word"
            raise Unreachable(f"{self.where} hung up{said}")
        self._pending += piece

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def _broken(self, error: OSError) -> Unreachable:
        if isinstance(error, TimeoutError):
            return Unreachable(f"{self.where} accepts connections and does not answer in time")
        return Unreachable(f"{self.where} broke the connection off: {(error.strerror or str(error)).lower()}")


def shown(data: bytes, limit: int = 60) -> str:
    """Return bytes from outside as a short quoted text."""
    text = data[:limit].decode("utf-8", "backslashreplace")
    return repr(text) + ("..." if len(data) > limit else "")


def unescaped(text: str) -> bytes:
    r"""Return what an operator wrote with ``\r``, ``\n`` or ``\x00`` in it; other characters as UTF-8."""
    pieces = codecs.escape_decode(text.encode())
    return bytes(pieces[0])
