"""Services and containers against the limits of their control groups, version 2.

Files and their meaning: Documentation/admin-guide/cgroup-v2.rst. A group without any limit of its own is no entity;
what the groups above it limit is theirs to tell.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.node.reading import read_or
from monitor.probes.recent import RecentByEntity
from monitor.probes.sampling import REAL_TIME, Counters, Sampler, Timing
from monitor.result import Measurement, NoData, Reading

CGROUPS = Path("/sys/fs/cgroup")
_MOST_GROUPS = 2000
_OOM_WINDOW_SECONDS = 3600.0


class CgroupsProbe:
    """Walks the tree of groups. What is gone between two reads is left out."""

    def __init__(self, selection: Selection = EVERYTHING, root: Path = CGROUPS, timing: Timing = REAL_TIME) -> None:
        self._selection = selection
        self._root = root
        self._oom_kills = RecentByEntity(_OOM_WINDOW_SECONDS, timing.monotonic)
        self._sampler: Sampler[list[str]] = Sampler(self._limited, self._periods, timing)

    def measure(self) -> Measurement:
        """Return ``memory`` and ``tasks`` (ratios of the limits), ``throttled`` and ``oom_kills``, an entity a group.

        ``memory`` is NaN where only something else is limited. Raises NoData without groups of version 2.
        """
        if not (self._root / "cgroup.controllers").exists():
            raise NoData("this machine has no control groups of version 2")
        window = self._sampler.window()
        missing = self._selection.missing(window.latest)
        if not window.latest and not missing:
            raise NoData("no control group has a limit")
        kills = {group: float(self._number(group, "memory.events", "oom_kill") or 0) for group in window.latest}
        recent = self._oom_kills.see(kills)
        readings: list[Reading] = []
        for group in window.latest:
            readings.append(Reading("memory", self._share(group, "memory"), "ratio", group))
            tasks = self._share(group, "pids")
            if math.isfinite(tasks):
                readings.append(Reading("tasks", tasks, "ratio", group))
            periods, throttled = window.growth.get(group, (0.0, 0.0))
            if periods:
                readings.append(Reading("throttled", min(throttled / periods, 1.0), "ratio", group))
            readings.append(Reading("oom_kills", recent[group], "count", group))
        return Measurement(readings, missing=missing)

    def _limited(self) -> list[str]:
        return [group for group in self._groups() if self._selection.takes(group) and self._has_limit(group)]

    def _groups(self) -> Iterator[str]:
        root = os.fspath(self._root)
        for count, (folder, folders, _) in enumerate(os.walk(root)):
            if count >= _MOST_GROUPS:
                return
            folders.sort()
            if folder != root:
                yield os.path.relpath(folder, root)

    def _has_limit(self, group: str) -> bool:
        limits = [self._read(group, name).split(" ")[0] for name in ("memory.max", "pids.max", "cpu.max")]
        return any(limit not in ("", "max") for limit in limits)

    def _share(self, group: str, controller: str) -> float:
        current, limit = (self._read(group, f"{controller}.{name}") for name in ("current", "max"))
        if not (current.isdigit() and limit.isdigit() and int(limit)):
            return math.nan
        # Files read long ago fill a group up to its limit as a matter of course, and go when memory is needed.
        idle = self._number(group, "memory.stat", "inactive_file") if controller == "memory" else None
        return max(0.0, int(current) - (idle or 0.0)) / int(limit)

    def _periods(self, groups: list[str]) -> Counters:
        return {
            group: [self._number(group, "cpu.stat", name) or 0.0 for name in ("nr_periods", "nr_throttled")]
            for group in groups
        }

    def _number(self, group: str, file: str, key: str) -> float | None:
        """Return one number of a flat keyed file."""
        for line in self._read(group, file).splitlines():
            name, _, value = line.partition(" ")
            if name == key and value.isdigit():
                return float(value)
        return None

    def _read(self, group: str, file: str) -> str:
        return read_or(f"{os.fspath(self._root)}/{group}/{file}")
