"""Settings of checks of the machine itself: what /proc and the kernel tell."""

from pathlib import Path
from typing import ClassVar, Literal

from config.checks.base import CheckBase, Readings
from config.model import AbsolutePath


class CpuCheck(CheckBase):
    """CPU use since the last run. Main reading `used` (ratio); also `user`, `system`, `iowait`, `steal`."""

    type: Literal["cpu"]
    readings: ClassVar[Readings] = {
        "used": "ratio",
        "user": "ratio",
        "system": "ratio",
        "iowait": "ratio",
        "steal": "ratio",
    }


class LoadCheck(CheckBase):
    """Load averages. Main reading `load5_per_core` (ratio; 1 is a full machine); also `load1`, `load5`, `load15`."""

    type: Literal["load"]
    readings: ClassVar[Readings] = {
        "load5_per_core": "number",
        "load1": "number",
        "load5": "number",
        "load15": "number",
    }


class MemoryCheck(CheckBase):
    """Memory in use. Main reading `used` (ratio, reclaimable left out); also `available_bytes`, `total_bytes`."""

    type: Literal["memory"]
    readings: ClassVar[Readings] = {"used": "ratio", "available_bytes": "bytes", "total_bytes": "bytes"}


class SwapCheck(CheckBase):
    """Swap in use. Main reading `used` (ratio); also `used_bytes`, `in_bytes_per_second`, `out_bytes_per_second`."""

    type: Literal["swap"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {
        "used": "ratio",
        "used_bytes": "bytes",
        "in_bytes_per_second": "bytes_per_second",
        "out_bytes_per_second": "bytes_per_second",
    }


class DiskCheck(CheckBase):
    """Space and inodes of one file system.

    Main reading `used` (ratio); also `free_bytes`, `total_bytes`, `inodes_used`.
    """

    type: Literal["disk"]
    readings: ClassVar[Readings] = {
        "used": "ratio",
        "free_bytes": "bytes",
        "total_bytes": "bytes",
        "inodes_used": "ratio",
    }
    path: AbsolutePath = Path("/")
    """Any path on it."""


class DiskIoCheck(CheckBase):
    """Disk activity. Main reading `busy` (ratio), an entity a device; also `read_bytes_per_second`,
    `write_bytes_per_second`, `reads_per_second`, `writes_per_second`.
    """

    type: Literal["disk_io"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {
        "busy": "ratio",
        "read_bytes_per_second": "bytes_per_second",
        "write_bytes_per_second": "bytes_per_second",
        "reads_per_second": "per_second",
        "writes_per_second": "per_second",
    }
    devices: list[str] = []
    """Device names as in /proc/diskstats; every physical one when left out."""

    @property
    def named_entities(self) -> frozenset[str]:
        """The devices that were named."""
        return frozenset(self.devices)


class NetworkCheck(CheckBase):
    """Traffic and errors, an entity an interface. Main reading `errors` (ratio of packets, both ways); also
    `receive_bytes_per_second`, `transmit_bytes_per_second`, `drops_per_second`, `up`.
    """

    type: Literal["network"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {
        "errors": "ratio",
        "receive_bytes_per_second": "bytes_per_second",
        "transmit_bytes_per_second": "bytes_per_second",
        "drops_per_second": "per_second",
        "up": "count",
    }
    interfaces: list[str] = []
    """Interface names; every one but loopback when left out."""

    @property
    def named_entities(self) -> frozenset[str]:
        """The interfaces that were named."""
        return frozenset(self.interfaces)


class UptimeCheck(CheckBase):
    """Time since boot. Main reading `uptime` (seconds); `< 10m` finds a machine that restarted."""

    type: Literal["uptime"]
    readings: ClassVar[Readings] = {"uptime": "seconds"}


class ProcessesCheck(CheckBase):
    """All processes. Main reading `count`; also `zombies`, `uninterruptible`."""

    type: Literal["processes"]
    readings: ClassVar[Readings] = {"count": "count", "zombies": "count", "uninterruptible": "count"}


class FileDescriptorsCheck(CheckBase):
    """Open file handles of the system. Main reading `used` (ratio of the limit); also `open`, `limit`."""

    type: Literal["file_descriptors"]
    readings: ClassVar[Readings] = {"used": "ratio", "open": "count", "limit": "count"}


HostCheck = (
    CpuCheck
    | LoadCheck
    | MemoryCheck
    | SwapCheck
    | DiskCheck
    | DiskIoCheck
    | NetworkCheck
    | UptimeCheck
    | ProcessesCheck
    | FileDescriptorsCheck
)
