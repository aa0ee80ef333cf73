"""Disk activity by device, from psutil."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from config.selection import EVERYTHING, Selection
from monitor.probes.sampling import REAL_TIME, Counters, Sampler, Timing
from monitor.result import Measurement, NoData, Reading


def disk_counters() -> Mapping[str, Any]:
    """Return psutil's counters by device. Its own correction of wrapped counters is off: :class:`Sampler` does that."""
    return psutil.disk_io_counters(perdisk=True, nowrap=False) or {}


class DiskIoProbe:
    """Rates since the last run, for the devices that are included, or for every physical one that is not excluded.

    Physical is what ``/sys/block/NAME/device`` exists for: no partitions, loop, ram, zram, device-mapper or md devices,
    whose work is their disks' work.
    """

    def __init__(
        self,
        selection: Selection = EVERYTHING,
        read: Callable[[], Mapping[str, Any]] = disk_counters,
        sys_block: Path = Path("/sys/block"),
        timing: Timing = REAL_TIME,
    ) -> None:
        self._selection = selection
        self._sampler: Sampler[Mapping[str, Any]] = Sampler(read, _counters, timing)
        self._sys_block = sys_block

    def measure(self) -> Measurement:
        """Return ``busy``, bytes and operations per second, and ``queue``, by device. Raises NoData without a disk."""
        window = self._sampler.window()
        chosen = [name for name in window.latest if self._selection.takes(name) and self._is_meant(name)]
        missing = self._selection.missing(window.latest)
        if not chosen and not missing:
            raise NoData("this machine has no disk of its own")
        readings = [
            reading
            for name in chosen
            if name in window.growth
            for reading in _readings(name, window.growth[name], window.seconds)
        ]
        return Measurement(readings, missing=missing)

    def _is_meant(self, name: str) -> bool:
        return bool(self._selection.include) or (self._sys_block / name.replace("/", "!") / "device").exists()


def _counters(disks: Mapping[str, Any]) -> Counters:
    return {
        name: (
            disk.busy_time, disk.read_bytes, disk.write_bytes, disk.read_count, disk.write_count,
            disk.read_time + disk.write_time,
        )
        for name, disk in disks.items()
    }  # fmt: skip


def _readings(name: str, growth: Sequence[float], seconds: float) -> Iterator[Reading]:
    busy_milliseconds, read_bytes, written_bytes, reads, writes, waited_milliseconds = growth
    yield Reading("busy", min(busy_milliseconds / 1000 / seconds, 1.0), "ratio", name)
    yield Reading("read_bytes_per_second", read_bytes / seconds, "bytes_per_second", name)
    yield Reading("write_bytes_per_second", written_bytes / seconds, "bytes_per_second", name)
    yield Reading("reads_per_second", reads / seconds, "per_second", name)
    yield Reading("writes_per_second", writes / seconds, "per_second", name)
    # The time that requests took, over the time that passed, is how many were under way: Little's law.
    yield Reading("queue", waited_milliseconds / 1000 / seconds, "number", name)
