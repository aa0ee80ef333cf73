"""Runs each order in a child process of its own: spawns, listens, limits, stops.

The child's memory goes back to the system with it, it can be niced and killed, and its crash cannot blind the
monitor. Orders and settings go down a pipe, so no secret stands in a process list or on disk; the same pipe is the
child's lifeline: when the daemon dies, however it dies, the pipe closes and the child stops cleanly. Progress comes
back as JSON lines. What became of a run, the child writes into the ledger itself; the runner reports only that a
child is gone and how.
"""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from keepwatch.orders import Order, Progress

log = logging.getLogger(__name__)

_KILL_AFTER_SECONDS = 30.0
"""How long a child that was asked to stop may take: it finishes the pack it is writing and removes its lock."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that is gone. ``status`` is its exit status, negative for the signal that killed it."""

    order: Order
    status: int
    timed_out: bool


@dataclass(slots=True)
class _Child:
    order: Order
    process: "subprocess.Popen[bytes]"
    started: float
    limit_seconds: float | None
    pending: bytes = b""
    progress: Progress | None = None
    stop_asked: float | None = None
    timed_out: bool = False
    understands: bool = False
    """Whether its handlers are there; before that a pause would kill it."""
    paused_at: float | None = None
    """Since when it rests; ``started`` moves on by each pause that is over."""

    def is_over_its_limit(self, now: float) -> bool:
        """Whether it has been at work for too long, pauses left out."""
        at_work = (now if self.paused_at is None else self.paused_at) - self.started
        return self.limit_seconds is not None and at_work > self.limit_seconds


class JobRunner:
    """The job children of one daemon. All methods belong to one thread, and none of them waits."""

    def __init__(self, state_dir: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._monotonic = monotonic
        self._children: list[_Child] = []

    def start(self, order: Order, settings: Settings) -> int:
        """Start a child for ``order`` with exactly these settings and return its process id."""
        process = subprocess.Popen(
            [sys.executable, "-m", "keepwatch.job_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin
        assert process.stdout
        letter = pickle.dumps((order, settings, str(self._state_dir)))
        try:
            process.stdin.write(len(letter).to_bytes(4, "big") + letter)
            process.stdin.flush()
        except BrokenPipeError:
            log.error("job child died at once", extra={"job": order.job, "kind": order.kind})
        os.set_blocking(process.stdout.fileno(), False)
        timeout = settings.jobs[order.job].timeout if order.job else None
        limit = timeout.total_seconds() if timeout else None
        self._children.append(_Child(order, process, self._monotonic(), limit))
        return process.pid

    @property
    def running(self) -> dict[tuple[str, str, str], Progress | None]:
        """The orders under way, by key, with how far each is."""
        return {child.order.key: child.progress for child in self._children}

    def poll(self) -> list[Ended]:
        """Read what the children tell, stop those over their limit, and return those that are gone."""
        now = self._monotonic()
        ended = []
        for child in list(self._children):
            self._listen(child)
            if (status := child.process.poll()) is not None:
                self._listen(child)
                self._close(child)
                ended.append(Ended(child.order, status, child.timed_out))
            elif child.is_over_its_limit(now) and not child.stop_asked:
                child.timed_out = True
                self._ask_to_stop(child, now)
            elif child.stop_asked and now - child.stop_asked > _KILL_AFTER_SECONDS:
                log.warning("job child killed", extra={"job": child.order.job, "kind": child.order.kind})
                _signal_group(child.process.pid, signal.SIGKILL)
        return ended

    def pause(self, jobs: Container[str]) -> None:
        """Let the children of these jobs rest, and all others go on. Their time limit does not count meanwhile."""
        now = self._monotonic()
        for child in self._children:
            wanted, rests = child.order.job in jobs, child.paused_at is not None
            if wanted == rests or not child.understands:
                continue
            child.process.send_signal(signal.SIGUSR1 if wanted else signal.SIGUSR2)
            if child.paused_at is not None:
                child.started += now - child.paused_at
            child.paused_at = now if wanted else None
            fields = {"job": child.order.job, "kind": child.order.kind}
            log.info("run paused" if wanted else "run resumed", extra=fields)

    def stop_all(self) -> None:
        """Ask every child to stop cleanly; ``poll`` tells when they are gone."""
        for child in self._children:
            if not child.stop_asked:
                self._ask_to_stop(child, self._monotonic())

    def kill_all(self) -> None:
        """End every child and its workers at once. The repository stays consistent; the runs count as interrupted."""
        for child in self._children:
            _signal_group(child.process.pid, signal.SIGKILL)
            child.process.wait()
            self._close(child)

    def _ask_to_stop(self, child: _Child, now: float) -> None:
        child.stop_asked = now
        child.process.send_signal(signal.SIGTERM)

    def _listen(self, child: _Child) -> None:
        assert child.process.stdout
        data = child.process.stdout.read() or b""
        *lines, child.pending = (child.pending + data).split(b"\n")
        for line in lines:
            try:
                child.progress = Progress(**json.loads(line))
                child.understands = True
            except (ValueError, TypeError):
                log.warning("job child said nonsense", extra={"line": line[:200]})

    def _close(self, child: _Child) -> None:
        self._children.remove(child)
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe:
                pipe.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
