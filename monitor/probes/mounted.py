"""Every file system that holds data: how full, and whether it may still be written.

The kernel makes a file system read-only when its disk fails, and nothing else tells of it: writes fail, reads go on.
"""

import math
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.probes.disk import usage_readings
from monitor.probes.file_systems import FileSystems
from monitor.probes.system import PROC
from monitor.result import Measurement, NoData, ProbeError, Reading

_OF_THE_KERNEL = {
    "autofs", "bdev", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts", "efivarfs",
    "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fusectl", "hugetlbfs", "mqueue", "nsfs", "overlay.merged", "proc",
    "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sockfs", "sysfs", "tracefs",
}  # fmt: skip
"""Types without space of their own (/proc/filesystems, "nodev")."""
_SHARE_OF_TIME = 0.3
"""Most of the check's time that one mount may take: three that hang still leave the others an answer."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/PID/mountinfo (proc(5))."""

    place: str
    kind: str
    device: str
    read_only: bool
    """This mount, or the whole file system."""


class FileSystemsProbe:
    """All mounts but those of ``exclude_types``; of a file system that is mounted twice, the first mount."""

    def __init__(
        self,
        file_systems: FileSystems,
        timeout_seconds: float,
        selection: Selection = EVERYTHING,
        exclude_types: Collection[str] = (),
        *,
        proc: Path = PROC,
        fstab: Path = Path("/etc/fstab"),
    ) -> None:
        self._file_systems = file_systems
        self._timeout_seconds = timeout_seconds
        self._selection = selection
        self._exclude_types = exclude_types
        self._mountinfo = proc / "self" / "mountinfo"
        self._fstab = fstab
        self._once_written: set[str] = set()

    def measure(self) -> Measurement:
        """Return ``used``, ``free_bytes``, ``total_bytes``, ``inodes_used`` and ``read_only``, an entity a mount point.

        A mount that does not answer has NaN for ``used`` and its reason as a note.
        """
        chosen = self._chosen()
        missing = self._selection.missing(chosen)
        if not chosen and not missing:
            raise NoData("no file system is mounted that is meant")
        meant_to_be_written = _in_fstab(self._fstab)
        self._once_written |= {place for place, mount in chosen.items() if not mount.read_only}
        self._once_written &= set(chosen)
        deadline = time.monotonic() + self._timeout_seconds
        readings: list[Reading] = []
        notes: dict[str, str] = {}
        for place, mount in chosen.items():
            patience = min(self._timeout_seconds * _SHARE_OF_TIME, deadline - time.monotonic())
            try:
                readings += usage_readings(self._file_systems.usage(place, max(patience, 0.05)), place)
            except ProbeError as error:
                readings.append(Reading("used", math.nan, "ratio", place))
                notes[place] = str(error)
            lost = mount.read_only and (place in self._once_written or place in meant_to_be_written)
            readings.append(Reading("read_only", int(lost), "count", place))
        return Measurement(readings, missing=missing, notes=notes)

    def _chosen(self) -> dict[str, Mount]:
        try:
            text = self._mountinfo.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise ProbeError(f"reading {self._mountinfo}: {error.strerror}") from error
        chosen: dict[str, Mount] = {}
        devices: set[str] = set()
        for mount in _mounts(text):
            wanted = mount.place in self._selection.named or (
                mount.kind not in _OF_THE_KERNEL
                and mount.kind not in self._exclude_types
                and mount.device not in devices
                and not mount.place.startswith(("/proc", "/sys", "/dev"))
                and self._selection.takes(mount.place)
            )
            if wanted:
                chosen[mount.place] = mount  # the later one lies over the earlier one
                devices.add(mount.device)
        return chosen


def _mounts(text: str) -> Iterator[Mount]:
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        own, whole = before.split(" "), after.split(" ")
        if separator and len(own) >= 6 and len(whole) >= 3:
            read_only = "ro" in own[5].split(",") or "ro" in whole[2].split(",")
            yield Mount(_unescaped(own[4]), whole[0], own[2], read_only)


def _in_fstab(path: Path) -> set[str]:
    """Return the places that fstab(5) wants mounted for writing."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return set()
    entries = [row for row in rows if len(row) >= 4 and not row[0].startswith("#")]
    return {_unescaped(row[1]) for row in entries if "ro" not in row[3].split(",")}


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) if "\\" in field else field
