"""Devices of btrfs and their errors, from /sys/fs/btrfs (Linux 5.14): the counters of ``btrfs device stats``.

Nothing is run, and nobody needs to be root, as the tool would want.
"""

import os
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.node.reading import names_in, read, read_or
from monitor.result import Measurement, NoData, ProbeError, Reading

SYS_BTRFS = Path("/sys/fs/btrfs")


class BtrfsProbe:
    """All devices of all mounted file systems, called by the file system's label (or UUID) and their number."""

    def __init__(self, selection: Selection = EVERYTHING, folder: Path = SYS_BTRFS) -> None:
        self._selection = selection
        self._folder = os.fspath(folder)

    def measure(self) -> Measurement:
        """Return ``errors``, ``corruptions`` and ``missing``, an entity a device; notes take the errors apart."""
        found: list[str] = []
        readings: list[Reading] = []
        notes: dict[str, str] = {}
        for system in names_in(self._folder):
            devices = f"{self._folder}/{system}/devinfo"
            label = read_or(f"{self._folder}/{system}/label") or system
            for number in names_in(devices):
                entity = f"{label} {number}"
                if not self._selection.takes(entity):
                    continue
                found.append(entity)
                counts = _counts(f"{devices}/{number}/error_stats")
                readings += [
                    Reading("errors", sum(counts.values()), "count", entity),
                    Reading("corruptions", counts.get("corruption_errs", 0), "count", entity),
                    Reading("missing", int(read_or(f"{devices}/{number}/missing") == "1"), "count", entity),
                ]
                told = [f"{count} {name.removesuffix('_errs')}" for name, count in counts.items() if count]
                if told:
                    notes[entity] = ", ".join(told)
        missing = self._selection.missing(found)
        if not readings and not missing:
            raise NoData("no btrfs is mounted, or its kernel is older than Linux 5.14")
        return Measurement(readings, missing=missing, notes=notes)


def _counts(path: str) -> dict[str, int]:
    try:
        pairs = [line.split() for line in read(path).splitlines() if line]
        return {name: int(count) for name, count in pairs}
    except OSError as error:
        raise ProbeError(f"reading {path}: {error.strerror}") from error
    except ValueError:
        return {}  # "invalid": a device that has just gone
