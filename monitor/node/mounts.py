"""node_exporter's collector of file systems: how large, how full, read-only, or not answering.

``statvfs`` on a dead mount hangs in the kernel, so a child is asked that can be given up (monitor/probes/file_systems).
A mount that did not answer is told as ``node_filesystem_device_error``. After the second time in a row it is left in
peace for a minute: a quarter of a second is long for a mount and short for the reader of the page.
"""

import re
import time
from collections.abc import Callable, Iterator, Set

from monitor.exposition import Sample, family, label_text
from monitor.node.reading import Machine, read
from monitor.probes.file_systems import FileSystems, NoAnswer
from monitor.result import ProbeError

_NO_MOUNT_POINT = re.compile(
    r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
_NO_TYPE = re.compile(
    r"(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
    r"|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)"
)
"""node_exporter's ``--collector.filesystem.mount-points-exclude`` and ``fs-types-exclude``."""
_LABELS = ("device", "mountpoint", "fstype")
_WITH_ERROR = (*_LABELS, "device_error")
_PATIENCE_SECONDS = 0.25
_PEACE_SECONDS = 60.0
_TIMEOUT = "mountpoint timeout"
_FAMILIES = (
    ("size_bytes", "Filesystem size in bytes."),
    ("free_bytes", "Filesystem free space in bytes."),
    ("avail_bytes", "Filesystem space available to non-root users in bytes."),
    ("files", "Filesystem total file nodes."),
    ("files_free", "Filesystem total free file nodes."),
    ("readonly", "Filesystem read-only status."),
    ("device_error", "Whether an error occurred while getting statistics for the given device."),
)


class Mounts:
    """Remembers which mounts hang; otherwise a collector as the others."""

    def __init__(self, file_systems: FileSystems, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._file_systems = file_systems
        self._monotonic = monotonic
        self._hung_before: set[str] = set()
        self._hangs_until: dict[str, float] = {}

    def collect(self, machine: Machine) -> Iterator[str]:
        """Look at every mount that is a place for data."""
        samples: dict[str, list[Sample]] = {name: [] for name, _ in _FAMILIES}
        listed = mounts(machine)
        usages = self._usages({place for _, place, _, _ in listed})
        for device, place, kind, options in listed:
            read_only = int("ro" in options.split(","))
            usage = usages[place]
            if isinstance(usage, str):
                labels = label_text(_WITH_ERROR, (device, place, kind, usage))
                values: tuple[tuple[str, float], ...] = (("device_error", 1), ("readonly", read_only))
            else:
                labels = label_text(_LABELS, (device, place, kind))
                values = zip((name for name, _ in _FAMILIES), (*usage, read_only, 0), strict=True)  # type: ignore[assignment]
            for name, value in values:
                samples[name].append((labels, value))
        for name, documentation in _FAMILIES:
            yield family(f"node_filesystem_{name}", "gauge", documentation, samples[name])

    def _usages(self, places: Set[str]) -> "dict[str, tuple[int, int, int, int, int] | str]":
        """Return size, free, available, inodes and free inodes of each, or in a word why not."""
        now = self._monotonic()
        self._hangs_until = {place: until for place, until in self._hangs_until.items() if place in places}
        self._hung_before &= places
        asked = sorted(place for place in places if now >= self._hangs_until.get(place, 0.0))
        found: dict[str, tuple[int, int, int, int, int] | str] = dict.fromkeys(places, _TIMEOUT)
        for place, usage in self._file_systems.usages(asked, _PATIENCE_SECONDS).items():
            if isinstance(usage, NoAnswer):
                if place in self._hung_before:
                    self._hangs_until[place] = self._monotonic() + _PEACE_SECONDS
                self._hung_before.add(place)
                continue
            self._hung_before.discard(place)
            if isinstance(usage, ProbeError):
                found[place] = "unreachable"
            else:
                found[place] = (
                    usage.total_bytes, usage.free_bytes, usage.available_bytes, usage.inodes, usage.inodes_available
                )  # fmt: skip
        return found


def mounts(machine: Machine) -> list[tuple[str, str, str, str]]:
    """Return device, mount point, type and options of every mount that is looked at, each mount point once.

    The first process's mounts are the machine's; who may not read them gets those that this process sees.
    """
    try:
        text = read(f"{machine.proc}/1/mounts")
    except OSError:
        text = read(f"{machine.proc}/self/mounts")
    found: dict[tuple[str, str, str], str] = {}
    for line in text.splitlines():
        device, place, kind, options = map(_unescaped, line.split(" ")[:4])
        if not _NO_MOUNT_POINT.match(place) and not _NO_TYPE.fullmatch(kind):
            found.setdefault((device, place, kind), options)
    return [(*mount, options) for mount, options in found.items()]


def _unescaped(field: str) -> str:
    r"""Read a field of fstab(5): space, tab and the like are written in octal, as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) if "\\" in field else field
