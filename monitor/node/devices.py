"""node_exporter's collectors of devices: disks, network interfaces, bonds, software RAID, sensors, memory errors.

Each is a function from a machine to families as text. Sources: Documentation/admin-guide/iostats.rst, proc(5), and the
sysfs pages of each class. Names, types, labels and excluded devices are node_exporter's.
"""

import os
import re
from collections.abc import Iterator

from monitor.collecting import NothingToCollect
from monitor.exposition import Kind, Sample, family, label_text
from monitor.node.reading import Machine, by_label, names_in, read, read_or

_SECTOR_BYTES = 512
_NO_DISK = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
"""node_exporter's ``--collector.diskstats.device-exclude``."""
_DISK: tuple[tuple[str, Kind, float, str], ...] = (
    ("reads_completed_total", "counter", 1, "The total number of reads completed successfully."),
    ("reads_merged_total", "counter", 1, "The total number of reads merged."),
    ("read_bytes_total", "counter", _SECTOR_BYTES, "The total number of bytes read successfully."),
    ("read_time_seconds_total", "counter", 0.001, "The total number of seconds spent by all reads."),
    ("writes_completed_total", "counter", 1, "The total number of writes completed successfully."),
    ("writes_merged_total", "counter", 1, "The number of writes merged."),
    ("written_bytes_total", "counter", _SECTOR_BYTES, "The total number of bytes written successfully."),
    ("write_time_seconds_total", "counter", 0.001, "This is the total number of seconds spent by all writes."),
    ("io_now", "gauge", 1, "The number of I/Os currently in progress."),
    ("io_time_seconds_total", "counter", 0.001, "Total seconds spent doing I/Os."),
    ("io_time_weighted_seconds_total", "counter", 0.001, "The weighted # of seconds spent doing I/Os."),
    ("discards_completed_total", "counter", 1, "The total number of discards completed successfully."),
    ("discards_merged_total", "counter", 1, "The total number of discards merged."),
    ("discarded_sectors_total", "counter", 1, "The total number of sectors discarded successfully."),
    ("discard_time_seconds_total", "counter", 0.001, "This is the total number of seconds spent by all discards."),
    ("flush_requests_total", "counter", 1, "The total number of flush requests completed successfully"),
    ("flush_requests_time_seconds_total", "counter", 0.001, "The total number of seconds spent by all flushes."),
)  # fmt: skip
"""Columns of /proc/diskstats after the name, in order; older kernels have fewer."""
_NETWORK = (
    "receive_bytes", "receive_packets", "receive_errs", "receive_drop", "receive_fifo", "receive_frame",
    "receive_compressed", "receive_multicast", "transmit_bytes", "transmit_packets", "transmit_errs", "transmit_drop",
    "transmit_fifo", "transmit_colls", "transmit_carrier", "transmit_compressed",
)  # fmt: skip
"""Columns of /proc/net/dev after the name, in order."""


def diskstats(machine: Machine) -> Iterator[str]:
    """Reads, writes and time of each whole disk."""
    rows: list[tuple[str, list[str]]] = []
    for line in read(f"{machine.proc}/diskstats").splitlines():
        _, _, device, *counts = line.split()
        if not _NO_DISK.fullmatch(device):
            rows.append((label_text(("device",), (device,)), counts))
    for column, (name, kind, unit, documentation) in enumerate(_DISK):
        samples = [(label, int(counts[column]) * unit) for label, counts in rows if column < len(counts)]
        yield family(f"node_disk_{name}", kind, documentation, samples)


def netdev(machine: Machine) -> Iterator[str]:
    """What each interface received and sent."""
    rows: list[tuple[str, list[str]]] = []
    for line in read(f"{machine.proc}/net/dev").splitlines()[2:]:
        device, _, counts = line.rpartition(":")
        rows.append((label_text(("device",), (device.strip(),)), counts.split()))
    for column, name in enumerate(_NETWORK):
        samples = [(label, int(counts[column])) for label, counts in rows]
        yield family(f"node_network_{name}_total", "counter", f"Network device statistic {name}.", samples)


def netclass(machine: Machine) -> Iterator[str]:
    """Whether each interface is up, how fast it is, and its MTU."""
    folder = f"{machine.sys}/class/net"
    up: list[tuple[str, float]] = []
    speed: list[tuple[str, float]] = []
    mtu: list[tuple[str, float]] = []
    for device in names_in(folder):
        state = read_or(f"{folder}/{device}/operstate")
        if not state:
            continue  # bonding_masters is a file among the folders; an interface may have just gone
        up.append((device, int(state == "up")))
        if megabits := read_or(f"{folder}/{device}/speed"):  # reading it fails where the link is down or has none
            speed.append((device, int(megabits) * 125_000))
        if octets := read_or(f"{folder}/{device}/mtu"):
            mtu.append((device, int(octets)))
    said = "Network device property: "
    yield family("node_network_up", "gauge", "Value is 1 if operstate is 'up', 0 otherwise.", by_label("device", up))
    yield family("node_network_speed_bytes", "gauge", f"{said}speed_bytes", by_label("device", speed))
    yield family("node_network_mtu_bytes", "gauge", f"{said}mtu_bytes", by_label("device", mtu))


