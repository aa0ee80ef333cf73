"""Host metrics: captured machines, well and ill, read as node_exporter reads them; and the whole page of this one."""

import os
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.collecting import NothingToCollect
from monitor.node import devices, kernel
from monitor.node.mounts import Mounts, mounts
from monitor.node.page import NodePage
from monitor.node.reading import Machine
from monitor.node.textfile import TextFiles
from monitor.node.timex import timex
from monitor.node.units import Units, units
from monitor.probes.file_systems import FileSystems, FileSystemUsage, NoAnswer
from monitor.result import ProbeError

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys").mkdir()
    return Machine(str(tmp_path / "proc"), str(tmp_path / "sys"))


def put(folder: str, path: str, text: str) -> None:
    file = Path(folder, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def samples(families: Iterator[str]) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families("".join(families))
        for sample in family.samples
    }


def of(found: Samples, name: str, /, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_processors_in_seconds_by_mode_and_guests_apart(machine: Machine) -> None:
    put(machine.proc, "stat", "cpu  300 0 0 0 0 0 0 0 0 0\ncpu0 100 1 2 300 4 5 6 7 8 9\ncpu1 200 0 0 0\nintr 5\n")
    found = samples(kernel.Processors().collect(machine))
    assert of(found, "node_cpu_seconds_total", cpu="0", mode="user") == 100 / kernel.TICKS_PER_SECOND
    assert of(found, "node_cpu_seconds_total", cpu="0", mode="steal") == 7 / kernel.TICKS_PER_SECOND
    assert of(found, "node_cpu_guest_seconds_total", cpu="0", mode="nice") == 9 / kernel.TICKS_PER_SECOND
    assert of(found, "node_cpu_seconds_total", cpu="1", mode="idle") == 0
    assert of(found, "node_cpu_seconds_total", cpu="1", mode="iowait") is None, "an old kernel has fewer columns"
    assert {dict(labels)["cpu"] for _, labels in found} == {"0", "1"}, "the sum of all is no processor"


def test_a_processor_s_seconds_never_go_back_unless_it_was_put_back(machine: Machine) -> None:
    processors, idle, iowait = kernel.Processors(), [], []
    for ticks in ("9000 50", "9001 48", "9000 51", "4 0"):
        put(machine.proc, "stat", f"cpu  0 0 0 0 0\ncpu0 0 0 0 {ticks}\nintr 5\n")
        found = samples(processors.collect(machine))
        for seen, mode in ((idle, "idle"), (iowait, "iowait")):
            seen.append(round(of(found, "node_cpu_seconds_total", cpu="0", mode=mode) * kernel.TICKS_PER_SECOND))
    assert (idle, iowait) == ([9000, 9001, 9001, 4], [50, 50, 51, 0])


def test_what_goes_while_it_is_looked_at_costs_nothing_else(machine: Machine) -> None:
    put(machine.sys, "class/net/bonding_masters", "gone bond0\n")
    put(machine.sys, "class/net/bond0/bonding/slaves", "eth0\n")
    put(machine.sys, "devices/system/edac/mc/mc0/ce_count", "3\n")
    (Path(machine.sys) / "devices/system/edac/mc/mc1").mkdir()
    assert of(samples(devices.bonding(machine)), "node_bonding_slaves", master="bond0") == 1
    assert of(samples(devices.edac(machine)), "node_edac_correctable_errors_total", controller="0") == 3


def test_counts_of_the_kernel(machine: Machine) -> None:
    put(machine.proc, "stat", "cpu  1 2\nintr 1234 5 6\nctxt 77\nbtime 1700000000\nprocesses 9\nprocs_running 3\n")
    found = samples(kernel.stat(machine))
    assert of(found, "node_intr_total") == 1234
    assert of(found, "node_boot_time_seconds") == 1_700_000_000
    assert of(found, "node_procs_running") == 3
    assert of(found, "node_procs_blocked") is None


def test_memory_is_in_bytes_where_it_has_a_unit(machine: Machine) -> None:
    put(machine.proc, "meminfo", "MemTotal:  2 kB\nActive(anon):  3 kB\nHugePages_Total:   4\n")
    found = samples(kernel.meminfo(machine))
    assert of(found, "node_memory_MemTotal_bytes") == 2048
    assert of(found, "node_memory_Active_anon_bytes") == 3072
    assert of(found, "node_memory_HugePages_Total") == 4


def test_vmstat_tells_faults_and_kills_and_leaves_the_rest(machine: Machine) -> None:
    put(machine.proc, "vmstat", "nr_free_pages 9\npgpgin 1\npgmajfault 2\noom_kill 3\npswpin 4\npgscan_file 5\n")
    found = samples(kernel.vmstat(machine))
    assert {name: value for (name, _), value in found.items()} == {
        "node_vmstat_pgpgin": 1, "node_vmstat_pgmajfault": 2, "node_vmstat_oom_kill": 3, "node_vmstat_pswpin": 4,
    }  # fmt: skip


def test_pressure_is_in_seconds(machine: Machine) -> None:
    for resource in ("cpu", "io", "memory"):
        text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 total=1000000\n"
        put(machine.proc, f"pressure/{resource}", text)
    found = samples(kernel.pressure(machine))
    assert of(found, "node_pressure_cpu_waiting_seconds_total") == 2.5
    assert of(found, "node_pressure_io_stalled_seconds_total") == 1
    assert len(found) == 5


@pytest.mark.parametrize("collect", [kernel.pressure, kernel.conntrack, devices.bonding, devices.mdadm, devices.hwmon])
def test_a_machine_without_such_a_thing_has_nothing_to_collect(
    machine: Machine, collect: Callable[[Machine], Iterator[str]]
) -> None:
    with pytest.raises(NothingToCollect):
        list(collect(machine))


def test_tracked_connections_open_files_and_load(machine: Machine) -> None:
    put(machine.proc, "sys/net/netfilter/nf_conntrack_count", "17\n")
    put(machine.proc, "sys/net/netfilter/nf_conntrack_max", "65536\n")
    put(machine.proc, "sys/fs/file-nr", "1184\t0\t9223372036854775807\n")
    put(machine.proc, "loadavg", "0.20 0.18 0.12 1/80 11206\n")
    assert of(samples(kernel.conntrack(machine)), "node_nf_conntrack_entries") == 17
    assert of(samples(kernel.filefd(machine)), "node_filefd_maximum") == 2**63 - 1
    assert of(samples(kernel.loadavg(machine)), "node_load15") == 0.12


def test_whole_disks_in_bytes_and_seconds(machine: Machine) -> None:
    put(
        machine.proc, "diskstats",
        "   8       0 sda 10 1 20 300 4 5 60 700 8 900 1000 11 12 13 14 15 16\n"
        "   8       1 sda1 1 1 1 1 1 1 1 1 1 1 1\n   7       0 loop0 1 1 1 1 1 1 1 1 1 1 1\n"
        " 259       0 nvme0n1 1 0 2 0 0 0 0 0 0 0 0\n 259       1 nvme0n1p1 1 0 2 0 0 0 0 0 0 0 0\n"
        " 253       0 dm-0 1 0 2 0 0 0 0 0 0 0 0\n",
    )  # fmt: skip
    found = samples(devices.diskstats(machine))
    assert {dict(labels)["device"] for _, labels in found} == {"sda", "nvme0n1", "dm-0"}
    assert of(found, "node_disk_read_bytes_total", device="sda") == 20 * 512
    assert of(found, "node_disk_io_time_seconds_total", device="sda") == 0.9
    assert of(found, "node_disk_io_time_weighted_seconds_total", device="sda") == 1
    assert of(found, "node_disk_flush_requests_time_seconds_total", device="sda") == 0.016
    assert of(found, "node_disk_discards_completed_total", device="nvme0n1") is None


def test_interfaces(machine: Machine) -> None:
    head = "Inter-|   Receive\n face |bytes packets errs drop fifo frame compressed multicast|bytes ...\n"
    put(
        machine.proc,
        "net/dev",
        f"{head}  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n wg0:1{' 0' * 15}\n",
    )
    found = samples(devices.netdev(machine))
    assert of(found, "node_network_receive_drop_total", device="eth0") == 4
    assert of(found, "node_network_transmit_bytes_total", device="eth0") == 9
    assert of(found, "node_network_receive_bytes_total", device="wg0") == 1
    for device, state, speed in (("eth0", "up", "1000"), ("eth1", "down", "-1"), ("lo", "unknown", "")):
        put(machine.sys, f"class/net/{device}/operstate", state)
        put(machine.sys, f"class/net/{device}/speed", speed)
        put(machine.sys, f"class/net/{device}/mtu", "1500\n")
    put(machine.sys, "class/net/bonding_masters", "bond0")
    found = samples(devices.netclass(machine))
    assert of(found, "node_network_up", device="eth0") == 1
    assert of(found, "node_network_up", device="lo") == 0
    assert of(found, "node_network_speed_bytes", device="eth0") == 125_000_000
    assert of(found, "node_network_speed_bytes", device="eth1") == -125_000
    assert of(found, "node_network_mtu_bytes", device="lo") == 1500
    assert of(found, "node_network_up", device="bonding_masters") is None


def test_a_bond_that_lost_a_link(machine: Machine) -> None:
    put(machine.sys, "class/net/bonding_masters", "bond0 bond1\n")
    put(machine.sys, "class/net/bond0/bonding/slaves", "eth0 eth1\n")
    put(machine.sys, "class/net/bond1/bonding/slaves", "\n")
    put(machine.sys, "class/net/bond0/lower_eth0/bonding_slave/mii_status", "up\n")
    put(machine.sys, "class/net/bond0/lower_eth1/bonding_slave/mii_status", "down\n")
    found = samples(devices.bonding(machine))
    assert of(found, "node_bonding_slaves", master="bond0") == 2
    assert of(found, "node_bonding_active", master="bond0") == 1
    assert of(found, "node_bonding_slaves", master="bond1") == 0


def test_a_degraded_array_and_a_striped_one(machine: Machine) -> None:
    put(
        machine.proc, "mdstat",
        "Personalities : [raid1] [raid0]\n"
        "md0 : active raid1 sdc1[2](S) sdb1[1](F) sda1[0]\n      1048512 blocks super 1.2 [2/1] [U_]\n"
        "      [=>...]  recovery = 12.6% (1/2) finish=1min\n\n"
        "md1 : active raid0 sde[1] sdd[0]\n      2095104 blocks super 1.2 512k chunks\n\nunused devices: <none>\n",
    )  # fmt: skip
    found = samples(devices.mdadm(machine))
    for state, count in (("active", 1), ("failed", 1), ("spare", 1)):
        assert of(found, "node_md_disks", device="md0", state=state) == count
    assert of(found, "node_md_disks_required", device="md0") == 2
    assert of(found, "node_md_disks", device="md1", state="active") == 2
    assert of(found, "node_md_disks_required", device="md1") == 2


def test_temperatures_by_the_place_of_their_chip(machine: Machine) -> None:
    device = Path(machine.sys, "devices/platform/coretemp.0")
    put(str(device), "hwmon/hwmon0/name", "coretemp\n")
    put(str(device), "hwmon/hwmon0/temp1_input", "45000\n")
    put(str(device), "hwmon/hwmon0/temp1_label", "Package id 0\n")
    put(str(device), "hwmon/hwmon0/temp2_input", "\n")
    (device / "hwmon/hwmon0/device").symlink_to(device)
    put(machine.sys, "class/hwmon/hwmon1/name", "acpitz\n")
    put(machine.sys, "class/hwmon/hwmon1/temp1_input", "-2000\n")
    Path(machine.sys, "class/hwmon/hwmon0").symlink_to(device / "hwmon/hwmon0")
    found = samples(devices.hwmon(machine))
    chip = "platform_coretemp_0"
    assert of(found, "node_hwmon_temp_celsius", chip=chip, sensor="temp1") == 45
    assert of(found, "node_hwmon_temp_celsius", chip=chip, sensor="temp2") is None, "a sensor that says nothing"
    assert of(found, "node_hwmon_sensor_label", chip=chip, sensor="temp1", label="Package id 0") == 1
    assert of(found, "node_hwmon_chip_names", chip=chip, chip_name="coretemp") == 1
    assert of(found, "node_hwmon_temp_celsius", chip="acpitz", sensor="temp1") == -2


def test_memory_errors_by_controller(machine: Machine) -> None:
    put(machine.sys, "devices/system/edac/mc/mc0/ce_count", "3\n")
    put(machine.sys, "devices/system/edac/mc/mc0/ue_count", "1\n")
    found = samples(devices.edac(machine))
    assert of(found, "node_edac_correctable_errors_total", controller="0") == 3
    assert of(found, "node_edac_uncorrectable_errors_total", controller="0") == 1


def test_the_kernel_s_clock_is_read_and_not_touched() -> None:
    found = samples(timex(Machine()))
    assert of(found, "node_timex_sync_status") in (0, 1)
    assert of(found, "node_timex_tick_seconds") == 0.01
    assert abs((of(found, "node_timex_frequency_adjustment_ratio") or 0) - 1) < 0.001


MOUNTS = r"""proc /proc proc rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
/dev/sr0 /media/my\040disc udf ro,noatime 0 0
tmpfs /run tmpfs rw 0 0
overlay /var/lib/docker/overlay2/x overlay rw 0 0
nas:/x /mnt/nas nfs4 rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
"""


class Asked:
    """File systems of which one hangs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.paths: list[str] = []

    def usages(self, paths: Sequence[str], timeout_seconds: float) -> dict[str, FileSystemUsage | ProbeError]:
        self.paths += paths
        self.now += timeout_seconds * ("/mnt/nas" in paths)
        special = {"/mnt/nas": NoAnswer("no answer"), "/run": ProbeError("permission denied")}
        return {path: special.get(path, FileSystemUsage(100, 60, 50, 10, 7)) for path in paths}


def test_file_systems_and_one_that_hangs(machine: Machine) -> None:
    put(machine.proc, "1/mounts", MOUNTS)
    asked = Asked()
    collector = Mounts(asked, lambda: asked.now)  # type: ignore[arg-type]
    found = samples(collector.collect(machine))
    root = {"device": "/dev/sda1", "mountpoint": "/", "fstype": "ext4"}
    for name, value in (("size_bytes", 100), ("free_bytes", 60), ("avail_bytes", 50)):
        assert of(found, f"node_filesystem_{name}", **root) == value
    assert of(found, "node_filesystem_files_free", **root) == 7
    assert of(found, "node_filesystem_device_error", **root) == 0
    disc = {"device": "/dev/sr0", "mountpoint": "/media/my disc", "fstype": "udf"}
    assert of(found, "node_filesystem_readonly", **disc) == 1
    dead = {"device": "nas:/x", "mountpoint": "/mnt/nas", "fstype": "nfs4", "device_error": "mountpoint timeout"}
    assert of(found, "node_filesystem_device_error", **dead) == 1
    assert of(found, "node_filesystem_size_bytes", **dead) is None
    refused = {"device": "tmpfs", "mountpoint": "/run", "fstype": "tmpfs", "device_error": "unreachable"}
    assert of(found, "node_filesystem_device_error", **refused) == 1
    assert {path for _, path, *_ in mounts(machine)} == {"/", "/media/my disc", "/run", "/mnt/nas"}


def test_a_mount_that_hangs_costs_one_scrape_a_minute(machine: Machine) -> None:
    put(machine.proc, "1/mounts", MOUNTS)
    asked = Asked()
    collector = Mounts(asked, lambda: asked.now)  # type: ignore[arg-type]
    for _ in range(5):
        list(collector.collect(machine))
    assert asked.paths.count("/mnt/nas") == 2, "a busy machine is no dead mount: it is asked twice"
    asked.now += 61
    for _ in range(3):
        list(collector.collect(machine))
    assert asked.paths.count("/mnt/nas") == 3


SHOWN = """Type=notify
NRestarts=4
Id=ssh.service
LoadState=loaded
ActiveState=active

Id=backup.timer
LoadState=loaded
ActiveState=failed

Type=simple
NRestarts=0
Id=gone.service
LoadState=not-found
ActiveState=inactive
"""


def test_units_have_one_of_five_states(tmp_path: Path) -> None:
    found = samples(iter([units(SHOWN)]))
    assert of(found, "node_systemd_unit_state", name="ssh.service", state="active", type="notify") == 1
    assert of(found, "node_systemd_unit_state", name="ssh.service", state="failed", type="notify") == 0
    assert of(found, "node_systemd_unit_state", name="backup.timer", state="failed", type="") == 1
    assert of(found, "node_systemd_service_restart_total", name="ssh.service") == 4
    assert len([1 for name, _ in found if name == "node_systemd_unit_state"]) == 10


def systemctl(folder: Path, script: str) -> list[str]:
    path = folder / "systemctl"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def test_units_are_asked_for_once_in_half_a_minute_and_not_waited_for_again(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "answer").write_text(SHOWN, encoding="utf-8")
    command = systemctl(tmp_path, f"echo asked >>{tmp_path}/asked; cat {tmp_path}/answer")
    collector = Units(command, booted=lambda: True, monotonic=lambda: now[0])
    for _ in range(3):
        assert "ssh.service" in "".join(collector.collect(Machine()))
    assert (tmp_path / "asked").read_text() == "asked\n"
    (tmp_path / "answer").write_text(SHOWN.replace("ssh", "sshd"), encoding="utf-8")
    now[0] = 31.0
    assert "ssh.service" in "".join(collector.collect(Machine())), "the old answer at once, the new one next time"
    deadline = time.monotonic() + 10
    while "sshd.service" not in "".join(collector.collect(Machine())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_systemctl_that_fails_is_a_failed_collector(tmp_path: Path) -> None:
    collector = Units(systemctl(tmp_path, "exit 1"), booted=lambda: True)
    depths = []
    for _ in range(3):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            list(collector.collect(Machine()))
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1, "what is kept of a failure does not grow with each scrape"


def test_files_of_the_operator_are_passed_on_and_bad_ones_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(str(tmp_path), "good.prom", '# HELP a_total A.\n# TYPE a_total counter\na_total{x="1 \\" 2"} 3e+07')
    put(str(tmp_path), "stamped.prom", "b 1 1700000000000\n")
    put(str(tmp_path), "twice.prom", "a_total 4\n")
    put(str(tmp_path), "words.prom", "disk is full\n")
    put(str(tmp_path), "notes.txt", "not asked\n")
    collector = TextFiles(tmp_path)
    text = "".join(collector.collect(Machine()))
    found = samples(iter([text]))
    assert of(found, "a_total", x='1 " 2') == 3e7
    assert of(found, "node_textfile_scrape_error") == 1
    assert [dict(labels)["file"] for name, labels in found if name == "node_textfile_mtime_seconds"] == [
        f"{tmp_path}/good.prom"
    ]
    list(collector.collect(Machine()))
    assert caplog.text.count("metrics file left out") == 3, "each is told once"
    for bad in ("stamped", "twice", "words"):
        (tmp_path / f"{bad}.prom").unlink()
    assert "node_textfile_scrape_error 0" in "".join(collector.collect(Machine()))


def test_without_a_folder_there_is_no_error() -> None:
    assert "".join(TextFiles(None).collect(Machine())).endswith("node_textfile_scrape_error 0\n")


@pytest.fixture
def page() -> Iterator[NodePage]:
    file_systems = FileSystems()
    yield NodePage(file_systems, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    file_systems.close()


def test_this_machine_has_a_page_whose_every_part_succeeds_or_has_nothing(page: NodePage) -> None:
    text = page.render().decode()
    found = samples(iter([text]))
    success = {
        dict(labels)["collector"]: v for (name, labels), v in found.items() if name.endswith("collector_success")
    }
    optional = {"bonding", "conntrack", "hwmon", "mdadm", "pressure", "systemd"}
    assert {name for name, value in success.items() if not value} <= optional
    assert of(found, "node_time_seconds") == 1_767_225_600
    assert of(found, "node_memory_MemTotal_bytes") == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    uname = next(dict(labels) for name, labels in found if name == "node_uname_info")
    assert uname["release"] == os.uname().release
    assert re.search(r"^node_scrape_collector_duration_seconds\{collector=\"cpu\"\} ", text, re.MULTILINE)


def test_one_broken_file_costs_its_own_collector_only(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    put(machine.proc, "loadavg", "nonsense\n")
    put(machine.proc, "meminfo", "MemTotal: 1 kB\n")
    file_systems = FileSystems()
    broken = NodePage(file_systems, lambda: datetime(2026, 1, 1, tzinfo=UTC), machine=machine)
    found = samples(iter([broken.render().decode()]))
    file_systems.close()
    assert of(found, "node_scrape_collector_success", collector="loadavg") == 0
    assert of(found, "node_scrape_collector_success", collector="meminfo") == 1
    assert of(found, "node_memory_MemTotal_bytes") == 1024
    assert "nonsense" in caplog.text
