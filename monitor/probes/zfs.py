"""ZFS pools, by zpool: their health, space and errors.

``zpool status`` prints JSON since OpenZFS 2.3 only; its text has been the same for fifteen years, and is read instead.
"""

import re
from collections.abc import Iterator

from config.selection import EVERYTHING, Selection
from monitor.probes.tool import Tool
from monitor.result import Measurement, NoData, ProbeError, Reading

_COLUMNS = ("name", "health", "capacity", "fragmentation")
_UNHEALTHY = {"ONLINE": 0, "DEGRADED": 1}
"""Everything else (FAULTED, UNAVAIL, SUSPENDED, OFFLINE, REMOVED) gives no data."""
_POOL = re.compile(r"^ *pool: (\S+)$", re.MULTILINE)
_DEVICE = re.compile(
    r"^\t *(?P<name>\S+) +(?P<state>ONLINE|DEGRADED|FAULTED|OFFLINE|UNAVAIL|REMOVED)"
    r" +(?P<read>\d+) +(?P<write>\d+) +(?P<checksum>\d+)(?P<remark>.*)$",
    re.MULTILINE,
)
_NOT_LOADED = "ZFS modules are not loaded"
_OUT_OF_SERVICE = ("FAULTED", "OFFLINE", "UNAVAIL", "REMOVED")


class ZfsProbe:
    """All imported pools, or the included ones."""

    def __init__(self, timeout_seconds: float, selection: Selection = EVERYTHING, path: str | None = None) -> None:
        self._selection = selection
        command = ["zpool", "list", "-Hp", "-o", ",".join(_COLUMNS)]
        self._list = Tool(command, timeout_seconds, absent=_NOT_LOADED, path=path)
        self._status = Tool(["zpool", "status", "-p"], timeout_seconds, path=path)

    def measure(self) -> Measurement:
        """Return ``unhealthy``, ``used``, ``fragmentation``, ``faulted`` and ``errors`` by pool; notes name devices."""
        rows = [line.split("\t") for line in self._list.text().splitlines() if line]
        if any(len(row) != len(_COLUMNS) for row in rows):
            raise ProbeError(f"running zpool list: expected {len(_COLUMNS)} columns, found {rows[0]}")
        chosen = [row for row in rows if self._selection.takes(row[0])]
        missing = self._selection.missing(row[0] for row in chosen)
        if not chosen and not missing:
            raise NoData("no ZFS pool is imported")
        readings: list[Reading] = []
        notes: dict[str, str] = {}
        sections = dict(_sections(self._status.text())) if chosen else {}
        for pool, health, capacity, fragmentation in chosen:
            readings.append(Reading("unhealthy", _UNHEALTHY.get(health, 2), "count", pool))
            for name, percent in (("used", capacity), ("fragmentation", fragmentation)):
                if percent.isdigit():  # a faulted pool knows neither
                    readings.append(Reading(name, int(percent) / 100, "ratio", pool))
            devices = list(_DEVICE.finditer(sections.get(pool, "")))
            out = [device for device in devices if device["state"] in _OUT_OF_SERVICE and device["name"] != pool]
            errors = sum(int(device[kind]) for device in devices for kind in ("read", "write", "checksum"))
            readings.append(Reading("faulted", len(out), "count", pool))
            readings.append(Reading("errors", errors, "count", pool))
            told = [f"{device['name']} {device['state']}{device['remark'].rstrip()}" for device in out]
            if told:
                notes[pool] = ", ".join(told)
        return Measurement(readings, missing=missing, notes=notes)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each pool and what is said of it."""
    starts = list(_POOL.finditer(text))
    for match, following in zip(starts, [*starts[1:], None], strict=True):
        yield match[1], text[match.end() : following.start() if following else len(text)]