def bonding(machine: Machine) -> Iterator[str]:
    """How many links each bond has, and how many of them work."""
    folder = f"{machine.sys}/class/net"
    try:
        masters = read(f"{folder}/bonding_masters").split()
    except FileNotFoundError:
        raise NothingToCollect from None
    slaves: list[tuple[str, float]] = []
    active: list[tuple[str, float]] = []
    for master in masters:
        try:
            mine = read(f"{folder}/{master}/bonding/slaves").split()
        except OSError:
            continue  # it has just gone
        states = [read_or(f"{folder}/{master}/lower_{slave}/bonding_slave/mii_status") for slave in mine]
        slaves.append((master, len(mine)))
        active.append((master, states.count("up")))
    said = "slaves per bonding interface."
    yield family("node_bonding_slaves", "gauge", f"Number of configured {said}", by_label("master", slaves))
    yield family("node_bonding_active", "gauge", f"Number of active {said}", by_label("master", active))


def mdadm(machine: Machine) -> Iterator[str]:
    """Disks of each md array by state, and how many it needs, from /proc/mdstat (md(4))."""
    try:
        text = read(f"{machine.proc}/mdstat")
    except FileNotFoundError:
        raise NothingToCollect from None
    disks: list[Sample] = []
    required: list[Sample] = []
    labels = ("device", "state")
    for device, members, rest in re.findall(r"^(md\S*) : \w+ (.*)\n((?:[ \t].*\n?)*)", text, re.MULTILINE):
        spare, failed = members.count("(S)"), members.count("(F)")
        listed = len(re.findall(r"\[\d+\]", members))
        counted = re.search(r"\[(\d+)/(\d+)\]", rest)  # linear and RAID 0 have no redundancy to count
        needed, active = map(int, counted.groups()) if counted else (listed, listed - spare - failed)
        for state, count in (("active", active), ("failed", failed), ("spare", spare)):
            disks.append((label_text(labels, (device, state)), count))
        required.append((label_text(("device",), (device,)), needed))
    said = "Number of active/failed/spare disks of device."
    yield family("node_md_disks", "gauge", said, disks)
    yield family("node_md_disks_required", "gauge", "Total number of disks of device.", required)


def hwmon(machine: Machine) -> Iterator[str]:
    """Temperatures, with the labels of their sensors and the names of their chips."""
    folder = f"{machine.sys}/class/hwmon"
    chips = names_in(folder)
    if not chips:
        raise NothingToCollect
    names: list[Sample] = []
    temperatures: list[Sample] = []
    sensors: list[Sample] = []
    for entry in chips:
        path = f"{folder}/{entry}"
        chip = _chip(path)
        if name := read_or(f"{path}/name"):
            names.append((label_text(("chip", "chip_name"), (chip, _clean(name))), 1))
        for file in names_in(path):
            sensor, _, what = file.partition("_")
            if not re.fullmatch(r"temp\d+", sensor):
                continue
            content = read_or(f"{path}/{file}")
            if what == "input" and re.fullmatch(r"-?\d+", content):  # a sensor may fail to answer (EIO)
                temperatures.append((label_text(("chip", "sensor"), (chip, sensor)), int(content) / 1000))
            elif what == "label":
                sensors.append((label_text(("chip", "sensor", "label"), (chip, sensor, content)), 1))
    said = "Annotation metric for human-readable chip names"
    yield family("node_hwmon_chip_names", "gauge", said, names)
    yield family("node_hwmon_sensor_label", "gauge", "Label for given chip and sensor", sensors)
    said = "Hardware monitor for temperature (input)"
    yield family("node_hwmon_temp_celsius", "gauge", said, temperatures)


def edac(machine: Machine) -> Iterator[str]:
    """Memory errors by controller: corrected, and not."""
    folder = f"{machine.sys}/devices/system/edac/mc"
    controllers = [name for name in names_in(folder) if re.fullmatch(r"mc\d+", name)]
    for word, file in (("correctable", "ce_count"), ("uncorrectable", "ue_count")):
        found = [(name[2:], read_or(f"{folder}/{name}/{file}")) for name in controllers]
        counts = [(number, int(count)) for number, count in found if count]  # one whose driver goes has none
        said = f"Total {word} memory errors."
        yield family(f"node_edac_{word}_errors_total", "counter", said, by_label("controller", counts))


def _chip(path: str) -> str:
    """Name a chip by its place in the machine, as node_exporter does: bus and device, or else its own name."""
    device = os.path.realpath(f"{path}/device")
    if os.path.exists(device):
        kind, name = (_clean(part) for part in device.split("/")[-2:])
        if name:
            return f"{kind}_{name}" if kind else name
    return _clean(read_or(f"{path}/name")) or _clean(os.path.basename(os.path.realpath(path)))


def _clean(text: str) -> str:
    return re.sub(r"[^a-z0-9:_]", "_", text.lower()).strip("_")
