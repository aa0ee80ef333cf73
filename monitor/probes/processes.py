"""Processes: all of them by state, and those of one program with what they use."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from config.said import Said
from monitor.probes import procfs
from monitor.probes.procfs import Process
from monitor.probes.sampling import REAL_TIME, Sampler, Timing
from monitor.probes.system import PROC, read_numbers
from monitor.result import Finding, Measurement, Reading, Status

_NAME_LIMIT = 15
"""The kernel cuts names to this many bytes: TASK_COMM_LEN - 1."""
_DEAD = ("Z", "X")


class ProcessesProbe:
    """Counts all processes, kernel threads included."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def measure(self) -> Measurement:
        """Return ``count``, ``zombies`` and ``uninterruptible``."""
        states = [procfs.state_of(line) for _, line in procfs.stat_lines(self._proc)]
        return Measurement(
            [
                Reading("count", len(states), "count"),
                Reading("zombies", states.count("Z"), "count"),
                Reading("uninterruptible", states.count("D"), "count"),
            ]
        )


class ProcessProbe:
    """The living processes of one program, added up. Zombies do not count: they do nothing any more.

    ``command`` is the program's name, or with ``regex`` an expression searched in the command line.
    ``none_is_critical``: say so when there is none, for checks without thresholds of their own.
    """

    def __init__(
        self,
        command: str,
        *,
        regex: bool = False,
        none_is_critical: bool = True,
        proc: Path = PROC,
        timing: Timing = REAL_TIME,
    ) -> None:
        self._command = command
        self._pattern = re.compile(command) if regex else None
        self._none_is_critical = none_is_critical
        self._proc = proc
        self._sampler: Sampler[Sequence[Process]] = Sampler(self._find, _cpu_by_process, timing)

    def measure(self) -> Measurement:
        """Return ``count``, ``cpu`` (cores), ``memory_bytes``, ``open_files`` and ``oldest`` (seconds).

        ``open_files`` is left out where this user may not look, ``oldest`` when there is no process.
        """
        window = self._sampler.window()
        found = window.latest
        if not found:
            nothing = (("count", "count"), ("cpu", "number"), ("memory_bytes", "bytes"), ("open_files", "count"))
            readings = [Reading(name, 0, unit) for name, unit in nothing]
            gone = Finding(Status.CRITICAL, Said("no process of %(command)s is running", command=self._command))
            return Measurement(readings, gone if self._none_is_critical else None)
        (uptime,) = read_numbers(self._proc / "uptime", 1)
        grown = sum(seconds for (seconds,) in window.growth.values())
        # What started within the window spent all of its CPU time in it.
        grown += sum(
            process.cpu_seconds
            for process in found
            if _identity(process) not in window.growth and uptime - process.started_seconds <= window.seconds
        )
        readings = [
            Reading("count", len(found), "count"),
            Reading("cpu", grown / window.seconds, "number"),
            Reading("memory_bytes", sum(process.memory_bytes for process in found), "bytes"),
            Reading("oldest", max(0.0, uptime - min(process.started_seconds for process in found)), "seconds"),
        ]
        files = [procfs.open_files(self._proc, process.pid) for process in found]
        if None not in files:
            readings.insert(3, Reading("open_files", sum(filter(None, files)), "count"))
        return Measurement(readings)

    def _find(self) -> list[Process]:
        matches = self._by_command_line if self._pattern else self._by_name
        return [process for process in matches() if process.state not in _DEAD]

    def _by_name(self) -> Iterator[Process]:
        wanted = os.fsencode(self._command)
        for pid, line in procfs.stat_lines(self._proc):
            name = procfs.name_of(line)
            if name == wanted or (len(wanted) > _NAME_LIMIT and wanted.startswith(name) and self._is_full_name(pid)):
                yield procfs.parse_stat(pid, line)

    def _is_full_name(self, pid: str) -> bool:
        arguments = procfs.read_small(f"{os.fspath(self._proc)}/{pid}/cmdline", 4096).split(b"\0")
        # Interpreters stand first in the command line of a script, whose path is then the second argument.
        return any(os.path.basename(argument) == os.fsencode(self._command) for argument in arguments[:2])

    def _by_command_line(self) -> Iterator[Process]:
        assert self._pattern
        for pid, line in procfs.stat_lines(self._proc):
            arguments = procfs.command_line(self._proc, pid)
            if arguments and self._pattern.search(arguments):
                yield procfs.parse_stat(pid, line)


def _identity(process: Process) -> str:
    return f"{process.pid}@{process.started_seconds}"


def _cpu_by_process(found: Sequence[Process]) -> Mapping[str, Sequence[float]]:
    return {_identity(process): (process.cpu_seconds,) for process in found}
