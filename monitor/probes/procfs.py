"""Processes as /proc shows them, cheaply: one small read each, since hundreds are looked at every few seconds.

psutil builds an object and reads several files for each process, ten times the cost. A process that ends while it is
looked at is left out. Formats: proc(5).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.result import ProbeError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 2048
"""More than any /proc/PID/stat has: 52 numbers and a name of at most 64 bytes."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process. ``started_seconds`` counts from boot; together with ``pid`` it names the process for good."""

    pid: int
    name: str
    """The kernel's name for it, cut to 15 characters."""
    state: str
    """One letter: R, S, D (waits for a device), Z (zombie), T, t, X, I."""
    cpu_seconds: float
    memory_bytes: int
    started_seconds: float


def stat_lines(proc: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the process id and the ``stat`` line of every process. Raises ProbeError when there is no /proc."""
    root = os.fspath(proc)
    try:
        names = os.listdir(root)
    except OSError as error:
        raise ProbeError(f"listing processes in {root}: {error.strerror}") from error
    for name in names:
        if name.isdigit():
            line = read_small(f"{root}/{name}/stat", _STAT_BYTES)
            if line:
                yield name, line


def state_of(line: bytes) -> str:
    """Return the state letter of a ``stat`` line. The name before it may hold anything, closing brackets included."""
    return chr(line[line.rindex(b")") + 2])


def name_of(line: bytes) -> bytes:
    """Return the name in a ``stat`` line."""
    return line[line.index(b"(") + 1 : line.rindex(b")")]


def parse_stat(pid: str, line: bytes) -> Process:
    """Read a whole ``stat`` line."""
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(
        pid=int(pid),
        name=name_of(line).decode("utf-8", "replace"),
        state=fields[0].decode(),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND,
        memory_bytes=int(fields[21]) * PAGE_BYTES,
        started_seconds=int(fields[19]) / TICKS_PER_SECOND,
    )


def command_line(proc: Path, pid: str, limit: int = 65_536) -> str:
    """Return the arguments joined by spaces; empty for a kernel thread and for a process that is gone."""
    raw = read_small(f"{os.fspath(proc)}/{pid}/cmdline", limit)
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def open_files(proc: Path, pid: int) -> int | None:
    """Return how many files a process has open; None when this user may not know."""
    try:
        return len(os.listdir(f"{os.fspath(proc)}/{pid}/fd"))
    except PermissionError:
        return None
    except OSError:
        return 0


def read_small(path: str, limit: int) -> bytes:
    """Return up to ``limit`` bytes of a file, nothing when it cannot be read (any more)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, limit)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
