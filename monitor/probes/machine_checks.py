"""What the processor reports of itself, from the counts in /proc/interrupts: machine checks, and heat.

``MCE`` are machine check exceptions, ``THR`` interrupts by which it says that corrected errors passed a threshold,
``TRM`` thermal events (arch/x86/kernel/irq.c). Other architectures have none of them.
"""

from pathlib import Path

from monitor.probes.recent import RecentByEntity
from monitor.probes.system import PROC
from monitor.result import Measurement, NoData, ProbeError, Reading


class MachineChecksProbe:
    """Sums over all CPUs."""

    def __init__(self, recent: RecentByEntity, proc: Path = PROC) -> None:
        self._recent = recent
        self._path = proc / "interrupts"

    def measure(self) -> Measurement:
        """Return ``exceptions`` (since start), ``corrected`` and ``throttled`` (lately)."""
        try:
            lines = self._path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError as error:
            raise ProbeError(f"reading {self._path}: {error.strerror}") from error
        totals: dict[str, float] = {}
        for line in lines:
            name, _, counts = line.strip().partition(":")
            if name in ("MCE", "THR", "TRM"):
                totals[name] = sum(float(word) for word in counts.split() if word.isdigit())
        if "MCE" not in totals:
            raise NoData("this processor reports no machine checks")
        lately = self._recent.see({name: total for name, total in totals.items() if name != "MCE"})
        readings = [Reading("exceptions", totals["MCE"], "count")]
        readings += [
            Reading(reading, lately[name], "count")
            for reading, name in (("corrected", "THR"), ("throttled", "TRM"))
            if name in lately
        ]
        return Measurement(readings)
