"""Disks, interfaces, temperatures and fans: an entity each."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from config.selection import Selection
from monitor.probes.disk_io import DiskIoProbe
from monitor.probes.network import NetworkProbe
from monitor.probes.sensors import FansProbe, TemperatureProbe
from monitor.result import NoData

DISKSTATS = """\
   7       0 loop0 5 0 10 0 0 0 0 0 0 0 0 0 0 0 0 0 0
   8       0 sda {reads} 0 {read_sectors} 100 {writes} 0 {write_sectors} 200 0 {busy} 300 0 0 0 0 0 0
   8       1 sda1 1 0 8 0 0 0 0 0 0 1 1 0 0 0 0 0 0
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0: {rx_bytes} {rx_packets} {rx_errors} {drops}    0     0          0         0   {tx_bytes} {tx_packets} 0    0    0     0       0          0
"""  # noqa: E501 - as the kernel writes it
LINKS = {
    "lo": SimpleNamespace(isup=True, flags="up,loopback,running"),
    "eth0": SimpleNamespace(isup=True, flags="up,broadcast,running,multicast"),
}


class Temperature(NamedTuple):
    """As psutil's shwtemp."""

    label: str
    current: float | None
    high: float | None
    critical: float | None


class Fan(NamedTuple):
    """As psutil's sfan."""

    label: str
    current: int


def write_diskstats(proc: Any, **numbers: int) -> None:
    numbers = {"reads": 0, "read_sectors": 0, "writes": 0, "write_sectors": 0, "busy": 0} | numbers
    proc.write("diskstats", DISKSTATS.format(**numbers))


def write_net(proc: Any, **numbers: int) -> None:
    names = ("rx_bytes", "rx_packets", "rx_errors", "drops", "tx_bytes", "tx_packets")
    proc.write("net/dev", NET_DEV.format(**dict.fromkeys(names, 0) | numbers))


@pytest.fixture
def sys_block(tmp_path: Path) -> Path:
    for name in ("sda/device", "loop0", "dm-0"):
        (tmp_path / "block" / name).mkdir(parents=True)
    return tmp_path / "block"


def test_disk_rates_since_the_last_run(psutil_proc: Any, fake_time: Any, sys_block: Path, values: Any) -> None:
    write_diskstats(psutil_proc)
    probe = DiskIoProbe(sys_block=sys_block, timing=fake_time.timing)
    probe.measure()
    fake_time.now += 10
    write_diskstats(psutil_proc, reads=50, read_sectors=2000, writes=20, write_sectors=4000, busy=9600)
    assert values(probe.measure()) == pytest.approx(
        {
            "sda/busy": 0.96,
            "sda/read_bytes_per_second": 102_400,
            "sda/write_bytes_per_second": 204_800,
            "sda/reads_per_second": 5,
            "sda/writes_per_second": 2,
            "sda/queue": 0.0,
        }
    )


def test_disk_counters_that_went_backwards_give_no_negative_rates(
    psutil_proc: Any, fake_time: Any, sys_block: Path, values: Any
) -> None:
    write_diskstats(psutil_proc, reads=1000, read_sectors=10**6, busy=10**6)
    probe = DiskIoProbe(sys_block=sys_block, timing=fake_time.timing)
    probe.measure()
    fake_time.now += 10
    write_diskstats(psutil_proc, reads=3, read_sectors=30)
    assert set(values(probe.measure()).values()) == {0.0}


def test_partitions_and_virtual_devices_are_left_out_unless_named(
    psutil_proc: Any, fake_time: Any, sys_block: Path
) -> None:
    write_diskstats(psutil_proc)
    every = DiskIoProbe(sys_block=sys_block, timing=fake_time.timing).measure()
    assert {reading.entity for reading in every.readings} == {"sda"}
    named = DiskIoProbe(Selection(["loop0", "sdb"]), sys_block=sys_block, timing=fake_time.timing).measure()
    assert {reading.entity for reading in named.readings} == {"loop0"}
    assert named.missing == ["sdb"]


def test_a_machine_without_disks_has_no_data(psutil_proc: Any, fake_time: Any, tmp_path: Path) -> None:
    write_diskstats(psutil_proc)
    with pytest.raises(NoData):
        DiskIoProbe(sys_block=tmp_path / "none", timing=fake_time.timing).measure()


