"""Uptime and open file handles of the whole system: two small files below /proc that psutil does not read for us."""

from pathlib import Path

from monitor.result import Measurement, ProbeError, Reading

PROC = Path("/proc")


class UptimeProbe:
    """Time since boot; in a container that hides its host's, the container's."""

    def __init__(self, proc: Path = PROC) -> None:
        self._path = proc / "uptime"

    def measure(self) -> Measurement:
        """Return ``uptime`` in seconds."""
        (uptime,) = read_numbers(self._path, 1)
        return Measurement([Reading("uptime", uptime, "seconds")])


class FileDescriptorsProbe:
    """Open file handles of the kernel against its limit (proc(5), /proc/sys/fs/file-nr)."""

    def __init__(self, proc: Path = PROC) -> None:
        self._path = proc / "sys" / "fs" / "file-nr"

    def measure(self) -> Measurement:
        """Return ``used`` (share of the limit), ``open`` and ``limit``."""
        allocated, unused, limit = read_numbers(self._path, 3)
        taken = allocated - unused
        return Measurement(
            [
                Reading("used", taken / limit if limit else 0.0, "ratio"),
                Reading("open", taken, "count"),
                Reading("limit", limit, "count"),
            ]
        )


def read_numbers(path: Path, count: int) -> list[float]:
    """Return the first ``count`` numbers of a file. Raises ProbeError when it cannot be read or has fewer."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
        numbers = [float(word) for word in text.split()[:count]]
    except (OSError, ValueError) as error:
        raise ProbeError(f"reading {path}: {error}") from error
    if len(numbers) < count:
        raise ProbeError(f"reading {path}: expected {count} numbers, found {text!r}")
    return numbers
