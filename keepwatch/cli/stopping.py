"""Stopping a command that works for long: the first signal asks, the second one interrupts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keepwatch.cli.output import note


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; the second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("stopping; what is stored so far helps the next run. Once more to stop at once.")

    before = [(number, signal.signal(number, ask)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def interrupted_by_termination() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that programs and servers at work for us are told to end as well."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
