"""Settings of checks of the hardware: disks and arrays, memory, power, sensors, network cards."""

from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import CheckBase, Discovering, Readings
from config.units import Duration


class TemperatureCheck(Discovering):
    """Temperatures, an entity a sensor. Main reading `celsius`; also `share_of_critical` where the chip has a limit."""

    type: Literal["temperature"]
    readings: ClassVar[Readings] = {"celsius": "celsius", "share_of_critical": "ratio"}
    plausible_from: float = -50.0
    """Degrees Celsius; a sensor that says less is taken for broken and left out."""
    plausible_to: float = 120.0
    """Degrees Celsius; chips say 127 or 255 when nothing is connected."""


class FansCheck(Discovering):
    """Fans, an entity a fan. Main reading `rpm`."""

    type: Literal["fans"]
    readings: ClassVar[Readings] = {"rpm": "rpm"}


class SmartCheck(Discovering):
    """Health of disks by SMART and NVMe's log, through smartctl, an entity a disk such as /dev/sda. A sleeping disk is
    left to sleep, and what it last said stands.

    Main reading `new_defects` (count of `reallocated`, `pending`, `uncorrectable` and `media_errors` above what is
    accepted as known); also these four, `passed` (1 or 0: the disk's own verdict), `crc_errors`, `wear` (ratio of its
    life), `spare` (ratio left), `temperature` (celsius), `powered_on` (seconds), `self_test_passed` (1 or 0).
    """

    type: Literal["smart"]
    readings: ClassVar[Readings] = {
        "new_defects": "count",
        "passed": "count",
        "reallocated": "count",
        "pending": "count",
        "uncorrectable": "count",
        "media_errors": "count",
        "crc_errors": "count",
        "wear": "ratio",
        "spare": "ratio",
        "temperature": "celsius",
        "powered_on": "seconds",
        "self_test_passed": "count",
    }
    defaults = {
        "every": "10m",
        "timeout": "1m",
        "warning": [
            "> 0",
            {"reading": "wear", "raise": "> 80%"},
            {"reading": "self_test_passed", "raise": "< 1"},
            {"reading": "temperature", "raise": "> 60", "clear": "< 55"},
        ],
        "critical": [
            {"reading": "passed", "raise": "< 1"},
            {"reading": "wear", "raise": "> 95%"},
            {"reading": "pending", "raise": "> 50"},
        ],
    }
    accept: dict[str, dict[Literal["reallocated", "pending", "uncorrectable", "media_errors"], int]] = Field(
        {}, examples=[{"WD-WX41A12345": {"reallocated": 8}}]
    )
    """Defects that are known and accepted, by serial number or device: only more than these are new."""


class MdRaidCheck(Discovering):
    """Software RAID of Linux (md), an entity an array. Main reading `missing` (count of disks it should have); also
    `degraded` (seconds for which it has lacked any), `failed`, `spare` (counts), `rebuilt` (ratio, while it repairs
    itself), `mismatches` (count of the last check). A failed disk is critical at once; one that is only missing gets a
    quarter of an hour, since arrays that start or are worked on lack one for a while.
    """

    type: Literal["md_raid"]
    readings: ClassVar[Readings] = {
        "missing": "count",
        "degraded": "seconds",
        "failed": "count",
        "spare": "count",
        "rebuilt": "ratio",
        "mismatches": "count",
    }
    defaults = {"critical": [{"reading": "failed", "raise": "> 0"}, {"reading": "degraded", "raise": "> 15m"}]}


class ZfsCheck(Discovering):
    """ZFS pools, an entity a pool. Main reading `unhealthy` (0 online, 1 degraded, 2 unusable); also `used` (ratio),
    `fragmentation` (ratio), `faulted` (devices out of service), `errors` (read, write and checksum errors counted).
    """

    type: Literal["zfs"]
    readings: ClassVar[Readings] = {
        "unhealthy": "count",
        "used": "ratio",
        "fragmentation": "ratio",
        "faulted": "count",
        "errors": "count",
    }
    defaults = {
        "every": "1m",
        "timeout": "30s",
        "warning": [{"reading": "used", "raise": "> 80%"}, {"reading": "errors", "raise": "> 0"}],
        "critical": ["> 0", {"reading": "used", "raise": "> 95%"}],
    }


class BtrfsCheck(Discovering):
    """Devices of btrfs, an entity a device such as 'data 1'. Main reading `errors` (count, until
    `btrfs device stats -z` resets them); also `corruptions` of these, and `missing` (1 when the device is gone).
    """

    type: Literal["btrfs"]
    readings: ClassVar[Readings] = {"errors": "count", "corruptions": "count", "missing": "count"}
    defaults = {"every": "1m", "critical": ["> 0", {"reading": "missing", "raise": "> 0"}]}


class LvmCheck(Discovering):
    """LVM: volume groups, thin pools, snapshots and RAID volumes, an entity each, such as 'data' and 'data/pool'.

    Main reading `unhealthy` (count of missing physical volumes of a group; 1 for a volume in need of repair); also
    `used` and `metadata_used` (ratios) of thin pools and snapshots, `free_bytes` of groups, `synchronized` (ratio) of
    RAID volumes.
    """

    type: Literal["lvm"]
    readings: ClassVar[Readings] = {
        "unhealthy": "count",
        "used": "ratio",
        "metadata_used": "ratio",
        "free_bytes": "bytes",
        "synchronized": "ratio",
    }
    defaults = {
        "every": "1m",
        "timeout": "30s",
        "warning": [{"reading": "used", "raise": "> 80%"}, {"reading": "metadata_used", "raise": "> 75%"}],
        "critical": ["> 0", {"reading": "used", "raise": "> 95%"}, {"reading": "metadata_used", "raise": "> 90%"}],
    }


