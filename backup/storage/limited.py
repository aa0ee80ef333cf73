"""How fast bytes may flow to and from a storage: limits by window of the week, kept by all processes together.

A limit is for the line, not for a process: the workers of a run, and runs beside it, draw on one account in a small
file that all of them find by the storage's name. The account holds the moment at which the line is free again, so
taking from it is one addition under a file lock, and a process that dies owes nothing. Bytes are let through in small
portions, never a pack at once, since a line that is full for a second is what the limit is there to prevent.

It refuses to judge what is sent, and it never drops or reorders anything.
"""

import fcntl
import hashlib
import logging
import math
import os
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final, Protocol

from backup.storage.base import Buffer, FileKind, Storage, StorageProperties, StoredFile, as_buffers
from config.windows import WeeklyWindow

log = logging.getLogger(__name__)

_PORTION_SECONDS: Final = 0.05
"""As much as the rate gives in this time is let through at once; waits shorter than this are not worth a call."""
_SMALLEST_PORTION: Final = 1024
_READ_BYTES: Final = 256 << 10
"""Read at once where there is no limit: what came before an answer broke off is kept in parts of this size."""
_BURST_SECONDS: Final = 0.25
"""What a line that was idle may catch up."""
_LONGEST_DEBT_SECONDS: Final = 60.0
"""An account deeper in debt than any queue of waiting processes explains is from before the machine started anew."""
_ACCOUNT: Final = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes a second in one direction. ``windows`` go before ``rate``; where several apply, the lowest counts."""

    rate: float = math.inf
    windows: tuple[tuple[WeeklyWindow, float], ...] = ()
    zone: tzinfo | None = None
    """Where windows are read; None for the machine's own zone."""

    def at(self, now: datetime) -> float:
        """Give the rate at a moment; infinity when there is none."""
        local = now.astimezone(self.zone)
        return min((rate for window, rate in self.windows if window.contains(local)), default=self.rate)

    @property
    def never(self) -> bool:
        """Whether it never limits anything."""
        return self.rate == math.inf and all(rate == math.inf for _, rate in self.windows)


UNLIMITED: Final = Limit()


class Pace(Protocol):
    """Told of bytes just before they flow; returns when they may."""

    def sending(self, count: int) -> None:
        """Wait until ``count`` bytes may be sent."""
        ...

    def receiving(self, count: int) -> None:
        """Wait until ``count`` bytes may be received."""
        ...

    def portion(self, *, sending: bool) -> int | None:
        """Most bytes to ask leave for at once; None when there is no limit now."""
        ...


class AtOnce:
    """The pace of a line that is not limited."""

    def sending(self, count: int) -> None:
        """See Pace."""

    def receiving(self, count: int) -> None:
        """See Pace."""

    def portion(self, *, sending: bool) -> int | None:  # noqa: ARG002 - as Pace has it
        """See Pace."""
        return None


AT_ONCE: Final = AtOnce()


class Account:
    """The moment at which a line is free again, in a file that processes share. Costs nothing until it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def reserve(self, seconds: float, now: float) -> float:
        """Book the line for ``seconds`` from when it is free; give how long to wait for that. ``now`` is monotonic.

        Raises OSError when the file cannot be used.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(self._path, flags, 0o600), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a lock of this open file: it keeps threads apart as well as processes
            held = file.read(_ACCOUNT.size) or b""
            free_at = _ACCOUNT.unpack(held)[0] if len(held) == _ACCOUNT.size else 0.0
            if not now - _BURST_SECONDS <= free_at <= now + _LONGEST_DEBT_SECONDS:
                free_at = now - _BURST_SECONDS
            file.seek(0)
            file.write(_ACCOUNT.pack(free_at + seconds))
        return max(0.0, free_at - now)


