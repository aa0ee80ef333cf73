"""Software RAID (md), from /proc/mdstat and /sys/block; formats: md(4), Documentation/admin-guide/md.rst."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.memory import Memories
from monitor.node.reading import read_or
from monitor.probes.system import PROC
from monitor.result import Measurement, NoData, ProbeError, Reading

_ARRAY = re.compile(r"^(?P<name>md\S*) : (?P<state>\S+) (?P<rest>.*)\n(?P<below>(?:[ \t].*\n?)*)", re.MULTILINE)
_COUNTED = re.compile(r"\[(\d+)/(\d+)\]")
_PROGRESS = re.compile(r"(?:recovery|resync|reshape) *= *([\d.]+)%")


class MdRaidProbe:
    """All arrays, or the included ones."""

    def __init__(
        self,
        name: str,
        clock: Callable[[], datetime],
        memories: Memories,
        selection: Selection = EVERYTHING,
        proc: Path = PROC,
        sys_block: Path = Path("/sys/block"),
    ) -> None:
        """``name``: under which ``memories`` keeps over restarts since when arrays lack disks."""
        self._memory = f"degraded arrays {name}"
        self._clock = clock
        self._memories = memories
        self._selection = selection
        self._mdstat = proc / "mdstat"
        self._sys_block = sys_block

    def measure(self) -> Measurement:
        """Return ``missing``, ``degraded``, ``failed``, ``spare``, ``rebuilt`` while it repairs itself, ``mismatches``,
        by array.
        """
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
        readings = [reading for match in arrays for reading in self._readings(match)]
        return Measurement([*readings, *self._degraded(readings)], missing=missing)

    def _degraded(self, readings: Sequence[Reading]) -> Iterator[Reading]:
        """Yield for how long each array has lacked disks."""
        now = self._clock()
        lacking = {one.entity: one.value > 0 for one in readings if one.name == "missing"}
        known = {name: datetime.fromisoformat(since) for name, since in self._memories.load(self._memory).items()}
        # A moment in the future was written before the clock was set back.
        since = {name: min(known.get(name, now), now) for name, lacks in lacking.items() if lacks}
        with contextlib.suppress(OSError):  # a full disk costs the next daemon a quarter of an hour
            self._memories.save(self._memory, {name: moment.isoformat() for name, moment in since.items()})
        for name in lacking:
            yield Reading("degraded", (now - since.get(name, now)).total_seconds(), "seconds", name)

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
