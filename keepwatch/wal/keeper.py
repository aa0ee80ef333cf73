"""Keeps a receiver alive for each log that is archived: the daemon's part, which imports nothing heavy.

A receiver that ends is started again, after a pause that grows; new settings start it anew. While none runs a server
keeps its segments, so nothing is lost by that.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from keepwatch.wal.kept import kept_logs
from keepwatch.wal.status import WalStatus, status_path

log = logging.getLogger(__name__)

_PAUSES_SECONDS = (1.0, 5.0, 15.0, 60.0)
_WELL_AFTER_SECONDS = 120.0
_STOP_SECONDS = 15.0


@dataclass(slots=True)
class _Child:
    process: "subprocess.Popen[bytes]"
    started: float


class WalKeeper:
    """All methods belong to the daemon's loop, and none of them waits, but for ``stop``."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self._settings = settings
        self._state = state
        self._children: dict[str, _Child] = {}
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    @property
    def jobs(self) -> list[str]:
        """Jobs, and members of groups as ``JOB:MEMBER``, that have a log."""
        return list(kept_logs(self._settings))

    def reconfigure(self, settings: Settings) -> None:
        """Go by these settings; receivers start anew with them."""
        changed = settings != self._settings
        self._settings = settings
        if changed:
            for child in self._children.values():
                child.process.send_signal(signal.SIGTERM)
            self._not_before.clear()

    def tick(self) -> None:
        """Start what should run and does not."""
        now = time.monotonic()
        for job, child in list(self._children.items()):
            if (status := child.process.poll()) is not None:
                del self._children[job]
                self._close(child)
                failures = 0 if now - child.started > _WELL_AFTER_SECONDS else self._failures.get(job, 0) + 1
                self._failures[job] = failures
                pause = _PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS)) - 1] if failures and status else 0.0
                self._not_before[job] = now + pause
                log.log(logging.WARNING if status else logging.INFO, "receiver ended",
                        extra={"job": job, "status": status})  # fmt: skip
        for job in self.jobs:
            if job not in self._children and now >= self._not_before.get(job, 0.0):
                self._children[job] = self._start(job)

    def standings(self) -> dict[str, WalStatus]:
        """Read how each log stands, as far as a receiver has said."""
        found = {job: WalStatus.read(status_path(self._state, job)) for job in self.jobs}
        return {job: status for job, status in found.items() if status is not None}

    def stop(self) -> None:
        """End all receivers, and wait for them."""
        for child in self._children.values():
            child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self._children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            self._close(child)
        self._children.clear()

    def _start(self, job: str) -> _Child:
        process = subprocess.Popen(
            [sys.executable, "-m", "keepwatch.wal.child"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin
        letter = pickle.dumps((job, self._settings, os.fspath(self._state)))
        try:
            process.stdin.write(len(letter).to_bytes(4, "big") + letter)
            process.stdin.flush()
        except BrokenPipeError:
            log.error("receiver died at once", extra={"job": job})
        return _Child(process, time.monotonic())

    @staticmethod
    def _close(child: _Child) -> None:
        if child.process.stdin:
            child.process.stdin.close()
