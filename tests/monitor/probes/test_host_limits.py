"""Cores, pressure, OOM kills, connections, clock, mounts, users, stuck processes and limits: well and ill."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.selection import Selection
from monitor.node.timex import KernelClock
from monitor.probes.cgroups import CgroupsProbe
from monitor.probes.cpu import CpuProbe, core_times
from monitor.probes.disk_io import DiskIoProbe
from monitor.probes.file_systems import FileSystemUsage
from monitor.probes.kernel import ConntrackProbe, EntropyProbe, OomKillsProbe
from monitor.probes.mounted import FileSystemsProbe
from monitor.probes.pressure import PressureProbe
from monitor.probes.process_limits import ProcessLimitsProbe
from monitor.probes.recent import Recent
from monitor.probes.stuck import StuckProcessesProbe
from monitor.probes.timekeeping import ClockProbe
from monitor.probes.users import UsersProbe
from monitor.result import NoData, ProbeError


def write_stat(proc: Any, *rows: str) -> None:
    lines = "".join(f"cpu{number} {row}\n" for number, row in enumerate(rows))
    proc.write("stat", f"cpu  0 0 0 0 0 0 0 0 0 0\n{lines}ctxt 1\nbtime 1700000000\n")


def test_each_core_is_told_and_one_that_is_full_or_stolen_shows(psutil_proc: Any, fake_time: Any, values: Any) -> None:
    write_stat(psutil_proc, "100 0 0 900 0 0 0 0 0 0", "100 0 0 900 0 0 0 0 0 0")
    probe = CpuProbe(core_times, fake_time.timing)
    fake_time.while_pausing = lambda: write_stat(psutil_proc, "101 0 0 919 0 0 0 0 0 0", "101 0 0 919 0 0 0 0 0 0")
    probe.measure()
    fake_time.now += 10
    write_stat(psutil_proc, "1101 0 0 919 0 0 0 0 0 0", "101 0 0 1419 0 0 0 500 0 0")
    found = values(probe.measure())
    assert (found["cpu0/used"], found["cpu1/used"], found["cpu1/steal"]) == (1.0, pytest.approx(0.5), 0.5)


def test_disks_under_device_mapper_are_watched_when_they_are_included(fake_time: Any, tmp_path: Path) -> None:
    zeros = dict.fromkeys(("busy_time", "read_bytes", "write_bytes", "read_count", "write_count", "read_time",
                           "write_time"), 0)  # fmt: skip
    looks = [zeros, zeros | {"busy_time": 9_000, "read_time": 20_000, "write_time": 100_000}]
    disks = [{"dm-0": SimpleNamespace(**look), "md0": SimpleNamespace(**look)} for look in looks]
    fake_time.while_pausing = lambda: setattr(fake_time, "now", fake_time.now + 9.8)
    probe = DiskIoProbe(Selection(["dm-*"]), lambda: disks.pop(0), tmp_path, fake_time.timing)
    found = {(one.entity, one.name): one.value for one in probe.measure().readings}
    assert (found["dm-0", "busy"], found["dm-0", "queue"]) == (pytest.approx(0.9), pytest.approx(12))
    assert {entity for entity, _ in found} == {"dm-0"}


PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"


def write_pressure(proc: Any, memory_some: int, memory_full: int, io_full: int = 0) -> None:
    proc.write("pressure/memory", PRESSURE.format(memory_some, memory_full))
    proc.write("pressure/io", PRESSURE.format(io_full, io_full))
    proc.write("pressure/cpu", PRESSURE.splitlines()[0].format(5_000_000) + "\n")


def test_pressure_is_the_share_of_time_that_was_lost(proc: Any, fake_time: Any, values: Any) -> None:
    write_pressure(proc, 10**9, 10**8)
    probe = PressureProbe(proc.path, fake_time.timing)
    calm = values(probe.measure())
    assert set(calm.values()) == {0}
    fake_time.now += 10
    write_pressure(proc, 10**9 + 8_000_000, 10**8 + 5_000_000, 9_000_000)
    assert values(probe.measure()) == pytest.approx(
        {"memory_full": 0.5, "memory_some": 0.8, "io_full": 0.9, "io_some": 0.9, "cpu_some": 0}
    )


def test_a_kernel_without_pressure_has_no_data_and_nonsense_is_an_error(proc: Any, fake_time: Any) -> None:
    with pytest.raises(NoData):
        PressureProbe(proc.path, fake_time.timing).measure()
    for name in ("memory", "io", "cpu"):
        proc.write(f"pressure/{name}", "what\n")
    with pytest.raises(ProbeError, match="memory_full"):
        PressureProbe(proc.path, fake_time.timing).measure()


def test_an_oom_kill_is_told_for_as_long_as_it_is_recent(proc: Any, fake_time: Any, values: Any) -> None:
    proc.write("vmstat", "nr_free_pages 1\noom_kill 3\n")
    probe = OomKillsProbe(Recent(3600, fake_time.timing.monotonic), proc.path)
    assert values(probe.measure()) == {"killed": 0}
    proc.write("vmstat", "nr_free_pages 1\noom_kill 5\n")
    assert values(probe.measure()) == {"killed": 2}
    fake_time.now += 3599
    assert values(probe.measure()) == {"killed": 2}
    fake_time.now += 1
    assert values(probe.measure()) == {"killed": 0}
    proc.write("vmstat", "nr_free_pages 1\n")
    with pytest.raises(NoData):
        probe.measure()


def test_tracked_connections_against_their_limit(proc: Any, values: Any) -> None:
    with pytest.raises(NoData):
        ConntrackProbe(proc.path).measure()
    proc.write("sys/net/netfilter/nf_conntrack_count", "61000\n")
    proc.write("sys/net/netfilter/nf_conntrack_max", "65536\n")
    assert values(ConntrackProbe(proc.path).measure()) == {"used": 61000 / 65536, "count": 61000, "limit": 65536}


def test_randomness_is_read_in_bits(proc: Any, values: Any) -> None:
    proc.write("sys/kernel/random/entropy_avail", "57\n")
    assert values(EntropyProbe(proc.path).measure()) == {"available": 57}


KERNEL = KernelClock(synchronized=True, offset_seconds=-0.002, max_error_seconds=0.1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("chronyc-healthy", {"offset": 0.000012345, "synchronized": 1, "max_error": 0.001412345}),
        ("chronyc-off", {"offset": 0.25, "synchronized": 1, "max_error": 0.2514}),
        ("chronyc-alone", {"offset": 0, "synchronized": 0, "max_error": 1.5}),
        ("506 Cannot talk to daemon\n", {"offset": 0.002, "synchronized": 1, "max_error": 0.1}),
        ("1,2,3\n", {"offset": 0.002, "synchronized": 1, "max_error": 0.1}),
    ],
)
def test_the_clock_as_chrony_tells_it_or_else_the_kernel(tools: Any, values: Any, answer: str, expected: Any) -> None:
    tools.add("chronyc", ("tracking", answer))
    assert values(ClockProbe(5, lambda: KERNEL, tools.path).measure()) == pytest.approx(expected)


def test_the_clock_without_chrony_and_a_kernel_that_refuses(tools: Any, values: Any) -> None:
    lost = KernelClock(synchronized=False, offset_seconds=0.0, max_error_seconds=16.0)
    assert values(ClockProbe(5, lambda: lost, tools.path).measure())["synchronized"] == 0

    def refuse() -> KernelClock:
        raise OSError(38, "Function not implemented")

    with pytest.raises(ProbeError, match="Function not implemented"):
        ClockProbe(5, refuse, tools.path).measure()


class Sizes:
    """File systems by path; a number of bytes used of 1000, or a mount that hangs."""

    def __init__(self, **used: int) -> None:
        self.used = used

    def usage(self, path: str, _timeout_seconds: float) -> FileSystemUsage:
        if path == "/srv/dead":
            raise ProbeError("looking at the file system of /srv/dead: no answer within 1 s")
        free = 1000 - self.used.get(path.strip("/") or "root", 500)
        return FileSystemUsage(1000, free, free, 100, 40)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw - proc proc rw
24 22 0:25 / /run rw - tmpfs tmpfs rw
25 22 8:2 / /srv/with\\040space rw,relatime - xfs /dev/sda2 {options}
26 22 8:2 /sub /var/bind rw,relatime - xfs /dev/sda2 {options}
27 22 0:40 / /srv/dead rw - nfs4 server:/export rw
28 22 7:1 / /snap/core ro - squashfs /dev/loop1 ro
29 22 8:9 / /media/archive ro,relatime - ext4 /dev/sdb1 ro
"""


