"""Three small things that the kernel counts: processes killed for want of memory, tracked connections, randomness."""

import re
from pathlib import Path

from monitor.probes.recent import Recent
from monitor.probes.system import PROC, read_numbers
from monitor.result import Measurement, NoData, ProbeError, Reading


class OomKillsProbe:
    """Kills by the out-of-memory killer, in any control group (``oom_kill`` of /proc/vmstat, Linux 4.13)."""

    def __init__(self, recent: Recent, proc: Path = PROC) -> None:
        self._recent = recent
        self._path = proc / "vmstat"

    def measure(self) -> Measurement:
        """Return ``killed``, how many lately."""
        try:
            text = self._path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise ProbeError(f"reading {self._path}: {error.strerror}") from error
        match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        if match is None:
            raise NoData("this kernel does not count what it kills")
        return Measurement([Reading("killed", self._recent.see(int(match[1])), "count")])


class ConntrackProbe:
    """Entries of the connection tracking table against its size."""

    def __init__(self, proc: Path = PROC) -> None:
        self._folder = proc / "sys" / "net" / "netfilter"

    def measure(self) -> Measurement:
        """Return ``used`` (ratio), ``count`` and ``limit``. Raises NoData where nothing is tracked."""
        if not (self._folder / "nf_conntrack_count").exists():
            raise NoData("this machine tracks no connections")
        (count,) = read_numbers(self._folder / "nf_conntrack_count", 1)
        (limit,) = read_numbers(self._folder / "nf_conntrack_max", 1)
        return Measurement(
            [
                Reading("used", count / limit if limit else 0.0, "ratio"),
                Reading("count", count, "count"),
                Reading("limit", limit, "count"),
            ]
        )


class EntropyProbe:
    """Bits in the kernel's pool; always 256 since Linux 5.18."""

    def __init__(self, proc: Path = PROC) -> None:
        self._path = proc / "sys" / "kernel" / "random" / "entropy_avail"

    def measure(self) -> Measurement:
        """Return ``available`` in bits."""
        (available,) = read_numbers(self._path, 1)
        return Measurement([Reading("available", available, "number")])
