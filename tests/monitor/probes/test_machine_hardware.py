"""Memory errors, machine checks, power, links, bonds, IPMI and implausible sensors: well, ill, absent, malformed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.selection import Selection
from monitor.probes.ipmi import IpmiEventsProbe, IpmiSensorsProbe
from monitor.probes.links import BondProbe, LinkProbe
from monitor.probes.machine_checks import MachineChecksProbe
from monitor.probes.memory_errors import MemoryErrorsProbe
from monitor.probes.power import BatteryProbe, PowerSupplyProbe
from monitor.probes.recent import Recent, RecentByEntity
from monitor.probes.sensors import FansProbe, TemperatureProbe
from monitor.result import NoData, ProbeError

HERE = ("/",)
"""A path that exists, for the management controller's device."""


@pytest.fixture
def recent(fake_time: Any) -> RecentByEntity:
    return RecentByEntity(3600, fake_time.timing.monotonic)


def test_sensors_that_say_what_cannot_be_are_left_out_and_so_are_excluded_ones(values: Any) -> None:
    def sensor(label: str, current: float, critical: float | None = None) -> SimpleNamespace:
        return SimpleNamespace(label=label, current=current, critical=critical)

    chips = {
        "nct6775": [sensor("SYSTIN", 41.0), sensor("AUXTIN0", 127.0), sensor("AUXTIN1", -61.0), sensor("CPUTIN", 38.0)],
        "nvme": [sensor("Composite", 41.9, 65_261.8)],
    }
    probe = TemperatureProbe(lambda: chips, Selection(exclude=["* CPUTIN"]))
    assert values(probe.measure()) == {"nct6775 SYSTIN/celsius": 41.0, "nvme Composite/celsius": 41.9}
    with pytest.raises(NoData):
        TemperatureProbe(lambda: chips, Selection(exclude=["*"])).measure()
    assert TemperatureProbe(lambda: chips, Selection(["nct6775 AUXTIN0"])).measure().missing == ["nct6775 AUXTIN0"]


def test_fans_are_selected_by_name(values: Any) -> None:
    chips = {"nct6775": [SimpleNamespace(label="fan1", current=900), SimpleNamespace(label="fan2", current=0)]}
    assert values(FansProbe(lambda: chips, Selection(["*fan1"])).measure()) == {"nct6775 fan1/rpm": 900}


def edac(tree: Any, corrected: int, uncorrected: int) -> Path:
    counts = {"ce_count": corrected, "ue_count": uncorrected}
    files = {f"mc0/{name}": f"{count}\n" for name, count in counts.items()}
    files |= {f"mc0/dimm3/dimm_{name}": f"{count}\n" for name, count in counts.items()}
    return tree(files | {"mc0/dimm3/dimm_label": "CPU0_DIMM_B1\n", "power/control": "auto\n"})  # type: ignore[no-any-return]


def test_memory_errors_count_lately_or_since_start_and_name_the_module(
    tree: Any, recent: RecentByEntity, fake_time: Any, values: Any
) -> None:
    probe = MemoryErrorsProbe(recent, edac(tree, 7, 0))
    assert values(probe.measure()) == {"mc0/uncorrected": 0, "mc0/corrected": 0}
    edac(tree, 9, 1)
    fake_time.now += 60
    measured = probe.measure()
    assert values(measured) == {"mc0/uncorrected": 1, "mc0/corrected": 2}
    assert measured.notes == {"mc0": "since start CPU0_DIMM_B1: 1 uncorrected, 9 corrected"}
    fake_time.now += 3601
    assert values(probe.measure())["mc0/corrected"] == 0


def test_without_ecc_there_is_no_data_and_a_broken_count_is_an_error(
    tree: Any, tmp_path: Path, recent: RecentByEntity
) -> None:
    with pytest.raises(NoData):
        MemoryErrorsProbe(recent, tmp_path / "none").measure()
    with pytest.raises(ProbeError, match="ce_count"):
        MemoryErrorsProbe(recent, tree({"mc0/ce_count": "what", "mc0/ue_count": "0"})).measure()


def test_machine_checks_are_told_at_once_and_heat_for_a_while(
    proc: Any, captured: Any, recent: RecentByEntity, fake_time: Any, values: Any
) -> None:
    proc.write("interrupts", captured("interrupts-healthy"))
    probe = MachineChecksProbe(recent, proc.path)
    assert values(probe.measure()) == {"exceptions": 0, "corrected": 0, "throttled": 0}
    proc.write("interrupts", captured("interrupts-failing"))
    assert values(probe.measure()) == {"exceptions": 1, "corrected": 3, "throttled": 42}
    fake_time.now += 3601
    assert values(probe.measure()) == {"exceptions": 1, "corrected": 0, "throttled": 0}
    proc.write("interrupts", "           CPU0\n  1:   9   GICv3  uart\n")
    with pytest.raises(NoData):
        probe.measure()