def file_systems(proc: Any, options: str = "rw", fstab: str = "", **about: Any) -> FileSystemsProbe:
    proc.write("self/mountinfo", MOUNTS.format(options=options))
    proc.write("fstab", fstab)
    exclude = about.pop("exclude_types", ("tmpfs", "squashfs"))
    return FileSystemsProbe(
        Sizes(root=960), 3, about.pop("selection", Selection()), exclude,  # type: ignore[arg-type]
        proc=proc.path, fstab=proc.path / "fstab",
    )  # fmt: skip


def test_every_file_system_with_data_is_found_once_and_a_dead_one_hides_no_other(proc: Any, values: Any) -> None:
    measured = file_systems(proc).measure()
    found = values(measured)
    assert {one.entity for one in measured.readings} == {"/", "/srv/with space", "/srv/dead", "/media/archive"}
    assert (found["//used"], found["//inodes_used"], found["/srv/with space/used"]) == (0.96, 0.6, 0.5)
    assert math.isnan(found["/srv/dead/used"])
    assert "no answer" in measured.notes["/srv/dead"]
    assert {name: value for name, value in found.items() if name.endswith("read_only")} == {
        "//read_only": 0, "/srv/with space/read_only": 0, "/srv/dead/read_only": 0, "/media/archive/read_only": 0,
    }  # fmt: skip


