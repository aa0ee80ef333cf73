"""What types of checks alarm on by themselves: readings of machines that are well and ill, judged by the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from config.checks import TYPES, CheckSettings, model_of, readings_of
from monitor.build import build_checks
from monitor.check import run_check
from monitor.probes.file_systems import FileSystems
from monitor.result import Measurement, Reading, Result, Status

OK, WARNING, CRITICAL = Status.OK, Status.WARNING, Status.CRITICAL
REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "permissions": {"paths": ["/etc/shadow"]}, "listening_ports": {"allowed": ["22/tcp"]},
    "snmp_uptime": {"host": "switch", "community": "c"}, "snmp_interfaces": {"host": "switch", "community": "c"},
    "snmp_sensors": {"host": "switch", "community": "c"},
}  # fmt: skip
JUDGED: tuple[tuple[str, Mapping[str, float], Status], ...] = (
    ("file_systems", {"used": 0.7, "inodes_used": 0.1, "read_only": 0}, OK),
    ("file_systems", {"used": 0.7, "inodes_used": 0.95, "read_only": 0}, WARNING),
    ("file_systems", {"used": 0.7, "inodes_used": 0.1, "read_only": 1}, CRITICAL),
    ("pressure", {"memory_full": 0.01, "io_full": 0.3}, OK),
    ("pressure", {"memory_full": 0.01, "io_full": 0.9}, WARNING),
    ("pressure", {"memory_full": 0.5, "io_full": 0.9}, CRITICAL),
    ("oom_kills", {"killed": 0}, OK),
    ("oom_kills", {"killed": 1}, CRITICAL),
    ("conntrack", {"used": 0.5}, OK),
    ("conntrack", {"used": 0.95}, CRITICAL),
    ("entropy", {"available": 256}, OK),
    ("entropy", {"available": 40}, WARNING),
    ("clock", {"offset": 0.001, "synchronized": 1}, OK),
    ("clock", {"offset": 0.2, "synchronized": 1}, WARNING),
    ("clock", {"offset": 0.0, "synchronized": 0}, WARNING),
    ("clock", {"offset": 30.0, "synchronized": 1}, CRITICAL),
    ("stuck_processes", {"uninterruptible": 0, "zombies": 2}, OK),
    ("stuck_processes", {"uninterruptible": 1, "zombies": 2}, WARNING),
    ("process_limits", {"open_files": 0.2}, OK),
    ("process_limits", {"open_files": 0.95}, CRITICAL),
    ("cgroups", {"memory": 0.5, "tasks": 0.1, "throttled": 0.1, "oom_kills": 0}, OK),
    ("cgroups", {"memory": 0.5, "tasks": 0.1, "throttled": 0.1, "oom_kills": 1}, CRITICAL),
    ("reboot", {"required": 0}, OK),
    ("reboot", {"required": 1}, WARNING),
    ("updates", {"security": 0, "age": 3600}, OK),
    ("updates", {"security": 3, "age": 3600}, WARNING),
    ("updates", {"security": 0, "age": 30 * 86_400}, WARNING),
    ("permissions", {"wrong": 0}, OK),
    ("permissions", {"wrong": 1}, CRITICAL),
    ("listening_ports", {"unexpected": 0}, OK),
    ("listening_ports", {"unexpected": 1}, WARNING),
    ("failed_logins", {"failed": 12}, OK),
    ("failed_logins", {"failed": 5000}, CRITICAL),
    ("smart", {"new_defects": 0, "passed": 1, "wear": 0.3, "temperature": 40, "self_test_passed": 1}, OK),
    ("smart", {"new_defects": 1, "passed": 1}, WARNING),
    ("smart", {"new_defects": 0, "passed": 1, "wear": 0.9}, WARNING),
    ("smart", {"new_defects": 0, "passed": 1, "self_test_passed": 0}, WARNING),
    ("smart", {"new_defects": 0, "passed": 0}, CRITICAL),
    ("md_raid", {"missing": 0, "failed": 0, "degraded": 0}, OK),
    ("md_raid", {"missing": 1, "failed": 0, "degraded": 600}, OK),
    ("md_raid", {"missing": 1, "failed": 0, "degraded": 1000}, CRITICAL),
    ("md_raid", {"missing": 0, "failed": 1, "degraded": 0}, CRITICAL),
    ("zfs", {"unhealthy": 0, "used": 0.4, "errors": 0}, OK),
    ("zfs", {"unhealthy": 0, "used": 0.4, "errors": 4}, WARNING),
    ("zfs", {"unhealthy": 1, "used": 0.4, "errors": 0}, CRITICAL),
    ("btrfs", {"errors": 0, "missing": 0}, OK),
    ("btrfs", {"errors": 0, "missing": 1}, CRITICAL),
    ("lvm", {"unhealthy": 0, "used": 0.4, "metadata_used": 0.2}, OK),
    ("lvm", {"unhealthy": 0, "free_bytes": 1.0}, OK),
    ("lvm", {"unhealthy": 0, "used": 0.4, "metadata_used": 0.92}, CRITICAL),
    ("memory_errors", {"uncorrected": 0, "corrected": 0}, OK),
    ("memory_errors", {"uncorrected": 0, "corrected": 1}, WARNING),
    ("memory_errors", {"uncorrected": 1, "corrected": 1}, CRITICAL),
    ("machine_checks", {"exceptions": 0}, OK),
    ("machine_checks", {"exceptions": 1}, CRITICAL),
    ("battery", {"charge": 0.8}, OK),
    ("battery", {"charge": 0.05}, CRITICAL),
    ("link", {"up": 1, "full_duplex": 1, "lost": 0}, OK),
    ("link", {"up": 0, "lost": 1}, OK),
    ("link", {"up": 1, "full_duplex": 0, "lost": 0}, WARNING),
    ("link", {"up": 0, "lost": 9}, WARNING),
    ("bond", {"down": 0}, OK),
    ("bond", {"down": 1}, WARNING),
    ("ipmi_sensors", {"state": 0}, OK),
    ("ipmi_sensors", {"state": 1}, WARNING),
    ("ipmi_sensors", {"state": 2}, CRITICAL),
    ("ipmi_events", {"new": 0, "used": 0.1}, OK),
    ("ipmi_events", {"new": 1, "used": 0.1}, WARNING),
    ("ups", {"on_battery": 0, "low_battery": 0, "replace_battery": 0, "overloaded": 0, "charge": 1, "load": 0.2}, OK),
    ("ups", {"on_battery": 1, "low_battery": 0, "replace_battery": 0, "overloaded": 0, "charge": 0.9}, WARNING),
    ("ups", {"on_battery": 1, "low_battery": 1, "replace_battery": 0, "overloaded": 0, "charge": 0.1}, CRITICAL),
    ("snmp_uptime", {"uptime": 86_400}, OK),
    ("snmp_uptime", {"uptime": 60}, WARNING),
    ("snmp_interfaces", {"down": 0}, OK),
    ("snmp_interfaces", {"down": 0, "errors": 0.05, "used": 0.1}, WARNING),
    ("snmp_sensors", {"failed": 0}, OK),
    ("snmp_sensors", {"failed": 1}, WARNING),
)
OF_THIS_TEST = {"host", "upkeep", "hardware", "snmp"}
"""Modules of settings whose defaults are shown here."""


@dataclass
class Told:
    """A probe that says what it is given."""

    kind: str
    values: Mapping[str, float]

    def measure(self) -> Measurement:
        units = readings_of(self.kind)
        # the main reading first, as every probe gives it
        return Measurement([Reading(name, self.values[name], units[name]) for name in units if name in self.values])


def now() -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC)


def judged(kind: str, values: Mapping[str, float]) -> Result:
    written = {"name": "it", "type": kind, **REQUIRED.get(kind, {})}
    settings = TypeAdapter(CheckSettings).validate_python(written)
    (check,) = build_checks([settings], file_systems=FileSystems(), clock=now)
    (result,) = run_check(replace(check, probe=Told(kind, values)), {}, now)
    return result


@pytest.mark.parametrize(("kind", "values", "status"), JUDGED)
def test_a_type_judges_by_its_own_thresholds(kind: str, values: Mapping[str, float], status: Status) -> None:
    result = judged(kind, values)
    assert result.status is status, result.message


def test_every_type_with_thresholds_is_shown_well_and_ill() -> None:
    types = {
        kind
        for kind, module in TYPES.items()
        if module in OF_THIS_TEST and {"warning", "critical"} & set(model_of(kind).defaults)
    }
    assert {kind for kind, _, status in JUDGED if status is OK} == types
    assert {kind for kind, _, status in JUDGED if status is not OK} == types
