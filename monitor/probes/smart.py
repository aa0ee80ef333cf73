"""Health of disks, as smartctl reads it from them (SMART, NVMe's health log), without waking one that sleeps.

Fields are those of ``smartctl --json`` (smartmontools 7); attributes of ATA by number, since vendors name them as they
like: https://en.wikipedia.org/wiki/Self-Monitoring,_Analysis_and_Reporting_Technology. No test is started here.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from config.selection import EVERYTHING, Selection
from monitor.probes.tool import Tool
from monitor.result import Measurement, NoData, ProbeError, Reading

DEFECTS = ("reallocated", "pending", "uncorrectable", "media_errors")
_ATTRIBUTES = {5: "reallocated", 197: "pending", 198: "uncorrectable", 199: "crc_errors"}
_LIFE_LEFT = (231, 202, 233, 177, 173)
"""Attributes whose normalised value counts the life of an SSD down from 100, the clearest first."""
_COUNTED_UP = {202: "Percent_Lifetime_Used"}
_OPEN_FAILED = 1 << 1
_FOUND_BY_ITSELF = ("ata", "sat", "scsi")
"""Types that a scan guesses without looking; smartctl does better when it opens the disk."""
_HINT = "smartctl needs root, or a rule in sudoers; some disks need smart settings of their own"
_ANY_CODE = range(256)
Report = Mapping[str, Any]


class SmartProbe:
    """Every disk that a scan finds, or the included ones. ``accept``: serial number or device -> known defects."""

    def __init__(
        self,
        timeout_seconds: float,
        selection: Selection = EVERYTHING,
        accept: Mapping[str, Mapping[str, int]] | None = None,
        path: str | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._selection = selection
        self._accept = accept or {}
        self._path = path
        self._scan = Tool(["smartctl", "--scan", "--json"], timeout_seconds, path=path)
        self._tools: dict[str, Tool] = {}
        self._awake: dict[str, list[Reading]] = {}

    def measure(self) -> Measurement:
        """Return what each disk tells, an entity a disk; one that sleeps repeats what it said when it was awake.

        Raises NoData without smartctl and without disks, ProbeError when no disk could be asked.
        """
        disks = self._disks()
        missing = self._selection.missing(disks)
        if not disks and not missing:
            raise NoData("smartctl finds no disk that it could ask")
        readings: list[Reading] = []
        notes: dict[str, str] = {}
        failures: list[ProbeError] = []
        for disk, arguments in disks.items():
            try:
                found = self._ask(disk, arguments)
            except ProbeError as error:
                failures.append(error)
                found = [Reading("new_defects", math.nan, "count", disk)]
                notes[disk] = str(error)
            readings += found
        if failures and len(failures) == len(disks):
            raise failures[0]
        if not readings and not missing:
            raise NoData("all disks sleep, and have not been awake yet")
        return Measurement(readings, missing=missing, notes=notes)

    def _disks(self) -> dict[str, list[str]]:
        """Return the arguments by which each disk is asked for."""
        devices = [device for device in self._scan.json().get("devices", []) if isinstance(device, dict)]
        names = [str(device.get("name", "")) for device in devices]
        disks: dict[str, list[str]] = {}
        for name, kind in zip(names, (str(device.get("type", "")) for device in devices), strict=True):
            shared = names.count(name) > 1  # the disks behind one RAID controller
            entity = f"{name} {kind}" if shared else name
            if name and self._selection.takes(entity):
                disks[entity] = [name] if kind in _FOUND_BY_ITSELF else ["-d", kind, name]
        return disks

    def _ask(self, disk: str, arguments: list[str]) -> list[Reading]:
        tool = self._tools.get(disk)
        if tool is None:
            command = ["smartctl", "--json", "-n", "standby", "-a", *arguments]
            tool = self._tools[disk] = Tool(command, self._timeout_seconds, accepted=_ANY_CODE, path=self._path)
        report = tool.json()
        messages = [str(message.get("string", "")) for message in report.get("smartctl", {}).get("messages", [])]
        if any("STANDBY" in message or "SLEEP" in message for message in messages):
            return self._awake.get(disk, [])
        if int(report.get("smartctl", {}).get("exit_status", 0)) & _OPEN_FAILED:
            raise ProbeError(
                f"asking {disk} for its health: {'; '.join(messages) or 'it cannot be opened'}", hint=_HINT
            )
        values = _values(report)
        if not values:
            raise ProbeError(
                f"asking {disk} for its health: it tells nothing", hint="leave it out with `exclude` if it has no SMART"
            )
        accepted = self._accept.get(str(report.get("serial_number", "")), self._accept.get(disk, {}))
        new = sum(max(0.0, values.get(name, 0.0) - accepted.get(name, 0)) for name in DEFECTS)
        readings = [Reading(name, value, _UNITS.get(name, "count"), disk) for name, value in values.items()]
        self._awake[disk] = [Reading("new_defects", new, "count", disk), *readings]
        return self._awake[disk]


_UNITS = {"wear": "ratio", "spare": "ratio", "temperature": "celsius", "powered_on": "seconds"}


def _values(report: Report) -> dict[str, float]:
    """Read a report of any kind of disk. Raises ProbeError when it has another shape than smartctl's."""
    try:
        values: dict[str, float] = {}
        for part in (_common, _ata, _nvme, _scsi):
            values |= dict(part(report))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProbeError(f"reading smartctl's report: unexpected {type(error).__name__}: {error}") from error
    return values


