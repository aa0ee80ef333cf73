"""Processes that make no step for long: waiting for a device, or dead and not collected by their parents."""

import os
from pathlib import Path

from monitor.probes import procfs
from monitor.probes.sampling import REAL_TIME, Timing
from monitor.probes.system import PROC
from monitor.result import Measurement, Reading

_MOST_TOLD = 5
_PF_KTHREAD = 0x0020_0000
"""Of the flags in /proc/PID/stat (<linux/sched.h>)."""
_Key = tuple[str, int, float]
"""State, process id, and when it started: the id alone is given to others in time."""


class StuckProcessesProbe:
    """Remembers since when each process has been waiting; one that was seen running in between begins anew.

    Threads of the kernel are left out: some drivers' wait in state D for as long as the machine runs.
    """

    def __init__(self, longer_than_seconds: float, proc: Path = PROC, timing: Timing = REAL_TIME) -> None:
        self._longer_than = longer_than_seconds
        self._proc = proc
        self._timing = timing
        self._since: dict[_Key, float] = {}

    def measure(self) -> Measurement:
        """Return ``uninterruptible`` and ``zombies`` (counts), and ``longest`` (seconds); a note names the oldest."""
        now = self._timing.monotonic()
        waiting: dict[_Key, str] = {}
        for pid, line in procfs.stat_lines(self._proc):
            state = procfs.state_of(line)
            if state in "DZ" and not _is_of_the_kernel(line):
                process = procfs.parse_stat(pid, line)
                waiting[(state, process.pid, process.started_seconds)] = process.name
        self._since = {key: self._since.get(key, now) for key in waiting}
        long = sorted((since, key) for key, since in self._since.items() if now - since >= self._longer_than)
        counts = {state: sum(key[0] == state for _, key in long) for state in "DZ"}
        readings = [
            Reading("uninterruptible", counts["D"], "count"),
            Reading("zombies", counts["Z"], "count"),
            Reading("longest", now - long[0][0] if long else 0.0, "seconds"),
        ]
        told = [f"{waiting[key]} ({key[1]}{self._where(key)})" for _, key in long[:_MOST_TOLD]]
        return Measurement(readings, notes={"": ", ".join(told)} if told else {})

    def _where(self, key: _Key) -> str:
        """Say in which function of the kernel it waits, where this user may know: it names the device's driver."""
        state, pid, _ = key
        if state == "Z":
            return ", zombie"
        channel = procfs.read_small(f"{os.fspath(self._proc)}/{pid}/wchan", 64).decode("ascii", "replace").strip("\0\n")
        return f", in {channel}" if channel not in ("", "0") else ""


def _is_of_the_kernel(line: bytes) -> bool:
    return bool(int(line[line.rindex(b")") + 2 :].split(None, 7)[6]) & _PF_KTHREAD)
