"""Errors of ECC memory, as the kernel's EDAC drivers count them (Documentation/driver-api/edac.rst)."""

import os
import re
from pathlib import Path

from monitor.node.reading import names_in, read_or
from monitor.probes.recent import RecentByEntity
from monitor.result import Measurement, NoData, ProbeError, Reading

SYS_EDAC = Path("/sys/devices/system/edac/mc")


class MemoryErrorsProbe:
    """Memory controllers, each with its modules."""

    def __init__(self, recent: RecentByEntity, folder: Path = SYS_EDAC) -> None:
        self._recent = recent
        self._folder = os.fspath(folder)

    def measure(self) -> Measurement:
        """Return ``uncorrected`` (since start) and ``corrected`` (lately), by controller; notes name modules."""
        controllers = [name for name in names_in(self._folder) if re.fullmatch(r"mc\d+", name)]
        if not controllers:
            raise NoData("this machine's memory tells nothing of errors (no ECC, or no EDAC driver)")
        corrected = self._recent.see({name: float(self._count(f"{name}/ce_count")) for name in controllers})
        readings: list[Reading] = []
        notes: dict[str, str] = {}
        for name in controllers:
            readings.append(Reading("uncorrected", self._count(f"{name}/ue_count"), "count", name))
            readings.append(Reading("corrected", corrected[name], "count", name))
            told = [words for module in names_in(f"{self._folder}/{name}") if (words := self._module(name, module))]
            if told:
                notes[name] = "since start " + ", ".join(told)
        return Measurement(readings, notes=notes)

    def _count(self, file: str) -> int:
        text = read_or(f"{self._folder}/{file}")
        if not text.isdigit():
            raise ProbeError(f"reading {self._folder}/{file}: expected a number, found {text!r}")
        return int(text)

    def _module(self, controller: str, module: str) -> str:
        folder = f"{self._folder}/{controller}/{module}"
        counts = [read_or(f"{folder}/dimm_{kind}_count", "0") for kind in ("ue", "ce")]
        if not module.startswith(("dimm", "rank")) or counts == ["0", "0"]:
            return ""
        return f"{read_or(f'{folder}/dimm_label') or module}: {counts[0]} uncorrected, {counts[1]} corrected"
