"""Processes close to what they may use: open files and address space against their own limits (getrlimit(2)).

A server that has run out of file descriptors still runs, and answers nobody.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from config.said import Said
from config.selection import EVERYTHING, Selection
from monitor.probes import procfs
from monitor.probes.system import PROC
from monitor.result import Measurement, NoData, Reading

_OPEN_FILES = re.compile(rb"^Max open files +(\d+)", re.MULTILINE)
_ADDRESS_SPACE = re.compile(rb"^Max address space +(\d+)", re.MULTILINE)
_LIMITS_BYTES = 4096
_VSIZE_FIELD = 20
"""Of /proc/PID/stat, counted from the state."""


@dataclass(frozen=True, slots=True)
class _Use:
    share: float
    who: str


class ProcessLimitsProbe:
    """Looks at every process that this user may look at: root at all, others at their own."""

    def __init__(self, selection: Selection = EVERYTHING, proc: Path = PROC) -> None:
        self._selection = selection
        self._proc = proc

    def measure(self) -> Measurement:
        """Return ``open_files`` of the process that is closest to its limit, and ``memory`` where any has one."""
        files: list[_Use] = []
        memory: list[_Use] = []
        for pid, line in procfs.stat_lines(self._proc):
            name = procfs.name_of(line).decode("utf-8", "replace")
            if not self._selection.takes(name):
                continue
            limits = procfs.read_small(f"{os.fspath(self._proc)}/{pid}/limits", _LIMITS_BYTES)
            if match := _OPEN_FILES.search(limits):
                opened = procfs.open_files(self._proc, int(pid))
                if opened and int(match[1]):
                    files.append(_Use(opened / int(match[1]), f"{name} ({pid}), {opened} of {int(match[1])} files"))
            if match := _ADDRESS_SPACE.search(limits):
                size = int(line[line.rindex(b")") + 2 :].split()[_VSIZE_FIELD])
                memory.append(_Use(size / max(int(match[1]), 1), f"{name} ({pid})"))
        if not files:
            raise NoData("there is no process whose open files this user may count")
        most = max(files, key=lambda use: use.share)
        readings = [Reading("open_files", most.share, "ratio")]
        note = Said("most by %(who)s", who=most.who)
        if memory:
            largest = max(memory, key=lambda use: use.share)
            readings.append(Reading("memory", largest.share, "ratio"))
            space = Said("most of its address space by %(who)s", who=largest.who)
            note = Said("%(first)s; %(second)s", first=note, second=space)
        return Measurement(readings, notes={"": note})