def power(tree: Any, **battery: str) -> Path:
    files = {"AC/type": "Mains\n", "AC/online": "1\n", "hidpp_battery_0/type": "Battery\n",
             "hidpp_battery_0/scope": "Device\n", "hidpp_battery_0/capacity": "3\n"}  # fmt: skip
    usual = {"type": "Battery", "status": "Full", "capacity": "100", "energy_now": "50000000",
             "energy_full": "50000000", "energy_full_design": "57000000", "power_now": "0"}  # fmt: skip
    return tree(files | {f"BAT0/{name}": f"{text}\n" for name, text in (usual | battery).items()})  # type: ignore[no-any-return]


def test_a_battery_that_runs_down_says_how_long_it_lasts(tree: Any, values: Any) -> None:
    found = values(BatteryProbe(folder=power(tree)).measure())
    assert found == {"BAT0/charge": 1, "BAT0/discharging": 0, "BAT0/health": pytest.approx(0.877, abs=1e-3)}
    low = power(tree, status="Discharging", capacity="6", energy_now="3000000", power_now="6000000")
    found = values(BatteryProbe(folder=low).measure())
    assert (found["BAT0/charge"], found["BAT0/discharging"], found["BAT0/time_left"]) == (0.06, 1, 1800)


def test_a_power_supply_without_power_is_offline(tree: Any, values: Any, tmp_path: Path) -> None:
    folder = power(tree)
    assert values(PowerSupplyProbe(folder=folder).measure()) == {"AC/online": 1}
    (folder / "AC/online").write_text("0\n")
    assert values(PowerSupplyProbe(folder=folder).measure()) == {"AC/online": 0}
    for probe in (PowerSupplyProbe, BatteryProbe):
        with pytest.raises(NoData):
            probe(folder=tmp_path / "none").measure()


def net(tree: Any, **eth0: str) -> Path:
    usual = {"flags": "0x1003", "carrier": "1", "speed": "1000", "duplex": "full", "carrier_down_count": "1",
             "device/vendor": "0x8086", "bonding_slave/mii_status": "up"}  # fmt: skip
    files = {f"eth0/{name}": f"{text}\n" for name, text in (usual | eth0).items()}
    files |= {f"eth1/{name}": f"{text}\n" for name, text in (usual | {"flags": "0x1002", "carrier": "0"}).items()}
    files |= {"lo/flags": "0x9\n", "veth7/flags": "0x1003\n", "veth7/carrier": "1\n"}
    files |= {"bonding_masters": "bond0\n", "bond0/bonding/slaves": "eth0 eth1\n", "bond0/flags": "0x1403\n"}
    return tree(files)  # type: ignore[no-any-return]


def test_links_of_cards_that_are_switched_on(tree: Any, recent: RecentByEntity, values: Any) -> None:
    assert values(LinkProbe(recent, folder=net(tree)).measure()) == {
        "eth0/up": 1, "eth0/speed": 125_000_000, "eth0/full_duplex": 1, "eth0/lost": 0,
    }  # fmt: skip


def test_a_lost_link_half_duplex_and_a_link_that_flaps_raise_the_alarm(
    tree: Any, recent: RecentByEntity, values: Any
) -> None:
    probe = LinkProbe(recent, folder=net(tree))
    probe.measure()
    net(tree, speed="100", duplex="half", carrier_down_count="8")
    assert values(probe.measure()) == {
        "eth0/up": 1, "eth0/speed": 12_500_000, "eth0/full_duplex": 0, "eth0/lost": 7,
    }  # fmt: skip
    net(tree, carrier="0", speed="-1", duplex="unknown", carrier_down_count="9")
    assert values(probe.measure()) == {"eth0/up": 0, "eth0/lost": 8}


def test_named_links_count_though_they_are_off_virtual_or_gone(tree: Any, recent: RecentByEntity) -> None:
    measured = LinkProbe(recent, Selection(["eth1", "veth*", "eth9"]), net(tree)).measure()
    assert {reading.entity for reading in measured.readings} == {"eth1", "veth7"}
    assert measured.missing == ["eth9"]


