"""CPU, load, memory, swap, uptime and file handles: captured and failing systems, and this one for sanity."""

from typing import Any

import psutil
import pytest

from monitor.probes.cpu import CpuProbe, LoadProbe
from monitor.probes.memory import MemoryProbe, SwapProbe
from monitor.probes.system import FileDescriptorsProbe, UptimeProbe
from monitor.result import NoData, ProbeError

MEMINFO = """\
MemTotal:       16000000 kB
MemFree:         1000000 kB
MemAvailable:    4000000 kB
Buffers:          200000 kB
Cached:          3500000 kB
SwapCached:            0 kB
Active:          9000000 kB
Inactive:        3000000 kB
Shmem:            100000 kB
Slab:             400000 kB
SReclaimable:     300000 kB
SwapTotal:       {swap} kB
SwapFree:        {swap_free} kB
"""


def stat(user: int, nice: int, system: int, idle: int, iowait: int, irq: int, softirq: int, steal: int) -> str:
    """/proc/stat, in ticks of a hundredth of a second."""
    line = f"{user} {nice} {system} {idle} {iowait} {irq} {softirq} {steal} 0 0"
    return f"cpu  {line}\ncpu0 {line}\nctxt 512100\nbtime 1700000000\nprocs_running 2\nprocs_blocked 0\n"


def test_cpu_shares_are_those_of_the_time_since_the_last_run(psutil_proc: Any, fake_time: Any, values: Any) -> None:
    psutil_proc.write("stat", stat(1000, 0, 500, 90_000, 100, 0, 0, 0))
    probe = CpuProbe(timing=fake_time.timing)
    fake_time.while_pausing = lambda: psutil_proc.write("stat", stat(1001, 0, 500, 90_019, 100, 0, 0, 0))
    probe.measure()
    fake_time.now += 10
    psutil_proc.write("stat", stat(1301, 100, 600, 90_419, 150, 10, 20, 20))
    assert values(probe.measure()) == pytest.approx(
        {"used": 0.55, "user": 0.4, "system": 0.13, "iowait": 0.05, "steal": 0.02}
    )


def test_guests_are_not_counted_twice(fake_time: Any, values: Any) -> None:
    times = psutil.cpu_times()._replace(
        user=0.0, nice=0.0, system=0.0, idle=0.0, iowait=0.0, irq=0.0, softirq=0.0, steal=0.0, guest=0.0, guest_nice=0.0
    )
    looks = [{"": times}, {"": times._replace(user=6.0, guest=6.0, idle=4.0)}]
    assert values(CpuProbe(lambda: looks.pop(0), fake_time.timing).measure())["used"] == pytest.approx(0.6)


def test_a_cpu_taken_offline_gives_no_nonsense(psutil_proc: Any, fake_time: Any, values: Any) -> None:
    psutil_proc.write("stat", stat(100_000, 0, 50_000, 900_000, 100, 0, 0, 0))
    probe = CpuProbe(timing=fake_time.timing)
    fake_time.while_pausing = lambda: psutil_proc.write("stat", stat(100_000, 0, 50_000, 900_020, 100, 0, 0, 0))
    probe.measure()
    fake_time.now += 10
    psutil_proc.write("stat", stat(50_000, 0, 25_000, 450_000, 50, 0, 0, 0))
    fake_time.while_pausing = lambda: psutil_proc.write("stat", stat(50_005, 0, 25_000, 450_015, 50, 0, 0, 0))
    assert values(probe.measure())["used"] == pytest.approx(0.25)


def test_cpu_counters_that_stand_still_are_an_error_and_not_zero(psutil_proc: Any, fake_time: Any) -> None:
    psutil_proc.write("stat", stat(1000, 0, 500, 90_000, 100, 0, 0, 0))
    with pytest.raises(ProbeError, match="stood still"):
        CpuProbe(timing=fake_time.timing).measure()


def test_load_is_also_told_for_each_cpu(values: Any) -> None:
    probe = LoadProbe(lambda: (3.0, 6.0, 9.0), lambda: 4)
    assert values(probe.measure()) == {"load5_per_core": 1.5, "load1": 3.0, "load5": 6.0, "load15": 9.0}


def test_memory_that_the_kernel_would_give_back_is_available(psutil_proc: Any, values: Any) -> None:
    psutil_proc.write("meminfo", MEMINFO.format(swap=0, swap_free=0))
    assert values(MemoryProbe().measure()) == {
        "used": 0.75, "available_bytes": 4_000_000 * 1024, "total_bytes": 16_000_000 * 1024,
    }  # fmt: skip


def test_swap_in_use_and_its_traffic(psutil_proc: Any, fake_time: Any, values: Any) -> None:
    psutil_proc.write("meminfo", MEMINFO.format(swap=2000, swap_free=500))
    psutil_proc.write("vmstat", "nr_free_pages 1\npswpin 100\npswpout 200\n")
    probe = SwapProbe(timing=fake_time.timing)
    probe.measure()
    fake_time.now += 10
    psutil_proc.write("vmstat", "nr_free_pages 1\npswpin 110\npswpout 300\n")
    assert values(probe.measure()) == {
        "used": 0.75, "used_bytes": 1500 * 1024, "in_bytes_per_second": 4096, "out_bytes_per_second": 40960,
    }  # fmt: skip


def test_a_machine_without_swap_has_no_data(psutil_proc: Any, fake_time: Any) -> None:
    psutil_proc.write("meminfo", MEMINFO.format(swap=0, swap_free=0))
    psutil_proc.write("vmstat", "pswpin 0\npswpout 0\n")
    with pytest.raises(NoData):
        SwapProbe(timing=fake_time.timing).measure()


def test_uptime_is_read_in_seconds(proc: Any, values: Any) -> None:
    proc.write("uptime", "885.69 1660.91\n")
    assert values(UptimeProbe(proc.path).measure()) == {"uptime": 885.69}


def test_file_handles_against_the_limit(proc: Any, values: Any) -> None:
    proc.write("sys/fs/file-nr", "9100\t100\t10000\n")
    assert values(FileDescriptorsProbe(proc.path).measure()) == {"used": 0.9, "open": 9000, "limit": 10000}


@pytest.mark.parametrize("text", ["", "nonsense\n", "1 2\n"])
def test_a_file_of_proc_that_is_not_as_expected_is_named(proc: Any, text: str) -> None:
    proc.write("sys/fs/file-nr", text)
    with pytest.raises(ProbeError, match="file-nr"):
        FileDescriptorsProbe(proc.path).measure()


def test_a_missing_file_of_proc_is_named(proc: Any) -> None:
    with pytest.raises(ProbeError, match="uptime"):
        UptimeProbe(proc.path).measure()


@pytest.mark.parametrize("probe", [CpuProbe(), LoadProbe(), MemoryProbe(), UptimeProbe(), FileDescriptorsProbe()])
def test_this_machine_gives_sane_numbers(probe: Any) -> None:
    readings = probe.measure().readings
    assert readings
    for reading in readings:
        assert reading.value >= 0
        if reading.unit == "ratio":
            assert reading.value <= 1
