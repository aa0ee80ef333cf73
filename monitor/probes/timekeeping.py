"""How far the system clock is from true time, and whether somebody keeps it: chrony's word, or the kernel's.

ntpd and systemd-timesyncd correct through the kernel, which knows what is left to correct; chronyd corrects by itself.
"""

import csv
from collections.abc import Callable
from contextlib import suppress

from monitor.node.timex import KernelClock, ask_kernel
from monitor.probes.tool import Tool
from monitor.result import Measurement, NoData, ProbeError, Reading

_NOT_SYNCHRONISED = "Not synchronised"
_FIELDS = 14
"""Of ``chronyc -c tracking`` (chronyc(1)): reference, its name, stratum, when, offset of the system clock, last offset,
mean offset, frequency, residual, skew, root delay, root dispersion, interval, leap status. Seconds."""


class ClockProbe:
    """Asks chronyc first. ``kernel`` is adjtimex(2)."""

    def __init__(
        self,
        timeout_seconds: float,
        kernel: Callable[[], KernelClock] = lambda: ask_kernel()[0],
        path: str | None = None,
    ) -> None:
        self._chronyc = Tool(["chronyc", "-n", "-c", "tracking"], timeout_seconds, path=path)
        self._kernel = kernel

    def measure(self) -> Measurement:
        """Return ``offset`` (seconds, never negative), ``synchronized`` and ``max_error`` (seconds)."""
        clock = self._by_chrony() or self._by_kernel()
        return Measurement(
            [
                Reading("offset", abs(clock.offset_seconds), "seconds"),
                Reading("synchronized", int(clock.synchronized), "count"),
                Reading("max_error", clock.max_error_seconds, "seconds"),
            ]
        )

    def _by_chrony(self) -> KernelClock | None:
        # Installed and not running is no failure: then somebody else keeps the clock, or nobody, and the kernel knows.
        with suppress(NoData, ProbeError):
            rows = list(csv.reader(self._chronyc.text().splitlines()))
            if rows and len(rows[0]) >= _FIELDS:
                return _tracking(rows[0])
        return None

    def _by_kernel(self) -> KernelClock:
        try:
            return self._kernel()
        except OSError as error:
            raise ProbeError(f"asking the kernel for its clock: {error.strerror or error}") from error


def _tracking(row: list[str]) -> KernelClock:
    try:
        offset, delay, dispersion = float(row[4]), float(row[10]), float(row[11])
    except ValueError as error:
        raise ProbeError(f"reading chronyc's answer: {','.join(row)[:100]}") from error
    return KernelClock(row[13] != _NOT_SYNCHRONISED, offset, abs(offset) + dispersion + delay / 2)
