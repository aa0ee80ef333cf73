"""LVM: volume groups with all their disks, thin pools with space left, RAID volumes in step; by vgs and lvs as JSON.

Thin pools matter most: one that is full stops every volume in it, however empty those are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from config.selection import EVERYTHING, Selection
from monitor.probes.tool import Tool
from monitor.result import Measurement, NoData, ProbeError, Reading

_AS_JSON = ["--reportformat", "json", "--units", "b", "--nosuffix", "--readonly"]
_GROUPS = ["vgs", *_AS_JSON, "-o", "vg_name,vg_free,vg_missing_pv_count"]
_VOLUMES = [
    "lvs", *_AS_JSON, "-o",
    "vg_name,lv_name,lv_layout,data_percent,metadata_percent,sync_percent,lv_health_status",
]  # fmt: skip
_HINT = "LVM's tools need root"
Row = Mapping[str, Any]


class LvmProbe:
    """Groups, and those volumes that have something to tell beyond their size."""

    def __init__(self, timeout_seconds: float, selection: Selection = EVERYTHING, path: str | None = None) -> None:
        self._selection = selection
        self._groups = Tool(_GROUPS, timeout_seconds, hint=_HINT, path=path)
        self._volumes = Tool(_VOLUMES, timeout_seconds, hint=_HINT, path=path)

    def measure(self) -> Measurement:
        """Return ``unhealthy`` and what the kind of entity has, by group and volume. Raises NoData without any."""
        try:
            groups, volumes = (_rows(self._groups.json(), "vg"), _rows(self._volumes.json(), "lv"))
            found = [*map(_group, groups), *filter(None, map(_volume, volumes))]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ProbeError(f"reading LVM's report: unexpected {type(error).__name__}: {error}") from error
        notes = {
            readings[0].entity: note for readings, note in found if note and self._selection.takes(readings[0].entity)
        }
        readings = [one for readings, _ in found for one in readings if self._selection.takes(one.entity)]
        missing = self._selection.missing(reading.entity for reading in readings)
        if not readings and not missing:
            raise NoData("this machine has no volume group")
        return Measurement(readings, missing=missing, notes=notes)


def _rows(report: Row, kind: str) -> list[Row]:
    return [row for part in report["report"] for row in part[kind]]


def _group(row: Row) -> tuple[list[Reading], str]:
    name, missing = row["vg_name"], int(row["vg_missing_pv_count"])
    readings = [
        Reading("unhealthy", missing, "count", name),
        Reading("free_bytes", float(row["vg_free"]), "bytes", name),
    ]
    return readings, "physical volumes are missing" if missing else ""


def _volume(row: Row) -> tuple[list[Reading], str] | None:
    name, health = f"{row['vg_name']}/{row['lv_name']}", row["lv_health_status"]
    shares = list(_shares(row, name))
    if not shares and not health:
        return None
    return [Reading("unhealthy", int(bool(health)), "count", name), *shares], health


def _shares(row: Row, name: str) -> Iterator[Reading]:
    if "thin" in row["lv_layout"].split(",") and "pool" not in row["lv_layout"].split(","):
        return  # a thin volume's share of its own size says nothing: its pool is what runs out
    for reading, column in (("used", "data_percent"), ("metadata_used", "metadata_percent")):
        if row[column]:
            yield Reading(reading, float(row[column]) / 100, "ratio", name)
    if row["sync_percent"] and "raid" in row["lv_layout"]:
        yield Reading("synchronized", float(row["sync_percent"]) / 100, "ratio", name)
