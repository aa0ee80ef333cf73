"""Recipes of checks of the hardware. What a device may honestly lack is optional."""

from config.checks import CheckBase, hardware
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.btrfs import BtrfsProbe
from monitor.probes.ipmi import IpmiEventsProbe, IpmiSensorsProbe
from monitor.probes.links import BondProbe, LinkProbe
from monitor.probes.lvm import LvmProbe
from monitor.probes.machine_checks import MachineChecksProbe
from monitor.probes.md_raid import MdRaidProbe
from monitor.probes.memory_errors import MemoryErrorsProbe
from monitor.probes.power import BatteryProbe, PowerSupplyProbe
from monitor.probes.recent import Recent, RecentByEntity
from monitor.probes.sensors import FansProbe, TemperatureProbe
from monitor.probes.smart import SmartProbe
from monitor.probes.ups import UpsProbe
from monitor.probes.zfs import ZfsProbe
from monitor.result import Probe

_LINK_WINDOW_SECONDS = 3600.0


def _temperature(check: hardware.TemperatureCheck, _shared: Shared) -> Probe:
    return TemperatureProbe(selection=check.selection, plausible=(check.plausible_from, check.plausible_to))


def _smart(check: hardware.SmartCheck, _shared: Shared) -> Probe:
    accept = {disk: {str(kind): count for kind, count in known.items()} for disk, known in check.accept.items()}
    return SmartProbe(check.timeout.total_seconds(), check.selection, accept)


def _ipmi_sensors(check: hardware.IpmiSensorsCheck, _shared: Shared) -> Probe:
    return IpmiSensorsProbe(check.timeout.total_seconds(), check.selection)


def _ipmi_events(check: hardware.IpmiEventsCheck, _shared: Shared) -> Probe:
    # three questions at most, each with its share of the time
    return IpmiEventsProbe(check.timeout.total_seconds() / 2, Recent(check.within.total_seconds()))


def _ups(check: hardware.UpsCheck, _shared: Shared) -> Probe:
    return UpsProbe(check.host, check.port, check.timeout.total_seconds(), check.selection)


def _but(kind: type[CheckBase], *always: str) -> frozenset[str]:
    return frozenset(kind.readings) - set(always)


RECIPES: Recipes = {
    hardware.TemperatureCheck: Recipe(_temperature, optional=frozenset({"share_of_critical"})),
    hardware.FansCheck: Recipe(lambda check, _shared: FansProbe(selection=check.selection)),
    hardware.SmartCheck: Recipe(_smart, optional=_but(hardware.SmartCheck, "new_defects")),
    hardware.MdRaidCheck: Recipe(
        lambda check, shared: MdRaidProbe(check.name, shared.clock, shared.memories, check.selection),
        optional=frozenset({"rebuilt", "mismatches"}),
    ),
    hardware.ZfsCheck: Recipe(
        lambda check, _shared: ZfsProbe(check.timeout.total_seconds() / 2, check.selection),
        optional=frozenset({"used", "fragmentation"}),
    ),
    hardware.BtrfsCheck: Recipe(lambda check, _shared: BtrfsProbe(check.selection)),
    hardware.LvmCheck: Recipe(
        lambda check, _shared: LvmProbe(check.timeout.total_seconds() / 2, check.selection),
        optional=_but(hardware.LvmCheck, "unhealthy"),
    ),
    hardware.MemoryErrorsCheck: Recipe(
        lambda check, _shared: MemoryErrorsProbe(RecentByEntity(check.within.total_seconds()))
    ),
    hardware.MachineChecksCheck: Recipe(
        lambda check, _shared: MachineChecksProbe(RecentByEntity(check.within.total_seconds())),
        optional=frozenset({"corrected", "throttled"}),
    ),
    hardware.PowerSupplyCheck: Recipe(lambda check, _shared: PowerSupplyProbe(check.selection)),
    hardware.BatteryCheck: Recipe(
        lambda check, _shared: BatteryProbe(check.selection), optional=frozenset({"health", "time_left"})
    ),
    hardware.LinkCheck: Recipe(
        lambda check, _shared: LinkProbe(RecentByEntity(_LINK_WINDOW_SECONDS), check.selection),
        optional=frozenset({"speed", "full_duplex"}),
    ),
    hardware.BondCheck: Recipe(lambda check, _shared: BondProbe(check.selection)),
    hardware.IpmiSensorsCheck: Recipe(_ipmi_sensors, optional=_but(hardware.IpmiSensorsCheck, "state")),
    hardware.IpmiEventsCheck: Recipe(_ipmi_events, optional=frozenset({"used"})),
    hardware.UpsCheck: Recipe(_ups, optional=_but(hardware.UpsCheck, "on_battery")),
}
