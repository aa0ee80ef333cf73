"""CPU use and load averages, from psutil."""

import os
from collections.abc import Callable
from typing import Any

import psutil

from monitor.probes.sampling import REAL_TIME, Sampler, Timing
from monitor.result import Measurement, ProbeError, Reading

_WOBBLE_SECONDS = 1.0
"""proc(5): iowait "may decrease in certain conditions"; more than this is a CPU that was taken offline."""


class CpuProbe:
    """Shares of all CPUs' time since the last run. ``read`` returns seconds by mode, like psutil's ``cpu_times``."""

    def __init__(self, read: Callable[[], Any] = psutil.cpu_times, timing: Timing = REAL_TIME) -> None:
        self._sampler: Sampler[Any] = Sampler(read, lambda times: {"": tuple(times)}, timing, slack=_WOBBLE_SECONDS)

    def measure(self) -> Measurement:
        """Return ``used``, ``user``, ``system``, ``iowait`` and ``steal``; waiting for disks is not use, steal is."""
        window = self._sampler.window()
        spent = dict(zip(window.latest._fields, window.growth[""], strict=True))
        # The kernel counts guests in user and nice already: Documentation/filesystems/proc.rst
        total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
        if total <= 0:
            raise ProbeError(f"measuring CPU use: the kernel's counters stood still for {window.seconds:.1f} s")
        iowait, steal = spent.get("iowait", 0.0), spent.get("steal", 0.0)
        shares = {
            "used": total - spent["idle"] - iowait,
            "user": spent["user"] + spent.get("nice", 0.0),
            "system": spent["system"] + spent.get("irq", 0.0) + spent.get("softirq", 0.0),
            "iowait": iowait,
            "steal": steal,
        }
        return Measurement([Reading(name, min(seconds / total, 1.0), "ratio") for name, seconds in shares.items()])


class LoadProbe:
    """Load averages of 1, 5 and 15 minutes, and the middle one for each CPU."""

    def __init__(
        self,
        averages: Callable[[], tuple[float, float, float]] = os.getloadavg,
        count_cpus: Callable[[], int | None] = psutil.cpu_count,
    ) -> None:
        self._averages = averages
        self._count_cpus = count_cpus

    def measure(self) -> Measurement:
        """Return ``load5_per_core``, ``load1``, ``load5`` and ``load15``."""
        load1, load5, load15 = self._averages()
        named = {"load5_per_core": load5 / (self._count_cpus() or 1), "load1": load1, "load5": load5, "load15": load15}
        return Measurement([Reading(name, value, "number") for name, value in named.items()])
