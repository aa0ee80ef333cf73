"""Bounds the memory of programs that run on restored data, for as long as a drill lasts: the machine has other work.

Before the kernel runs out of memory it ends them rather than the real servers; beyond a limit of our own we end them.
It refuses to use control groups: those belong to whoever runs the machine, and are there for few. A limit of each
process' address space (setrlimit(2)) would be one of mappings, not of memory, and tell nobody why a server ended.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import psutil

from backup.errors import RestoreError
from config.units import format_size

_LOOK_EVERY_SECONDS = 0.25
_KILL_FIRST = "1000"
"""The most that /proc/PID/oom_score_adj takes (proc(5))."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    limit_bytes: int | None


_bounds: ContextVar[_Bounds | None] = ContextVar("bounds of programs that are started", default=None)


@contextmanager
def bounded(limit_bytes: int | None) -> Iterator[None]:
    """Have all programs that are started within, on this thread, end first, and each take no more than the limit with
    its children; none when left out.
    """
    token = _bounds.set(_Bounds(limit_bytes))
    try:
        yield
    finally:
        _bounds.reset(token)


def offer_ourselves() -> None:
    """Called in a child that will become a program: have the kernel choose it when memory runs out."""
    if _bounds.get() is not None:
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_KILL_FIRST, encoding="ascii")


@contextmanager
def watched(name: str, pid: int) -> Iterator[None]:
    """Look after a program that was started within bounds; it is ended when it takes too much.

    Raises RestoreError then, at the end, whatever else that has led to.
    """
    bounds = _bounds.get()
    if bounds is None or bounds.limit_bytes is None:
        yield
        return
    watch = _Watch(pid, bounds.limit_bytes)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
        if watch.took:
            raise RestoreError(
                f"{name} took {format_size(watch.took)} of memory, and may take {format_size(bounds.limit_bytes)}",
                hint="raise the drill's memory_limit, or drill on a machine with more memory",
            )


class _Watch(threading.Thread):
    """Looks at one program and its children until it is told to stop."""

    def __init__(self, pid: int, limit_bytes: int) -> None:
        super().__init__(name=f"memory of {pid}", daemon=True)
        self.took = 0
        """What was too much; 0 while nothing was."""
        self._pid = pid
        self._limit_bytes = limit_bytes
        self._done = threading.Event()

    def run(self) -> None:
        """Look, and end what takes too much."""
        while not self._done.wait(_LOOK_EVERY_SECONDS):
            with suppress(psutil.NoSuchProcess):
                first = psutil.Process(self._pid)
                family = [first, *first.children(recursive=True)]
                if (took := _taken(family, self._limit_bytes)) > self._limit_bytes:
                    self.took = took
                    for process in family:
                        with suppress(psutil.NoSuchProcess):
                            process.kill()
                    return

    def stop(self) -> None:
        """End the watch."""
        self._done.set()
        self.join()


def _taken(family: list[psutil.Process], limit_bytes: int) -> int:
    """Add up what processes take. What they share counts once; that takes long to ask, and mostly need not be."""
    together = sum(_of(process, shared=True) for process in family)
    return together if together <= limit_bytes else sum(_of(process, shared=False) for process in family)


def _of(process: psutil.Process, *, shared: bool) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_info().rss if shared else process.memory_full_info().pss)
    return 0