def _common(report: Report) -> Iterator[tuple[str, float]]:
    if "passed" in report.get("smart_status", {}):
        yield "passed", int(report["smart_status"]["passed"])
    if "current" in report.get("temperature", {}):
        yield "temperature", float(report["temperature"]["current"])
    if "hours" in report.get("power_on_time", {}):
        yield "powered_on", float(report["power_on_time"]["hours"]) * 3600


def _ata(report: Report) -> Iterator[tuple[str, float]]:
    table = {row["id"]: row for row in report.get("ata_smart_attributes", {}).get("table", [])}
    for number, name in _ATTRIBUTES.items():
        if number in table:
            # Vendors keep other things in the upper bytes of the 48 bits.
            yield name, float(int(table[number]["raw"]["value"]) & 0xFFFFFFFF)
    wear = _ata_wear(report, table)
    if wear is not None:
        yield "wear", wear
    test = report.get("ata_smart_data", {}).get("self_test", {}).get("status", {})
    if "passed" in test:
        yield "self_test_passed", int(test["passed"])


def _ata_wear(report: Report, table: Mapping[int, Any]) -> float | None:
    if "current_percent" in report.get("endurance_used", {}):  # smartctl 7.4 knows the vendors' ways
        return float(report["endurance_used"]["current_percent"]) / 100
    for number in _LIFE_LEFT if report.get("rotation_rate", 0) == 0 else ():
        if number in table:
            left = float(table[number]["value"])
            used = left if table[number].get("name") == _COUNTED_UP.get(number) else 100 - left
            return min(max(used / 100, 0.0), 1.0)
    return None


def _nvme(report: Report) -> Iterator[tuple[str, float]]:
    log = report.get("nvme_smart_health_information_log", {})
    if "percentage_used" in log:
        yield "wear", float(log["percentage_used"]) / 100
    if "available_spare" in log:
        yield "spare", float(log["available_spare"]) / 100
    if "media_errors" in log:
        yield "media_errors", float(log["media_errors"])
    tests = report.get("nvme_self_test_log", {}).get("table", [])
    if tests:
        yield "self_test_passed", int(tests[0]["self_test_result"]["value"] in (0, 1, 2))  # 1, 2: somebody ended it


def _scsi(report: Report) -> Iterator[tuple[str, float]]:
    if "scsi_grown_defect_list" in report:
        yield "reallocated", float(report["scsi_grown_defect_list"])
    if "scsi_error_counter_log" in report:
        log = report["scsi_error_counter_log"]
        yield "uncorrectable", float(sum(log[way].get("total_uncorrected_errors", 0) for way in log))
    if "scsi_percentage_used_endurance_indicator" in report:
        yield "wear", float(report["scsi_percentage_used_endurance_indicator"]) / 100
