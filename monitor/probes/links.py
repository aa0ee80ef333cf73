"""Links of network cards and of bonds, from /sys/class/net (Documentation/ABI/testing/sysfs-class-net)."""

import os
from collections.abc import Iterator
from pathlib import Path

from config.said import Said
from config.selection import EVERYTHING, Selection
from monitor.node.reading import names_in, read_or
from monitor.probes.recent import RecentByEntity
from monitor.result import Measurement, NoData, Reading

SYS_NET = Path("/sys/class/net")
_BYTES_PER_MEGABIT = 125_000
_UP = 0x1
"""IFF_UP of <linux/if.h>: switched on by the administrator."""


class LinkProbe:
    """Physical interfaces that are switched on, or the included ones."""

    def __init__(self, recent: RecentByEntity, selection: Selection = EVERYTHING, folder: Path = SYS_NET) -> None:
        self._recent = recent
        self._selection = selection
        self._folder = os.fspath(folder)

    def measure(self) -> Measurement:
        """Return ``up``, ``lost`` (lately), and of a link that is up ``speed`` and ``full_duplex``, by interface."""
        names = [name for name in names_in(self._folder) if self._selection.takes(name) and self._is_meant(name)]
        missing = self._selection.missing(names)
        if not names and not missing:
            raise NoData("this machine has no network card")
        lost = self._recent.see({name: self._losses(name) for name in names})
        return Measurement([one for name in names for one in self._readings(name, lost[name])], missing=missing)

    def _is_meant(self, name: str) -> bool:
        if not os.path.isdir(f"{self._folder}/{name}"):
            return False  # bonding_masters is a file among the folders
        flags = read_or(f"{self._folder}/{name}/flags", "0x0")
        return bool(self._selection.include) or (
            os.path.exists(f"{self._folder}/{name}/device") and bool(int(flags, 16) & _UP)
        )

    def _losses(self, name: str) -> float:
        """Return how often the carrier went, since Linux 4.16; before, every change counts half."""
        down = read_or(f"{self._folder}/{name}/carrier_down_count")
        changes = read_or(f"{self._folder}/{name}/carrier_changes", "0")
        return float(down) if down.isdigit() else int(changes or 0) // 2

    def _readings(self, name: str, lost: float) -> Iterator[Reading]:
        up = read_or(f"{self._folder}/{name}/carrier") == "1"
        yield Reading("up", int(up), "count", name)
        if up:
            speed = read_or(f"{self._folder}/{name}/speed")
            if speed.isdigit():  # -1 where the card does not know
                yield Reading("speed", int(speed) * _BYTES_PER_MEGABIT, "bytes_per_second", name)
            duplex = read_or(f"{self._folder}/{name}/duplex")
            if duplex in ("full", "half"):
                yield Reading("full_duplex", int(duplex == "full"), "count", name)
        yield Reading("lost", lost, "count", name)


class BondProbe:
    """Bonds by the kernel's bonding driver."""

    def __init__(self, selection: Selection = EVERYTHING, folder: Path = SYS_NET) -> None:
        self._selection = selection
        self._folder = os.fspath(folder)

    def measure(self) -> Measurement:
        """Return ``down`` and ``links``, an entity a bond; notes name the links that do not work."""
        bonds = [name for name in read_or(f"{self._folder}/bonding_masters").split() if self._selection.takes(name)]
        missing = self._selection.missing(bonds)
        if not bonds and not missing:
            raise NoData("this machine has no bond")
        readings: list[Reading] = []
        notes: dict[str, str] = {}
        for bond in bonds:
            links = read_or(f"{self._folder}/{bond}/bonding/slaves").split()
            down = [link for link in links if not self._works(link)]
            # A bond that lost all of its links has none to be down, and is down itself.
            readings.append(Reading("down", len(down) or int(not links), "count", bond))
            readings.append(Reading("links", len(links), "count", bond))
            if down:
                notes[bond] = Said("%(names)s without link", names=", ".join(down))
        return Measurement(readings, missing=missing, notes=notes)

    def _works(self, link: str) -> bool:
        return read_or(f"{self._folder}/{link}/bonding_slave/mii_status") == "up"
