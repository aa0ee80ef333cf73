"""Disk activity by device, from psutil."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from monitor.probes.sampling import REAL_TIME, Counters, Sampler, Timing
from monitor.result import Measurement, NoData, Reading


def disk_counters() -> Mapping[str, Any]:
    """Return psutil's counters by device. Its own correction of wrapped counters is off: :class:`Sampler` does that."""
    return psutil.disk_io_counters(perdisk=True, nowrap=False) or {}


class DiskIoProbe:
    """Rates since the last run, for the named devices, or for every physical one.

    Physical is what ``/sys/block/NAME/device`` exists for: no partitions, loop, ram, zram, device-mapper or md devices,
    whose work is their disks' work.
    """

    def __init__(
        self,
        devices: Sequence[str] = (),
        read: Callable[[], Mapping[str, Any]] = disk_counters,
        sys_block: Path = Path("/sys/block"),
        timing: Timing = REAL_TIME,
    ) -> None:
        self._devices = devices
        self._sampler: Sampler[Mapping[str, Any]] = Sampler(read, _counters, timing)
        self._sys_block = sys_block

    def measure(self) -> Measurement:
        """Return ``busy`` and bytes and operations per second, an entity a device. Raises NoData without any disk."""
        window = self._sampler.window()
        chosen = self._devices or [name for name in window.latest if self._is_physical(name)]
        if not chosen:
            raise NoData("this machine has no disk of its own")
        readings = [
            reading
            for name in chosen
            if name in window.growth
            for reading in _readings(name, window.growth[name], window.seconds)
        ]
        return Measurement(readings, missing=[name for name in self._devices if name not in window.latest])

    def _is_physical(self, name: str) -> bool:
        return (self._sys_block / name.replace("/", "!") / "device").exists()


def _counters(disks: Mapping[str, Any]) -> Counters:
    return {
        name: (disk.busy_time, disk.read_bytes, disk.write_bytes, disk.read_count, disk.write_count)
        for name, disk in disks.items()
    }


def _readings(name: str, growth: Sequence[float], seconds: float) -> Iterator[Reading]:
    busy_milliseconds, read_bytes, written_bytes, reads, writes = growth
    yield Reading("busy", min(busy_milliseconds / 1000 / seconds, 1.0), "ratio", name)
    yield Reading("read_bytes_per_second", read_bytes / seconds, "bytes_per_second", name)
    yield Reading("write_bytes_per_second", written_bytes / seconds, "bytes_per_second", name)
    yield Reading("reads_per_second", reads / seconds, "per_second", name)
    yield Reading("writes_per_second", writes / seconds, "per_second", name)
