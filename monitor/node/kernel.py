"""node_exporter's collectors of what the kernel counts: processors, memory, load, files, pressure, time.

Each is a function from a machine to families as text. Sources: proc(5), Documentation/accounting/psi.rst; names, types
and labels: node_exporter's own (its ``--collector.NAME`` is the name in the table of ``monitor/node/page.py``). A file
that is missing raises OSError, which costs this one collector, or says that this machine has no such thing.
"""

import os
import re
from collections.abc import Iterator

from monitor.collecting import NothingToCollect
from monitor.exposition import Kind, Sample, family, label_text
from monitor.node.reading import Machine, one, read

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_STAT: tuple[tuple[str, str, Kind, str], ...] = (
    ("intr", "node_intr_total", "counter", "Total number of interrupts serviced."),
    ("ctxt", "node_context_switches_total", "counter", "Total number of context switches."),
    ("processes", "node_forks_total", "counter", "Total number of forks."),
    ("btime", "node_boot_time_seconds", "gauge", "Node boot time, in unixtime."),
    ("procs_running", "node_procs_running", "gauge", "Number of processes in runnable state."),
    ("procs_blocked", "node_procs_blocked", "gauge", "Number of processes blocked waiting for I/O to complete."),
)  # fmt: skip
_VMSTAT = re.compile(r"oom_kill|pgpg|pswp|pg.*fault")
_PRESSURE = (
    ("cpu", "some", "node_pressure_cpu_waiting_seconds_total", "have waited for CPU time"),
    ("io", "full", "node_pressure_io_stalled_seconds_total", "have all waited for disks"),
    ("io", "some", "node_pressure_io_waiting_seconds_total", "have waited for disks"),
    ("memory", "full", "node_pressure_memory_stalled_seconds_total", "have all waited for memory"),
    ("memory", "some", "node_pressure_memory_waiting_seconds_total", "have waited for memory"),
)
_MODE_LABELS = ("cpu", "mode")
_GUEST_MODES = ("user", "nice")
_IDLE = _MODES.index("idle")
_PUT_BACK_SECONDS = 3


class Processors:
    """Seconds of each processor in each mode.

    The kernel's idle and iowait may go back by a tick or two (proc(5)), which would read as a counter begun anew, and
    as days of iowait in a rate. So each keeps its greatest value, as node_exporter's do, until idle falls by seconds:
    then the processor was taken out and put back, and counts afresh.
    """

    def __init__(self) -> None:
        self._ticks: dict[str, list[int]] = {}

    def collect(self, machine: Machine) -> Iterator[str]:
        """Return the seconds as of now, never less than before."""
        ticks: dict[str, list[int]] = {}
        for line in read(f"{machine.proc}/stat").split("\n"):
            if not line.startswith("cpu"):
                break  # processors come first
            name, *columns = line.split()
            if number := name[3:]:  # the first line is the sum of all
                ticks[number] = self._not_less(number, list(map(int, columns)))
        self._ticks = ticks
        seconds: list[Sample] = []
        guests: list[Sample] = []
        for number, counts in ticks.items():
            in_modes = zip(_MODES, counts, strict=False)
            in_guests = zip(_GUEST_MODES, counts[len(_MODES) :], strict=False)
            seconds += [(label_text(_MODE_LABELS, (number, mode)), n / TICKS_PER_SECOND) for mode, n in in_modes]
            guests += [(label_text(_MODE_LABELS, (number, mode)), n / TICKS_PER_SECOND) for mode, n in in_guests]
        yield family("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.", seconds)
        yield family("node_cpu_guest_seconds_total", "counter", "Seconds the CPUs spent in guests (VMs).", guests)

    def _not_less(self, number: str, ticks: list[int]) -> list[int]:
        before = self._ticks.get(number, ticks)
        if before[_IDLE] - ticks[_IDLE] >= _PUT_BACK_SECONDS * TICKS_PER_SECOND:
            return ticks
        return list(map(max, before, ticks))


