"""Software RAID (md), from /proc/mdstat and /sys/block; formats: md(4), Documentation/admin-guide/md.rst."""

import re
from collections.abc import Iterator
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.node.reading import read_or
from monitor.probes.system import PROC
from monitor.result import Measurement, NoData, ProbeError, Reading

_ARRAY = re.compile(r"^(?P<name>md\S*) : (?P<state>\S+) (?P<rest>.*)\n(?P<below>(?:[ \t].*\n?)*)", re.MULTILINE)
_COUNTED = re.compile(r"\[(\d+)/(\d+)\]")
_PROGRESS = re.compile(r"(?:recovery|resync|reshape) *= *([\d.]+)%")


class MdRaidProbe:
    """All arrays, or the included ones."""

    def __init__(
        self, selection: Selection = EVERYTHING, proc: Path = PROC, sys_block: Path = Path("/sys/block")
    ) -> None:
        self._selection = selection
        self._mdstat = proc / "mdstat"
        self._sys_block = sys_block

    def measure(self) -> Measurement:
        """Return ``missing``, ``failed``, ``spare``, ``rebuilt`` while it repairs itself, ``mismatches``, by array."""
        try:
            text = self._mdstat.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError as error:
            raise NoData("this kernel has no software RAID") from error
        except OSError as error:
            raise ProbeError(f"reading {self._mdstat}: {error.strerror}") from error
        if not text.startswith("Personalities"):
            raise ProbeError(f"reading {self._mdstat}: it does not begin with Personalities")
        arrays = [match for match in _ARRAY.finditer(text) if self._selection.takes(match["name"])]
        missing = self._selection.missing(match["name"] for match in arrays)
        if not arrays and not missing:
            raise NoData("this machine has no software RAID")
        return Measurement([reading for match in arrays for reading in self._readings(match)], missing=missing)

    def _readings(self, match: "re.Match[str]") -> Iterator[Reading]:
        name, members = match["name"], re.findall(r"\S+\[\d+\](?:\([A-Z]\))*", match["rest"])
        failed = sum("(F)" in member for member in members)
        spare = sum("(S)" in member for member in members)
        counted = _COUNTED.search(match["below"])
        if counted:
            missing = int(counted[1]) - int(counted[2])
        elif match["state"] != "active":  # an array that could not be put together lists what it found as spares
            missing = max(1, int(read_or(f"{self._sys_block}/{name}/md/raid_disks", "0")) - len(members))
            spare = 0
        else:
            missing = 0
        yield Reading("missing", missing, "count", name)
        yield Reading("failed", failed, "count", name)
        yield Reading("spare", spare, "count", name)
        progress = _PROGRESS.search(match["below"])
        if progress:
            yield Reading("rebuilt", float(progress[1]) / 100, "ratio", name)
        mismatches = read_or(f"{self._sys_block}/{name}/md/mismatch_cnt")
        if mismatches.isdigit():
            yield Reading("mismatches", int(mismatches), "count", name)
