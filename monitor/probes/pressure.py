"""Time lost waiting for memory, disks and CPU: pressure stall information (Documentation/accounting/psi.rst)."""

import errno
import os
import re
from pathlib import Path

from monitor.probes.sampling import REAL_TIME, Counters, Sampler, Timing
from monitor.probes.system import PROC
from monitor.result import Measurement, NoData, ProbeError, Reading

_READINGS = ("memory_full", "memory_some", "io_full", "io_some", "cpu_some")
_LINE = re.compile(r"^(some|full) .*\btotal=(\d+)$", re.MULTILINE)
_NOT_HERE = (errno.ENOENT, errno.EOPNOTSUPP)
"""No such file before Linux 4.20; there and refused where the kernel was started with psi=0."""


class PressureProbe:
    """Shares of the time since the last run in which something (``some``), or everything (``full``), had to wait."""

    def __init__(self, proc: Path = PROC, timing: Timing = REAL_TIME) -> None:
        self._folder = proc / "pressure"
        self._sampler: Sampler[Counters] = Sampler(self._read, lambda counters: counters, timing)

    def measure(self) -> Measurement:
        """Return ``memory_full``, ``memory_some``, ``io_full``, ``io_some``, ``cpu_some``; NoData without PSI."""
        window = self._sampler.window()
        waited = window.growth[""]
        return Measurement(
            [
                Reading(name, min(microseconds / 1e6 / window.seconds, 1.0), "ratio")
                for name, microseconds in zip(_READINGS, waited, strict=True)
            ]
        )

    def _read(self) -> Counters:
        totals: dict[str, float] = {}
        for resource in ("memory", "io", "cpu"):
            path = self._folder / resource
            try:
                text = path.read_text(encoding="ascii", errors="replace")
            except OSError as error:
                if error.errno in _NOT_HERE:
                    raise NoData("this kernel tells nothing of pressure") from error
                raise ProbeError(f"reading {os.fspath(path)}: {error.strerror}") from error
            totals |= {f"{resource}_{kind}": float(total) for kind, total in _LINE.findall(text)}
        lacking = [name for name in _READINGS if name not in totals]
        if lacking:
            raise ProbeError(f"reading {os.fspath(self._folder)}: there is no {', '.join(lacking)}")
        return {"": [totals[name] for name in _READINGS]}