def stat(machine: Machine) -> Iterator[str]:
    """Interrupts, context switches, forks, boot time, processes that run or wait for a disk."""
    found = dict(re.findall(r"^(\w+) (\d+)", read(f"{machine.proc}/stat"), re.MULTILINE))
    for key, name, kind, documentation in _STAT:
        if key in found:
            yield one(name, kind, documentation, int(found[key]))


def loadavg(machine: Machine) -> Iterator[str]:
    """The three load averages."""
    for minutes, value in zip((1, 5, 15), read(f"{machine.proc}/loadavg").split(), strict=False):
        yield one(f"node_load{minutes}", "gauge", f"{minutes}m load average.", float(value))


def meminfo(machine: Machine) -> Iterator[str]:
    """Every field of /proc/meminfo, in bytes where it has a unit; ``Active(anon)`` becomes ``Active_anon``."""
    for line in read(f"{machine.proc}/meminfo").splitlines():
        key, _, rest = line.partition(":")
        value, _, unit = rest.strip().partition(" ")
        field = key.replace("(", "_").replace(")", "") + ("_bytes" if unit else "")
        yield one(
            f"node_memory_{field}", "gauge", f"Memory information field {field}.",
            int(value) * (1024 if unit else 1),
        )  # fmt: skip


def vmstat(machine: Machine) -> Iterator[str]:
    """Page faults, paging, swapping, and how often the kernel killed for want of memory."""
    for line in read(f"{machine.proc}/vmstat").splitlines():
        if _VMSTAT.match(line):
            key, _, value = line.partition(" ")
            yield one(f"node_vmstat_{key}", "untyped", f"/proc/vmstat information field {key}.", int(value))


def filefd(machine: Machine) -> Iterator[str]:
    """Open files of the whole machine, and how many it allows."""
    allocated, _, most = read(f"{machine.proc}/sys/fs/file-nr").split()
    yield one("node_filefd_allocated", "gauge", "File descriptor statistics: allocated.", int(allocated))
    yield one("node_filefd_maximum", "gauge", "File descriptor statistics: maximum.", int(most))


def conntrack(machine: Machine) -> Iterator[str]:
    """Connections that the firewall tracks, and how many it can."""
    folder = f"{machine.proc}/sys/net/netfilter"
    try:
        count, most = read(f"{folder}/nf_conntrack_count"), read(f"{folder}/nf_conntrack_max")
    except FileNotFoundError:
        raise NothingToCollect from None
    yield one("node_nf_conntrack_entries", "gauge", "Number of currently allocated flow entries.", int(count))
    yield one("node_nf_conntrack_entries_limit", "gauge", "Maximum size of connection tracking table.", int(most))


def pressure(machine: Machine) -> Iterator[str]:
    """Pressure stall information: seconds lost to waiting, from the running totals in microseconds."""
    files: dict[str, str] = {}
    for resource, share, name, what in _PRESSURE:
        if resource not in files:
            try:
                files[resource] = read(f"{machine.proc}/pressure/{resource}")
            except OSError:  # a kernel without it, or one that was started with psi=0 (EOPNOTSUPP)
                raise NothingToCollect from None
        total = re.search(rf"^{share} .*total=(\d+)", files[resource], re.MULTILINE)
        if total:
            yield one(name, "counter", f"Total time in seconds that processes {what}", int(total[1]) / 1e6)


def uname(_: Machine) -> Iterator[str]:
    """Kernel and host name."""
    found = os.uname()
    names = ("domainname", "machine", "nodename", "release", "sysname", "version")
    # uname(2)'s NIS domain, which Python leaves out
    domain = read("/proc/sys/kernel/domainname").strip() or "(none)"
    values = (domain, found.machine, found.nodename, found.release, found.sysname, found.version)
    yield family(
        "node_uname_info", "gauge", "Labeled system information as provided by the uname system call.",
        [(label_text(names, values), 1)],
    )  # fmt: skip
