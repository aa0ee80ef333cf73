"""Runs programs and measures them from outside: wall time, processor time, memory of all their processes.

Wall time is from before the start to after the end, interpreter and all. Processor time is what the system accounts to
the program and to the children that it waited for. Memory is the largest sum of the proportional set sizes (PSS, which
counts a shared page by its share) of the program and its descendants, looked at every 100 ms; what that look costs is
the same for whoever is measured, and told. Nothing is judged here.
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SAMPLE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Command:
    """One program to be run, with the whole of its environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path

    def __str__(self) -> str:
        return " ".join(self.arguments)


@dataclass(frozen=True, slots=True)
class Figures:
    """What running some commands one after the other took."""

    wall_seconds: float
    cpu_seconds: float
    """User and system, of all processes."""
    pss_bytes: int
    """The largest seen; 0 for what ended before the first look."""
    looking_seconds: float
    """Processor time spent on looking at the memory; not in the other figures."""


class CommandFailed(Exception):  # noqa: N818 - says what is the case
    """A measured program ended with an error: its figures mean nothing."""


def measure(commands: Sequence[Command], log: Path) -> Figures:
    """Run commands one after the other; what they say goes to ``log``. Raises CommandFailed."""
    wall = cpu = looking = 0.0
    pss = 0
    for command in commands:
        with log.open("wb") as output:
            began = time.perf_counter()
            child = subprocess.Popen(
                command.arguments, env=dict(command.environment), cwd=command.directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
            watcher = _Watcher(child.pid)
            watcher.start()
            # wait4 alone gives the times of the child and of those it waited for, and of nobody else
            _, status, usage = os.wait4(child.pid, 0)
            wall += time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        watcher.stop()
        cpu += usage.ru_utime + usage.ru_stime
        looking += watcher.cpu_seconds
        pss = max(pss, watcher.peak_bytes)
        if child.returncode:
            raise CommandFailed(f"{command} ended with {child.returncode}:\n{_end_of(log)}")
    return Figures(wall, cpu, pss, looking)


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3000:]


class _Watcher(threading.Thread):
    """Looks at the memory of a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="watch", daemon=True)
        self.peak_bytes = 0
        self.cpu_seconds = 0.0
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(map(pss_bytes, family(self._pid))))
        self.cpu_seconds = time.thread_time()

    def stop(self) -> None:
        """End, and wait for the last look."""
        self._over.set()
        self.join()


def family(pid: int) -> Iterator[int]:
    """Give a process and all that descend from it; any of them may be gone by the time it is looked at."""
    yield pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                children = file.read().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