class Bandwidth:
    """Keeps the limits of one line. ``name`` says which line: whoever gives the same one shares it. Can be pickled."""

    def __init__(
        self,
        name: str,
        clock: Callable[[], datetime],
        *,
        upload: Limit = UNLIMITED,
        download: Limit = UNLIMITED,
        folder: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        place = accounts_folder() if folder is None else folder
        self._lines = (
            (upload, Account(place / f"{digest}-up")),
            (download, Account(place / f"{digest}-down")),
        )
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep

    def sending(self, count: int) -> None:
        """See Pace."""
        self._take(*self._lines[0], count)

    def receiving(self, count: int) -> None:
        """See Pace."""
        self._take(*self._lines[1], count)

    def portion(self, *, sending: bool) -> int | None:
        """See Pace."""
        limit, _ = self._lines[0 if sending else 1]
        rate = limit.at(self._clock())
        return None if rate == math.inf else max(_SMALLEST_PORTION, int(rate * _PORTION_SECONDS))

    def _take(self, limit: Limit, account: Account, count: int) -> None:
        rate = limit.at(self._clock())
        if rate != math.inf and count:
            wait = account.reserve(count / rate, self._monotonic())
            if wait > 0:
                self._sleep(wait)


def accounts_folder() -> Path:
    """Give the folder for accounts: one for each user below the system's temporary folder, found again by every run.

    One that somebody else owns or may write to is left alone, and a new one of this process is taken instead.
    """
    folder = Path(tempfile.gettempdir(), f"keepwatch-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return folder
        reason = "it belongs to somebody else"
    except OSError as error:
        reason = error.strerror or str(error)
    log.warning("rate limits not shared", extra={"folder": str(folder), "reason": reason})
    return Path(tempfile.mkdtemp(prefix="keepwatch-"))


class Limited:
    """A storage whose content flows no faster than ``pace`` lets it. For media that cannot be paced from inside."""

    def __init__(self, storage: Storage, pace: Pace) -> None:
        self._storage = storage
        self._pace = pace

    def __repr__(self) -> str:
        return f"Limited({self._storage!r})"

    @property
    def properties(self) -> StorageProperties:
        """See Storage."""
        return self._storage.properties

    def create(self) -> None:
        """See Storage."""
        self._storage.create()

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """Wait for the line as long as the content takes, then put it."""
        for count in portions(sum(map(len, as_buffers(content))), self._pace, sending=True):
            self._pace.sending(count)
        self._storage.put(kind, name, content)

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Get, and wait as long as the content would have taken."""
        content = self._storage.get(kind, name, offset, length)
        for count in portions(len(content), self._pace, sending=False):
            self._pace.receiving(count)
        return content

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """See Storage; names are too few to count."""
        return self._storage.list(kind)

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """See Storage."""
        return self._storage.stat(kind, name)

    def delete(self, kind: FileKind, name: str) -> None:
        """See Storage."""
        self._storage.delete(kind, name)


def portions(total: int, pace: Pace, *, sending: bool) -> Iterator[int]:
    """Cut ``total`` bytes into portions as the pace asks for, each when it is its turn."""
    while total > 0:
        count = min(total, pace.portion(sending=sending) or total)
        yield count
        total -= count


class PacedBody:
    """Bytes to be sent, as a file that lets them through at the pace. Free of charge until `start` is called.

    The HTTP library reads a body for its signature first, and only then for the line.
    """

    def __init__(self, content: Buffer, pace: Pace) -> None:
        self._content = memoryview(content)
        self._pace = pace
        self._at = 0
        self._paid = len(content)

    def start(self) -> None:
        """Be sent from here on."""
        self._paid = self._at

    def __len__(self) -> int:
        return len(self._content)

    def read(self, count: int | None = -1) -> bytes:
        """Read as a file does, in no larger portions than the pace has."""
        left = len(self._content) - self._at
        count = left if count is None or count < 0 else min(count, left)
        if self._at + count > self._paid:
            portion = min(left, max(count, self._pace.portion(sending=True) or left))
            self._pace.sending(portion)
            self._paid = self._at + portion
        self._at += count
        return self._content[self._at - count : self._at].tobytes()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek as a file does."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._content)}[whence]
        return self._at

    def tell(self) -> int:
        """Tell as a file does."""
        return self._at


class Readable(Protocol):
    """A response's body."""

    def read(self, amount: int | None = None) -> bytes:
        """Read up to ``amount`` bytes, all when None; nothing at the end."""
        ...

    def close(self) -> None:
        """End the response."""
        ...


def read_paced(body: Readable, expected: int, pace: Pace) -> Iterator[bytes]:
    """Read a whole body at the pace, part by part; ends early when it does."""
    with closing(body):
        while expected > 0:
            portion = min(pace.portion(sending=False) or _READ_BYTES, expected)
            pace.receiving(portion)
            part = body.read(portion)
            if not part:
                return
            yield part
            expected -= len(part)
