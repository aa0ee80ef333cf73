"""Space and inodes of one file system."""

from monitor.probes.file_systems import FileSystems, FileSystemUsage
from monitor.result import Measurement, ProbeError, Reading


class DiskProbe:
    """The file system that ``path`` is on, asked through ``file_systems`` so that a dead mount cannot hold a thread."""

    def __init__(self, path: str, timeout_seconds: float, file_systems: FileSystems) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._file_systems = file_systems

    def measure(self) -> Measurement:
        """Return ``used``, ``free_bytes``, ``total_bytes`` and ``inodes_used``, as df(1) counts them."""
        usage = self._file_systems.usage(self._path, self._timeout_seconds)
        readings = usage_readings(usage)
        if not readings:
            raise ProbeError(f"{self._path} is on a file system without space of its own, such as /proc")
        return Measurement(readings)


def usage_readings(usage: FileSystemUsage, entity: str = "") -> list[Reading]:
    """Return the four readings of one file system, none of one without space of its own.

    What is reserved for root counts neither as used nor as free; a file system without a fixed number of inodes has
    used none of them.
    """
    used = usage.total_bytes - usage.free_bytes
    if used + usage.available_bytes <= 0:
        return []
    inodes_used = 1 - usage.inodes_available / usage.inodes if usage.inodes else 0.0
    return [
        Reading("used", used / (used + usage.available_bytes), "ratio", entity),
        Reading("free_bytes", usage.available_bytes, "bytes", entity),
        Reading("total_bytes", usage.total_bytes, "bytes", entity),
        Reading("inodes_used", inodes_used, "ratio", entity),
    ]