def test_network_rates_and_the_share_of_errors(psutil_proc: Any, fake_time: Any, values: Any) -> None:
    write_net(psutil_proc)
    probe = NetworkProbe(links=lambda: LINKS, timing=fake_time.timing)
    probe.measure()
    fake_time.now += 10
    write_net(psutil_proc, rx_bytes=5000, rx_packets=80, rx_errors=25, drops=5, tx_bytes=1000, tx_packets=20)
    measured = probe.measure()
    assert values(measured) == pytest.approx(
        {
            "eth0/errors": 0.2,
            "eth0/receive_bytes_per_second": 500,
            "eth0/transmit_bytes_per_second": 100,
            "eth0/drops_per_second": 0.5,
            "eth0/up": 1,
        }
    )


def test_a_reloaded_driver_gives_no_negative_rates(psutil_proc: Any, fake_time: Any, values: Any) -> None:
    write_net(psutil_proc, rx_bytes=10**9, rx_packets=10**6)
    probe = NetworkProbe(links=lambda: LINKS, timing=fake_time.timing)
    probe.measure()
    fake_time.now += 10
    write_net(psutil_proc, rx_bytes=500, rx_packets=5)
    assert min(values(probe.measure()).values()) >= 0


def test_a_quiet_interface_has_no_errors_and_one_that_only_errs_has_nothing_else(
    psutil_proc: Any, fake_time: Any, values: Any
) -> None:
    write_net(psutil_proc)
    probe = NetworkProbe(Selection(["eth0"]), links=lambda: LINKS, timing=fake_time.timing)
    assert values(probe.measure())["eth0/errors"] == 0
    fake_time.now += 10
    write_net(psutil_proc, rx_errors=7)
    assert values(probe.measure())["eth0/errors"] == 1


def test_a_named_interface_that_is_not_there_is_missing_and_one_that_is_down_is_not_up(
    psutil_proc: Any, fake_time: Any, values: Any
) -> None:
    write_net(psutil_proc)
    links = LINKS | {"eth0": SimpleNamespace(isup=False, flags="broadcast,multicast")}
    measured = NetworkProbe(Selection(["eth0", "eth1"]), links=lambda: links, timing=fake_time.timing).measure()
    assert measured.missing == ["eth1"]
    assert values(measured)["eth0/up"] == 0


def test_a_machine_with_loopback_only_has_no_data(fake_time: Any, psutil_proc: Any) -> None:
    psutil_proc.write("net/dev", "".join(NET_DEV.splitlines(keepends=True)[:3]))
    with pytest.raises(NoData):
        NetworkProbe(links=lambda: LINKS, timing=fake_time.timing).measure()


def test_temperatures_are_named_by_chip_and_label_and_held_against_the_chips_limit(values: Any) -> None:
    chips = {
        "coretemp": [Temperature("Package id 0", 91.0, 80.0, 100.0), Temperature("Core 0", 90.0, 80.0, None)],
        "nvme": [Temperature("", 48.0, None, 84.0), Temperature("", 50.0, None, None)],
        "acpitz": [Temperature("", None, None, None)],
    }
    assert values(TemperatureProbe(lambda: chips).measure()) == pytest.approx(
        {
            "coretemp Package id 0/celsius": 91.0,
            "coretemp Package id 0/share_of_critical": 0.91,
            "coretemp Core 0/celsius": 90.0,
            "nvme 1/celsius": 48.0,
            "nvme 1/share_of_critical": 48 / 84,
            "nvme 2/celsius": 50.0,
        }
    )


def test_fans_are_named_and_one_that_stands_still_reads_zero(values: Any) -> None:
    chips = {"nct6775": [Fan("cpu_fan", 1200), Fan("", 0)]}
    assert values(FansProbe(lambda: chips).measure()) == {"nct6775 cpu_fan/rpm": 1200, "nct6775/rpm": 0}


@pytest.mark.parametrize("probe", [TemperatureProbe, FansProbe])
def test_a_machine_without_sensors_has_no_data(probe: Any) -> None:
    with pytest.raises(NoData):
        probe(dict).measure()


@pytest.mark.parametrize("probe", [DiskIoProbe, NetworkProbe, TemperatureProbe, FansProbe])
def test_this_machine_gives_sane_numbers_or_says_that_it_has_none(probe: Any) -> None:
    try:
        readings = probe().measure().readings
    except NoData:
        return
    assert all(reading.entity and reading.value >= 0 for reading in readings)
