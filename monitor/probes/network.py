"""Traffic, errors and drops by network interface, from psutil."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil

from config.selection import EVERYTHING, Selection
from monitor.probes.sampling import REAL_TIME, Counters, Sampler, Timing
from monitor.result import Measurement, NoData, Reading


def network_counters() -> Mapping[str, Any]:
    """Return psutil's counters by interface. Its correction of wrapped counters is off: :class:`Sampler` does it."""
    return psutil.net_io_counters(pernic=True, nowrap=False)


class NetworkProbe:
    """Rates since the last run, for the included interfaces, or for every one but loopback and the excluded."""

    def __init__(
        self,
        selection: Selection = EVERYTHING,
        read: Callable[[], Mapping[str, Any]] = network_counters,
        links: Callable[[], Mapping[str, Any]] = psutil.net_if_stats,
        timing: Timing = REAL_TIME,
    ) -> None:
        self._selection = selection
        self._sampler: Sampler[Mapping[str, Any]] = Sampler(read, _counters, timing)
        self._links = links

    def measure(self) -> Measurement:
        """Return ``errors`` (share of packets, both ways), bytes and drops per second, ``up``; an entity an interface.

        Raises NoData on a machine with nothing but loopback.
        """
        window = self._sampler.window()
        links = self._links()
        chosen = [
            name
            for name in window.latest
            if self._selection.takes(name) and (self._selection.include or not _is_loopback(name, links))
        ]
        missing = self._selection.missing(window.latest)
        if not chosen and not missing:
            raise NoData("this machine has no network interface but loopback")
        readings = [
            reading
            for name in chosen
            if name in window.growth
            for reading in _readings(name, window.growth[name], window.seconds, links)
        ]
        return Measurement(readings, missing=missing)


def _counters(nics: Mapping[str, Any]) -> Counters:
    return {
        name: (
            nic.packets_recv + nic.packets_sent,
            nic.errin + nic.errout,
            nic.bytes_recv,
            nic.bytes_sent,
            nic.dropin + nic.dropout,
        )
        for name, nic in nics.items()
    }


def _readings(name: str, growth: Sequence[float], seconds: float, links: Mapping[str, Any]) -> Iterator[Reading]:
    packets, errors, received, sent, drops = growth
    # Drivers disagree on whether a broken packet counts as a packet; this way the share never passes 1.
    yield Reading("errors", errors / (packets + errors) if errors else 0.0, "ratio", name)
    yield Reading("receive_bytes_per_second", received / seconds, "bytes_per_second", name)
    yield Reading("transmit_bytes_per_second", sent / seconds, "bytes_per_second", name)
    yield Reading("drops_per_second", drops / seconds, "per_second", name)
    if name in links:
        yield Reading("up", float(links[name].isup), "count", name)


def _is_loopback(name: str, links: Mapping[str, Any]) -> bool:
    return name in links and "loopback" in links[name].flags.split(",")
