"""One run in a process of its own: reads its order from the pipe, carries it out, writes the outcome into the ledger.

Started by the daemon as ``python -m keepwatch.job_child``; not a command for people. Its standard input stays open as
a lifeline: when it closes, the daemon is gone and the run stops. SIGUSR1 pauses the run and SIGUSR2 lets it go on; the
first line of progress tells that they are understood.
"""

import json
import logging
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from config.settings import Settings
from keepwatch import logs
from keepwatch.clock import now
from keepwatch.orders import Order, Progress
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory

_PROGRESS_EVERY_SECONDS = 0.5


def main() -> int:
    """Carry out one order and return its exit code."""
    order, settings, state_dir = _receive()
    logs.configure(settings.daemon.log_format)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    # `restic unlock` probes the process named in a lock with SIGHUP, which would kill a process without a handler.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    paused = _Paused()
    signal.signal(signal.SIGUSR1, paused.pause)
    signal.signal(signal.SIGUSR2, paused.resume)
    progress = _Reporter()
    progress(Progress("starting"))
    threading.Thread(target=_watch_lifeline, args=(stop,), daemon=True).start()
    _step_back()
    ending = carry_out(
        order, settings, StateDirectory(state_dir), clock=now, progress=progress, stop=stop, is_paused=paused.is_paused
    )
    return ending.exit_code


def _receive() -> tuple[Order, Settings, Path]:
    size = int.from_bytes(_read(4), "big")
    order, settings, state_dir = pickle.loads(_read(size))  # noqa: S301 - written by the parent process
    return order, settings, Path(state_dir)


def _read(size: int) -> bytes:
    """Read from the descriptor itself: a thread waiting in ``sys.stdin`` holds its lock over the workers' fork."""
    data = b""
    while len(data) < size and (more := os.read(0, size - len(data))):
        data += more
    return data


def _watch_lifeline(stop: threading.Event) -> None:
    _read(1)
    logging.getLogger(__name__).warning("daemon gone, stopping")
    stop.set()


def _step_back() -> None:
    """Leave processor and disk to whoever works on this machine."""
    os.nice(10)
    if hasattr(psutil, "IOPRIO_CLASS_BE"):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)


class _Paused:
    """What the two signals say. A plain flag: a handler must not ask for a lock that the run may hold."""

    def __init__(self) -> None:
        self._paused = False

    def pause(self, *_: object) -> None:
        self._paused = True

    def resume(self, *_: object) -> None:
        self._paused = False

    def is_paused(self) -> bool:
        return self._paused


class _Reporter:
    """Writes progress as JSON lines, at most two a second: the pipe must never fill."""

    def __init__(self) -> None:
        self._last = 0.0
        self._phase = ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase == self._phase and now - self._last < _PROGRESS_EVERY_SECONDS:
            return
        self._last, self._phase = now, progress.phase
        row = {name: getattr(progress, name) for name in Progress.__slots__}
        try:
            os.write(1, json.dumps(row).encode() + b"\n")
        except OSError:
            return  # nobody listens any more; the lifeline ends the run


if __name__ == "__main__":
    sys.exit(main())
