"""/metrics/node: the host's families in one page, each collector guarded and timed as node_exporter does it.

Everything is read when it is asked for, as node_exporter does; nothing is kept but what may hang (mounts), is slow
(units), or must not go back (processors). Refuses to invent names: what node_exporter does not export is no business
of this page.
"""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from monitor.collecting import Collectors
from monitor.node import devices, kernel
from monitor.node.mounts import Mounts
from monitor.node.reading import Machine, one
from monitor.node.textfile import TextFiles
from monitor.node.timex import timex
from monitor.node.units import Units
from monitor.probes.file_systems import FileSystems

_STATELESS: tuple[tuple[str, Callable[[Machine], Iterable[str]]], ...] = (
    ("bonding", devices.bonding),
    ("conntrack", kernel.conntrack),
    ("diskstats", devices.diskstats),
    ("edac", devices.edac),
    ("filefd", kernel.filefd),
    ("hwmon", devices.hwmon),
    ("loadavg", kernel.loadavg),
    ("mdadm", devices.mdadm),
    ("meminfo", kernel.meminfo),
    ("netclass", devices.netclass),
    ("netdev", devices.netdev),
    ("pressure", kernel.pressure),
    ("stat", kernel.stat),
    ("timex", timex),
    ("uname", kernel.uname),
    ("vmstat", kernel.vmstat),
)


class NodePage:
    """The bytes of /metrics/node. Safe to call from any thread; a mount that hangs costs a moment now and then."""

    def __init__(
        self,
        file_systems: FileSystems,
        clock: Callable[[], datetime],
        *,
        textfile_directory: Path | None = None,
        machine: Machine | None = None,
        units: Units | None = None,
    ) -> None:
        self._rendering = threading.Lock()
        self._clock = clock
        here = machine or Machine()
        stateful = (
            ("cpu", kernel.Processors().collect),
            ("filesystem", Mounts(file_systems).collect),
            ("systemd", (units or Units()).collect),
            ("textfile", TextFiles(textfile_directory).collect),
            ("time", self._time),
        )
        parts = [(name, partial(collect, here)) for name, collect in sorted((*_STATELESS, *stateful))]
        self._collectors = Collectors("node_scrape", parts)

    def render(self) -> bytes:
        """Return the page in text format 0.0.4, as the machine is now."""
        with self._rendering:
            return self._collectors.render().encode("utf-8", "replace")

    def _time(self, _: Machine) -> Iterable[str]:
        yield one(
            "node_time_seconds", "gauge", "System time in seconds since epoch (1970).", self._clock().timestamp()
        )
