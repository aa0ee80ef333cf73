"""Settings of checks of the machine itself: what /proc and the kernel tell."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import CheckBase, Discovering, Readings
from config.model import AbsolutePath
from config.units import Duration


class CpuCheck(CheckBase):
    """CPU use since the last run. Main reading `used` (ratio); also `user`, `system`, `iowait`, `steal`.

    Of all CPUs together, or an entity a core.
    """

    type: Literal["cpu"]
    readings: ClassVar[Readings] = {
        "used": "ratio",
        "user": "ratio",
        "system": "ratio",
        "iowait": "ratio",
        "steal": "ratio",
    }
    per_core: bool = False
    """Whether each core is an entity of its own: one that is always full shows a program that cannot use two."""

    @property
    def named_entities(self) -> frozenset[str]:
        """The machine as a whole; a core may be taken offline."""
        return frozenset() if self.per_core else frozenset({""})


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


class FileSystemsCheck(Discovering):
    """Every file system that holds data, an entity a mount point. Main reading `used` (ratio); also `free_bytes`,
    `total_bytes`, `inodes_used`, and `read_only` (1 where it was mounted for writing and no longer is). The thresholds
    speak five minutes after 90 % and 97 %, earlier than the usual 5 % and 3 % free for half an hour: they are all there
    is until a `forecast` has a past to go by.
    """

    type: Literal["file_systems"]
    readings: ClassVar[Readings] = {
        "used": "ratio",
        "free_bytes": "bytes",
        "total_bytes": "bytes",
        "inodes_used": "ratio",
        "read_only": "count",
    }
    defaults = {
        "timeout": "20s",
        "for": "5m",
        "warning": [
            {"raise": "> 90%", "clear": "< 80%"},
            {"reading": "inodes_used", "raise": "> 90%", "clear": "< 80%"},
        ],
        "critical": [
            {"raise": "> 97%", "clear": "< 95%"},
            {"reading": "inodes_used", "raise": "> 97%", "clear": "< 95%"},
            {"reading": "read_only", "raise": "> 0"},
        ],
    }
    exclude_types: list[str] = ["squashfs", "iso9660", "udf", "erofs", "overlay", "tmpfs", "ramfs", "devtmpfs"]
    """Types of file systems that are left out; those of the kernel without space of their own always are."""


class DiskIoCheck(Discovering):
    """Disk activity, an entity a device. Main reading `busy` (ratio); also `read_bytes_per_second`,
    `write_bytes_per_second`, `reads_per_second`, `writes_per_second`, `queue` (requests under way, on average).

    Every physical disk, unless `include` names others, such as 'dm-*' or 'md*'.
    """

    type: Literal["disk_io"]
    readings: ClassVar[Readings] = {
        "busy": "ratio",
        "read_bytes_per_second": "bytes_per_second",
        "write_bytes_per_second": "bytes_per_second",
        "reads_per_second": "per_second",
        "writes_per_second": "per_second",
        "queue": "number",
    }


class NetworkCheck(Discovering):
    """Traffic and errors, an entity an interface. Main reading `errors` (ratio of packets, both ways); also
    `receive_bytes_per_second`, `transmit_bytes_per_second`, `drops_per_second`, `up`.

    Every interface but loopback, unless `include` names some.
    """

    type: Literal["network"]
    readings: ClassVar[Readings] = {
        "errors": "ratio",
        "receive_bytes_per_second": "bytes_per_second",
        "transmit_bytes_per_second": "bytes_per_second",
        "drops_per_second": "per_second",
        "up": "count",
    }


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


class PressureCheck(CheckBase):
    """Time lost waiting for memory, disks and CPU since the last run (pressure stall information, Linux 4.20).

    Main reading `memory_full` (ratio of time in which everything waited); also `memory_some` (in which something did),
    `io_full`, `io_some`, `cpu_some`.
    """

    type: Literal["pressure"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {
        "memory_full": "ratio",
        "memory_some": "ratio",
        "io_full": "ratio",
        "io_some": "ratio",
        "cpu_some": "ratio",
    }
    defaults = {
        "for": "5m",
        "warning": ["> 10%", {"reading": "io_full", "raise": "> 80%"}],
        "critical": "> 40%",
    }


class OomKillsCheck(CheckBase):
    """Processes that the kernel killed for want of memory. Main reading `killed` (count `within` the time)."""

    type: Literal["oom_kills"]
    readings: ClassVar[Readings] = {"killed": "count"}
    defaults = {"critical": "> 0"}
    within: Duration = Field("1h", validate_default=True)
    """How long one is counted."""


class ConntrackCheck(CheckBase):
    """Connections that the firewall keeps track of. Main reading `used` (ratio of the limit); also `count`, `limit`."""

    type: Literal["conntrack"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"used": "ratio", "count": "count", "limit": "count"}
    defaults = {"for": "1m", "warning": "> 75%", "critical": "> 90%"}


class EntropyCheck(CheckBase):
    """Randomness that the kernel has gathered. Main reading `available` (bits); below 100 programs may wait for it."""

    type: Literal["entropy"]
    readings: ClassVar[Readings] = {"available": "number"}
    defaults = {"for": "5m", "warning": "< 100"}


class ClockCheck(CheckBase):
    """The system clock against true time. Main reading `offset` (seconds, either way); also `synchronized` (1 or 0) and
    `max_error` (seconds), as chrony tells them where it runs, or else the kernel.
    """

    type: Literal["clock"]
    readings: ClassVar[Readings] = {"offset": "seconds", "synchronized": "count", "max_error": "seconds"}
    defaults = {
        "every": "1m",
        "for": "10m",
        "warning": ["> 50ms", {"reading": "synchronized", "raise": "< 1"}],
        "critical": "> 1s",
    }


class UsersCheck(CheckBase):
    """Sessions of users. Main reading `count`; also `users` (different ones), `remote`, `root` (sessions)."""

    type: Literal["users"]
    readings: ClassVar[Readings] = {"count": "count", "users": "count", "remote": "count", "root": "count"}


class StuckProcessesCheck(CheckBase):
    """Processes that have waited for a device (state D), or been dead and uncollected (zombies), for long.

    Main reading `uninterruptible` (count); also `zombies`, and `longest` (seconds). Messages name them.
    """

    type: Literal["stuck_processes"]
    readings: ClassVar[Readings] = {"uninterruptible": "count", "zombies": "count", "longest": "seconds"}
    defaults = {"warning": ["> 0", {"reading": "zombies", "raise": "> 50", "clear": "< 20"}]}
    longer_than: Duration = Field("5m", validate_default=True)
    """How long is long."""


class ProcessLimitsCheck(Discovering):
    """Processes close to their own limits (setrlimit(2)). Main reading `open_files` (ratio of the limit, of the process
    that is closest); also `memory`, where a process has a limit of its address space. Messages name the process.

    `include` and `exclude` are names of programs.
    """

    type: Literal["process_limits"]
    readings: ClassVar[Readings] = {"open_files": "ratio", "memory": "ratio"}
    defaults = {
        "every": "1m",
        "for": "5m",
        "warning": ["> 70%", {"reading": "memory", "raise": "> 80%"}],
        "critical": ["> 90%", {"reading": "memory", "raise": "> 95%"}],
    }


class CgroupsCheck(Discovering):
    """Services and containers against the limits of their control groups (version 2), an entity a group that has one.

    Main reading `memory` (ratio of the limit); also `tasks` (ratio), `throttled` (ratio of periods in which it was kept
    from the CPU), `oom_kills` (count in the last hour). `include` and `exclude` are paths such as 'system.slice/*'.
    """

    type: Literal["cgroups"]
    readings: ClassVar[Readings] = {"memory": "ratio", "tasks": "ratio", "throttled": "ratio", "oom_kills": "count"}
    defaults = {
        "warning": [
            {"raise": "> 95%", "clear": "< 90%"},
            {"reading": "tasks", "raise": "> 80%"},
            {"reading": "throttled", "raise": "> 75%", "clear": "< 50%"},
        ],
        "critical": {"reading": "oom_kills", "raise": "> 0"},
        "min_samples": 3,
    }
