"""Memory and swap, from psutil."""

from collections.abc import Callable
from typing import Any

import psutil

from monitor.probes.sampling import REAL_TIME, Sampler, Timing
from monitor.result import Measurement, NoData, Reading


class MemoryProbe:
    """Memory that programs hold. What the kernel would give back at once (page cache) counts as available."""

    def __init__(self, read: Callable[[], Any] = psutil.virtual_memory) -> None:
        self._read = read

    def measure(self) -> Measurement:
        """Return ``used`` (1 - available / total), ``available_bytes`` and ``total_bytes``."""
        memory = self._read()
        return Measurement(
            [
                Reading("used", 1 - memory.available / memory.total, "ratio"),
                Reading("available_bytes", memory.available, "bytes"),
                Reading("total_bytes", memory.total, "bytes"),
            ]
        )


class SwapProbe:
    """Swap in use, and the traffic to and from it since the last run."""

    def __init__(self, read: Callable[[], Any] = psutil.swap_memory, timing: Timing = REAL_TIME) -> None:
        self._sampler: Sampler[Any] = Sampler(read, lambda swap: {"": (swap.sin, swap.sout)}, timing)

    def measure(self) -> Measurement:
        """Return ``used``, ``used_bytes``, ``in_bytes_per_second`` and ``out_bytes_per_second``."""
        window = self._sampler.window()
        swap = window.latest
        if swap.total == 0:
            raise NoData("this machine has no swap")
        came_in, went_out = window.growth[""]
        return Measurement(
            [
                Reading("used", swap.used / swap.total, "ratio"),
                Reading("used_bytes", swap.used, "bytes"),
                Reading("in_bytes_per_second", came_in / window.seconds, "bytes_per_second"),
                Reading("out_bytes_per_second", went_out / window.seconds, "bytes_per_second"),
            ]
        )