def test_a_file_system_that_became_read_only_raises_the_alarm_and_one_meant_so_does_not(proc: Any, values: Any) -> None:
    probe = file_systems(proc)
    probe.measure()
    proc.write("self/mountinfo", MOUNTS.format(options="ro"))
    found = values(probe.measure())
    assert (found["/srv/with space/read_only"], found["/media/archive/read_only"]) == (1, 0)
    fstab = "# a comment\n/dev/sda2 /srv/with\\040space xfs defaults 0 2\n/dev/sdb1 /media/archive ext4 ro 0 2\n"
    found = values(file_systems(proc, "ro", fstab).measure())
    assert (found["/srv/with space/read_only"], found["/media/archive/read_only"]) == (1, 0)


def test_file_systems_are_selected_by_place_and_a_named_one_that_is_not_mounted_is_missing(proc: Any) -> None:
    probe = file_systems(proc, selection=Selection(["/", "/srv/*", "/backup", "/run"], ["/srv/dead"]))
    measured = probe.measure()
    assert {one.entity for one in measured.readings} == {"/", "/srv/with space", "/run"}
    assert measured.missing == ["/backup"]
    with pytest.raises(NoData):
        file_systems(proc, selection=Selection(exclude=["*"])).measure()


def test_sessions_are_counted_by_user_and_place(values: Any) -> None:
    def session(name: str, host: str | None) -> SimpleNamespace:
        return SimpleNamespace(name=name, host=host)

    sessions = [
        session("ann", ":0"),
        session("ann", "192.0.2.7"),
        session("root", "198.51.100.9"),
        session("bob", None),
    ]
    measured = UsersProbe(lambda: sessions).measure()
    assert values(measured) == {"count": 4, "users": 3, "remote": 2, "root": 1}
    assert measured.notes == {"": "ann, ann from 192.0.2.7, bob, root from 198.51.100.9"}
    assert values(UsersProbe(list).measure())["count"] == 0


def test_processes_stuck_for_long_are_counted_and_named_and_short_waits_are_not(
    proc: Any, fake_time: Any, values: Any
) -> None:
    proc.process(10, "tar", state="D", started_ticks=100)
    proc.process(11, "sh", state="Z", started_ticks=100)
    proc.process(12, "nginx", state="S")
    proc.process(13, "vchiq-slot/0", state="D")
    stat = proc.path / "13/stat"
    stat.write_text(stat.read_text().replace(" 4194560 ", " 2129984 "))
    proc.write("10/wchan", "nfs_wait_bit_killable")
    probe = StuckProcessesProbe(300, proc.path, fake_time.timing)
    assert values(probe.measure()) == {"uninterruptible": 0, "zombies": 0, "longest": 0}
    fake_time.now += 299
    proc.process(12, "nginx", state="D")
    assert values(probe.measure())["uninterruptible"] == 0
    fake_time.now += 2
    measured = probe.measure()
    assert values(measured) == {"uninterruptible": 1, "zombies": 1, "longest": 301}
    assert "tar (10, in nfs_wait_bit_killable)" in measured.notes[""]
    assert "sh (11, zombie)" in measured.notes[""]
    proc.process(10, "tar", state="R", started_ticks=100)
    probe.measure()
    proc.process(10, "tar", state="D", started_ticks=100)
    assert values(probe.measure())["uninterruptible"] == 0, "it ran in between"


LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            {files}                 524288               files     
Max address space         {space}            unlimited            bytes     
"""  # noqa: W291 - as the kernel writes it


def test_the_process_that_is_closest_to_its_limit_is_named(proc: Any, values: Any) -> None:
    proc.process(10, "mysqld", files=95)
    proc.write("10/limits", LIMITS.format(files=100, space="unlimited"))
    proc.process(11, "sshd", files=3)
    proc.write("11/limits", LIMITS.format(files=1024, space="6266880"))
    measured = ProcessLimitsProbe(proc=proc.path).measure()
    assert values(measured) == {"open_files": 0.95, "memory": 0.5}
    assert measured.notes == {"": "most by mysqld (10), 95 of 100 files; most of its address space by sshd (11)"}
    assert values(ProcessLimitsProbe(Selection(exclude=["mysqld"]), proc.path).measure())["open_files"] == 3 / 1024
    with pytest.raises(NoData):
        ProcessLimitsProbe(Selection(["none*"]), proc.path).measure()


def cgroups(tree: Any, **shop: str) -> Path:
    usual = {
        "memory.current": "300", "memory.max": "1000", "pids.current": "4", "pids.max": "100", "cpu.max": "50000 1",
        "memory.events": "low 0\noom 0\noom_kill 0", "cpu.stat": "usage_usec 9\nnr_periods 10\nnr_throttled 0",
    }  # fmt: skip
    cron = {"memory.current": "300", "memory.max": "max", "pids.current": "90", "pids.max": "100"}
    files = {f"system.slice/shop.service/{name}": f"{text}\n" for name, text in (usual | shop).items()}
    files |= {f"system.slice/cron.service/{name}": f"{text}\n" for name, text in cron.items()}
    files |= {"user.slice/memory.max": "max\n", "user.slice/pids.max": "max\n", "cgroup.controllers": "cpu memory\n"}
    return tree(files)  # type: ignore[no-any-return]


def test_groups_with_limits_are_measured_against_them(tree: Any, fake_time: Any, values: Any) -> None:
    root = cgroups(tree)
    probe = CgroupsProbe(root=root, timing=fake_time.timing)
    first = {name: value for name, value in values(probe.measure()).items() if not math.isnan(value)}
    assert first == {
        "system.slice/shop.service/memory": 0.3, "system.slice/shop.service/tasks": 0.04,
        "system.slice/shop.service/oom_kills": 0,
        "system.slice/cron.service/tasks": 0.9, "system.slice/cron.service/oom_kills": 0,
    }  # fmt: skip
    fake_time.now += 30
    counts = {"memory.current": "999", "memory.stat": "anon 949\ninactive_file 50\n",
              "memory.events": "oom 2\noom_kill 2\n", "cpu.stat": "nr_periods 310\nnr_throttled 270\n"}  # fmt: skip
    cgroups(tree, **counts)
    found = values(probe.measure())
    assert found["system.slice/shop.service/memory"] == pytest.approx(0.949), "old files are no need"
    assert found["system.slice/shop.service/throttled"] == 0.9
    assert found["system.slice/shop.service/oom_kills"] == 2


def test_a_machine_without_version_2_or_without_limits_has_no_data(tree: Any, tmp_path: Path, fake_time: Any) -> None:
    with pytest.raises(NoData, match="version 2"):
        CgroupsProbe(root=tmp_path / "none", timing=fake_time.timing).measure()
    with pytest.raises(NoData, match="limit"):
        CgroupsProbe(Selection(["user.slice*"]), cgroups(tree), fake_time.timing).measure()
    named = CgroupsProbe(Selection(["machine.slice/db"]), cgroups(tree), fake_time.timing).measure()
    assert named.missing == ["machine.slice/db"]