class MemoryErrorsCheck(CheckBase):
    """Errors of ECC memory (EDAC), an entity a controller. Main reading `uncorrected` (count since start); also
    `corrected` (count `within` the time). Messages name the modules.
    """

    type: Literal["memory_errors"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"uncorrected": "count", "corrected": "count"}
    defaults = {"every": "1m", "warning": {"reading": "corrected", "raise": "> 0"}, "critical": "> 0"}
    within: Duration = Field("1d", validate_default=True)
    """How long a corrected error is counted."""


class MachineChecksCheck(CheckBase):
    """What the processor reports of itself. Main reading `exceptions` (machine checks since start, count); also
    `corrected` and `throttled` (times it hit a threshold of corrected errors, and of heat, `within` the time).
    """

    type: Literal["machine_checks"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"exceptions": "count", "corrected": "count", "throttled": "count"}
    defaults = {"every": "1m", "warning": {"reading": "corrected", "raise": "> 0"}, "critical": "> 0"}
    within: Duration = Field("1d", validate_default=True)
    """How long an event is counted."""


class PowerSupplyCheck(Discovering):
    """Power supplies that the kernel knows, an entity each. Main reading `online` (1 or 0). Those of servers are
    known to IPMI instead.
    """

    type: Literal["power_supply"]
    readings: ClassVar[Readings] = {"online": "count"}


class BatteryCheck(Discovering):
    """Batteries, an entity each. Main reading `charge` (ratio); also `discharging` (1 or 0), `health` (ratio of the
    capacity when new), `time_left` (seconds, while it discharges).
    """

    type: Literal["battery"]
    readings: ClassVar[Readings] = {
        "charge": "ratio",
        "discharging": "count",
        "health": "ratio",
        "time_left": "seconds",
    }
    defaults = {"warning": "< 20%", "critical": "< 7%"}


class LinkCheck(Discovering):
    """Links of network cards, an entity an interface. Main reading `up` (1 or 0); also `speed` (bytes per second),
    `full_duplex` (1 or 0), `lost` (times the carrier went, in the last hour).

    Every physical interface that is switched on, unless `include` names others.
    """

    type: Literal["link"]
    readings: ClassVar[Readings] = {"up": "count", "speed": "bytes_per_second", "full_duplex": "count", "lost": "count"}
    defaults = {"warning": [{"reading": "full_duplex", "raise": "< 1"}, {"reading": "lost", "raise": "> 4"}]}


class BondCheck(Discovering):
    """Bonds of network cards, an entity a bond. Main reading `down` (links that do not work, count); also `links`."""

    type: Literal["bond"]
    readings: ClassVar[Readings] = {"down": "count", "links": "count"}
    defaults = {"for": "1m", "warning": "> 0"}


class IpmiSensorsCheck(Discovering):
    """Sensors of the management controller (IPMI), through ipmitool, an entity a sensor. Main reading `state` (0 fine,
    1 warning, 2 critical, by the controller's own limits); also `celsius`, `rpm`, `volts`, `amperes`, `watts`.
    """

    type: Literal["ipmi_sensors"]
    readings: ClassVar[Readings] = {
        "state": "count",
        "celsius": "celsius",
        "rpm": "rpm",
        "volts": "number",
        "amperes": "number",
        "watts": "number",
    }
    defaults = {"every": "1m", "timeout": "30s", "warning": ">= 1", "critical": ">= 2"}


class IpmiEventsCheck(CheckBase):
    """The event log of the management controller (IPMI SEL), through ipmitool. Main reading `new` (count `within` the
    time); also `entries`, and `used` (ratio of the log's space). Messages show the newest events.
    """

    type: Literal["ipmi_events"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"new": "count", "entries": "count", "used": "ratio"}
    defaults = {
        "every": "5m",
        "timeout": "1m",
        "warning": ["> 0", {"reading": "used", "raise": "> 90%"}],
    }
    within: Duration = Field("1d", validate_default=True)
    """How long an event is new."""


class UpsCheck(Discovering):
    """Uninterruptible power supplies, asked of NUT's upsd, an entity each. Main reading `on_battery` (1 or 0); also
    `low_battery`, `replace_battery`, `overloaded` (1 or 0), `charge`, `load` (ratios), `time_left` (seconds),
    `input_volts`, `celsius`.
    """

    type: Literal["ups"]
    readings: ClassVar[Readings] = {
        "on_battery": "count",
        "low_battery": "count",
        "replace_battery": "count",
        "overloaded": "count",
        "charge": "ratio",
        "load": "ratio",
        "time_left": "seconds",
        "input_volts": "number",
        "celsius": "celsius",
    }
    defaults = {
        "warning": [
            "> 0",
            {"reading": "replace_battery", "raise": "> 0"},
            {"reading": "load", "raise": "> 85%"},
        ],
        "critical": [
            {"reading": "low_battery", "raise": "> 0"},
            {"reading": "overloaded", "raise": "> 0"},
            {"reading": "charge", "raise": "< 40%"},
        ],
    }
    host: str = Field("127.0.0.1", min_length=1)
    """Where upsd runs."""
    port: int = Field(3493, ge=1, le=65_535)
    """Its port."""
