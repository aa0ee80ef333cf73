"""How well the kernel's clock is disciplined, by adjtimex(2). Reads only: ``modes`` is 0, which needs no rights.

The structure and its units are of <sys/timex.h>: offset in micro- or nanoseconds by STA_NANO, frequencies in parts per
million with 16 bits of fraction.
"""

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from monitor.node.reading import Machine, one

_STA_NANO = 0x2000
_TIME_ERROR = 5
_PPM_16 = 65_536 * 1e6


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long),
        ("precision", ctypes.c_long), ("tolerance", ctypes.c_long), ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long), ("tick", ctypes.c_long), ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long), ("shift", ctypes.c_int), ("stabil", ctypes.c_long), ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long), ("errcnt", ctypes.c_long), ("stbcnt", ctypes.c_long), ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )  # fmt: skip


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What adjtimex(2) tells. ``offset_seconds`` is what is left to correct, positive or negative."""

    synchronized: bool
    offset_seconds: float
    max_error_seconds: float


def ask_kernel() -> tuple[KernelClock, _Timex]:
    """Return how the clock stands, and the structure it was read from. Raises OSError."""
    found = _Timex()
    state = _libc().adjtimex(ctypes.byref(found))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"asking the kernel for its clock: {os.strerror(code)}")
    unit = 1e9 if found.status & _STA_NANO else 1e6
    return KernelClock(state != _TIME_ERROR, found.offset / unit, found.maxerror / 1e6), found


def timex(_: Machine) -> Iterator[str]:
    """Offset, errors, frequency and whether the clock is synchronised. Raises OSError."""
    clock, found = ask_kernel()
    for name, documentation, value in (
        ("offset_seconds", "Time offset in between local system and reference clock.", clock.offset_seconds),
        ("frequency_adjustment_ratio", "Local clock frequency adjustment.", 1 + found.freq / _PPM_16),
        ("maxerror_seconds", "Maximum error in seconds.", clock.max_error_seconds),
        ("estimated_error_seconds", "Estimated error in seconds.", found.esterror / 1e6),
        ("status", "Value of the status array bits.", found.status),
        ("loop_time_constant", "Phase-locked loop time constant.", found.constant),
        ("tick_seconds", "Seconds between clock ticks.", found.tick / 1e6),
        ("tai_offset_seconds", "International Atomic Time (TAI) offset.", found.tai),
        ("sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no).", int(clock.synchronized)),
    ):
        yield one(f"node_timex_{name}", "gauge", documentation, value)
