"""One run in a process of its own: reads its order from the pipe, carries it out, writes the outcome into the ledger.

Started by the daemon as ``python -m keepwatch.job_child``; not a command for people. Its standard input stays open as
a lifeline: when it closes, the daemon is gone and the run stops.
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
    threading.Thread(target=_watch_lifeline, args=(stop,), daemon=True).start()
    _step_back()
    ending = carry_out(order, settings, StateDirectory(state_dir), clock=now, progress=_Reporter(), stop=stop)
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
