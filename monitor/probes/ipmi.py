"""The management controller of a server: its sensors and its event log, through ipmitool(1).

It knows what the operating system does not: power supplies, chassis fans, and what happened while the machine was off.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.probes.recent import Recent
from monitor.probes.tool import Tool
from monitor.result import Measurement, NoData, ProbeError, Reading

DEVICES = ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")
_STATES = {"ok": 0, "nc": 1, "cr": 2, "nr": 2}
"""Of sensors with thresholds: fine, non-critical, critical, non-recoverable."""
_UNITS = {
    "degrees C": ("celsius", "celsius"),
    "RPM": ("rpm", "rpm"),
    "Volts": ("volts", "number"),
    "Amps": ("amperes", "number"),
    "Watts": ("watts", "number"),
}
_BAD_BITS = {"Power Supply": 0x0E, "PS": 0x0E, "PSU": 0x0E}
"""Of discrete sensors of power supplies (IPMI 2.0, table 42-3, type 08h): failure, predictive failure, input lost."""
_HINT = "ipmitool needs root and the kernel's module ipmi_devintf"
_MOST_TOLD = "5"


def _require_device(devices: tuple[str, ...]) -> None:
    if not any(Path(device).exists() for device in devices):
        raise NoData("this machine has no management controller (no /dev/ipmi0)")


class IpmiSensorsProbe:
    """All sensors that are read, or the included ones."""

    def __init__(
        self,
        timeout_seconds: float,
        selection: Selection = EVERYTHING,
        path: str | None = None,
        devices: tuple[str, ...] = DEVICES,
    ) -> None:
        self._selection = selection
        self._sensors = Tool(["ipmitool", "sensor"], timeout_seconds, hint=_HINT, path=path)
        self._devices = devices

    def measure(self) -> Measurement:
        """Return ``state``, and the value in its unit, an entity a sensor."""
        _require_device(self._devices)
        rows = [
            [cell.strip() for cell in line.split("|")] for line in self._sensors.text().splitlines() if line.strip()
        ]
        if not rows or any(len(row) < 4 for row in rows):
            raise ProbeError("reading the answer of ipmitool sensor: it has no columns", hint=_HINT)
        chosen = [row for row in rows if self._selection.takes(row[0])]
        readings = [reading for row in chosen for reading in _sensor(*row[:4])]
        missing = self._selection.missing(row[0] for row in chosen)
        if not readings and not missing:
            raise NoData("the management controller reads no sensor")
        return Measurement(readings, missing=missing)


def _sensor(name: str, value: str, unit: str, state: str) -> Iterator[Reading]:
    if unit == "discrete":
        bits = _BAD_BITS.get(re.split(r"[\s\d_]", name, maxsplit=1)[0]) or _BAD_BITS.get(name.rstrip(" 0123456789"))
        if bits and re.fullmatch(r"0x[0-9a-f]{4}", state):
            yield Reading("state", 2 if int(state[2:4], 16) & bits else 0, "count", name)
    elif state in _STATES:
        yield Reading("state", _STATES[state], "count", name)
        if unit in _UNITS:
            reading, kind = _UNITS[unit]
            yield Reading(reading, float(value), kind, name)


class IpmiEventsProbe:
    """The system event log. Clearing it is the operator's business."""

    def __init__(
        self,
        timeout_seconds: float,
        recent: Recent,
        path: str | None = None,
        devices: tuple[str, ...] = DEVICES,
    ) -> None:
        self._recent = recent
        self._info = Tool(["ipmitool", "sel", "info"], timeout_seconds, hint=_HINT, path=path)
        self._newest = Tool(["ipmitool", "sel", "elist", "last", _MOST_TOLD], timeout_seconds, hint=_HINT, path=path)
        self._devices = devices

    def measure(self) -> Measurement:
        """Return ``new``, ``entries`` and ``used``; a note shows the newest events while there are new ones."""
        _require_device(self._devices)
        text = self._info.text()
        entries = re.search(r"^Entries\s*:\s*(\d+)", text, re.MULTILINE)
        used = re.search(r"^Percent Used\s*:\s*(\d+)%", text, re.MULTILINE)
        if entries is None:
            raise ProbeError("reading the answer of ipmitool sel info: it has no number of entries", hint=_HINT)
        new = self._recent.see(int(entries[1]))
        readings = [Reading("new", new, "count"), Reading("entries", int(entries[1]), "count")]
        if used:
            readings.append(Reading("used", int(used[1]) / 100, "ratio"))
        return Measurement(readings, notes={"": self._told(int(new))} if new else {})

    def _told(self, new: int) -> str:
        lines = self._newest.text().splitlines()[-new:]
        return "; ".join(" ".join(line.replace("|", " ").split()) for line in lines)