def test_a_bond_with_a_dead_link_names_it(tree: Any, values: Any, tmp_path: Path) -> None:
    folder = net(tree)
    assert values(BondProbe(folder=folder).measure()) == {"bond0/down": 0, "bond0/links": 2}
    (folder / "eth1/bonding_slave/mii_status").write_text("down\n")
    measured = BondProbe(folder=folder).measure()
    assert values(measured)["bond0/down"] == 1
    assert measured.notes == {"bond0": "eth1 without link"}
    (folder / "bond0/bonding/slaves").write_text("\n")
    assert values(BondProbe(folder=folder).measure())["bond0/down"] == 1
    with pytest.raises(NoData):
        BondProbe(folder=tmp_path / "none").measure()


def ipmi(tools: Any, state: str, **about: Any) -> IpmiSensorsProbe:
    tools.add("ipmitool", ("sensor", f"ipmitool-sensor-{state}"))
    return IpmiSensorsProbe(10, path=tools.path, devices=HERE, **about)


def test_a_server_in_order_shows_its_sensors_and_power_supplies(tools: Any, values: Any) -> None:
    assert values(ipmi(tools, "healthy").measure()) == {
        "CPU Temp/state": 0, "CPU Temp/celsius": 48, "FAN1/state": 0, "FAN1/rpm": 4200, "12V/state": 0,
        "12V/volts": 12.063, "Pwr Consumption/state": 0, "Pwr Consumption/watts": 168,
        "PS1 Status/state": 0, "PS2 Status/state": 0,
    }  # fmt: skip


def test_a_hot_cpu_a_dead_fan_and_an_unplugged_supply_raise_the_alarm(tools: Any, values: Any) -> None:
    found = values(ipmi(tools, "failing").measure())
    assert (found["CPU Temp/state"], found["FAN1/state"], found["FAN1/rpm"]) == (1, 2, 0)
    assert (found["PS1 Status/state"], found["PS2 Status/state"]) == (2, 0)
    only = ipmi(tools, "failing", selection=Selection(["FAN*", "FAN9"])).measure()
    assert ({reading.entity for reading in only.readings}, only.missing) == ({"FAN1"}, ["FAN9"])


def test_without_a_controller_or_its_tool_there_is_no_data_and_nonsense_is_an_error(tools: Any) -> None:
    with pytest.raises(NoData, match="no management controller"):
        IpmiSensorsProbe(10, path=tools.path, devices=("/dev/no-such-device",)).measure()
    with pytest.raises(NoData, match="not installed"):
        IpmiSensorsProbe(10, path=tools.path, devices=HERE).measure()
    tools.add("ipmitool", ("sensor", "what is this\n"))
    with pytest.raises(ProbeError, match="columns"):
        IpmiSensorsProbe(10, path=tools.path, devices=HERE).measure()
    tools.add("ipmitool", ("sensor", "Could not open device\n", 1))
    with pytest.raises(ProbeError, match="Could not open device") as failed:
        IpmiSensorsProbe(10, path=tools.path, devices=HERE).measure()
    assert "ipmi_devintf" in failed.value.hint


def test_new_events_of_the_controller_are_told_with_their_words(tools: Any, fake_time: Any, values: Any) -> None:
    probe = IpmiEventsProbe(10, Recent(3600, fake_time.timing.monotonic), tools.path, HERE)
    tools.add("ipmitool", ("sel info", "ipmitool-sel-info-12"), ("sel elist", "ipmitool-sel-elist"))
    measured = probe.measure()
    assert (values(measured), measured.notes) == ({"new": 0, "entries": 12, "used": 0.03}, {})
    tools.add("ipmitool", ("sel info", "ipmitool-sel-info-14"), ("sel elist", "ipmitool-sel-elist"))
    measured = probe.measure()
    assert values(measured)["new"] == 2
    assert "Power Supply AC lost" in measured.notes[""]
    assert "boot completed" not in measured.notes[""]
    fake_time.now += 3601
    assert values(probe.measure())["new"] == 0
    tools.add("ipmitool", ("sel info", "Get SEL Info command failed\n"))
    with pytest.raises(ProbeError, match="number of entries"):
        probe.measure()


def test_a_counter_that_began_anew_counts_from_its_beginning(fake_time: Any) -> None:
    recent = Recent(100, fake_time.timing.monotonic)
    assert [recent.see(total) for total in (50, 52, 1)] == [0, 2, 3]
    fake_time.now += 100
    assert recent.see(1) == 0
