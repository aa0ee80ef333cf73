"""CPU use and load averages, from psutil."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil

from monitor.probes.sampling import REAL_TIME, Sampler, Timing
from monitor.result import Measurement, ProbeError, Reading

_WOBBLE_SECONDS = 1.0
"""proc(5): iowait "may decrease in certain conditions"; more than this is a CPU that was taken offline."""


def core_times() -> dict[str, Any]:
    """Return psutil's times by core."""
    return {f"cpu{number}": times for number, times in enumerate(psutil.cpu_times(percpu=True))}


def all_times() -> dict[str, Any]:
    """Return psutil's times of all cores together, under the empty name."""
    return {"": psutil.cpu_times()}


class CpuProbe:
    """Shares of CPU time since the last run. ``read`` returns psutil's ``cpu_times`` (seconds by mode) by entity."""

    def __init__(self, read: Callable[[], Mapping[str, Any]] = all_times, timing: Timing = REAL_TIME) -> None:
        self._sampler: Sampler[Mapping[str, Any]] = Sampler(read, dict, timing, slack=_WOBBLE_SECONDS)

    def measure(self) -> Measurement:
        """Return ``used``, ``user``, ``system``, ``iowait`` and ``steal``; waiting for disks is not use, steal is."""
        window = self._sampler.window()
        readings = [
            reading
            for entity, growth in window.growth.items()
            for reading in _shares(entity, dict(zip(window.latest[entity]._fields, growth, strict=True)))
        ]
        if not readings:
            raise ProbeError(f"measuring CPU use: the kernel's counters stood still for {window.seconds:.1f} s")
        return Measurement(readings)


def _shares(entity: str, spent: Mapping[str, float]) -> Iterator[Reading]:
    # The kernel counts guests in user and nice already: Documentation/filesystems/proc.rst
    total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    if total <= 0:
        return
    iowait, steal = spent.get("iowait", 0.0), spent.get("steal", 0.0)
    shares = {
        "used": total - spent["idle"] - iowait,
        "user": spent["user"] + spent.get("nice", 0.0),
        "system": spent["system"] + spent.get("irq", 0.0) + spent.get("softirq", 0.0),
        "iowait": iowait,
        "steal": steal,
    }
    for name, seconds in shares.items():
        yield Reading(name, min(seconds / total, 1.0), "ratio", entity)


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
