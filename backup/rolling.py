"""Which packs to read next, so that every pack is read within N days: the same state always gives the same choice.

Random sampling never gets there: 1 % a day has covered 97 % in expectation after a year, and everything with a
probability of about nought. Here the packs that nobody has proved for longest come first. Pure; reads nothing.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from backup.pack_memory import PackRow

_MARGIN_RUNS = 1
"""Runs in each period that may fail or not take place, and still every pack is read in time."""


def portion_bytes(total_bytes: int, within: timedelta, spacing: timedelta) -> int:
    """Say how much one run has to read, when runs are ``spacing`` apart, to have read ``total_bytes`` in time."""
    runs = max(1, within // max(spacing, timedelta(seconds=1)) - _MARGIN_RUNS)
    return -(-total_bytes // runs)


def choose(packs: Iterable[PackRow], now: datetime, within: timedelta, spacing: timedelta) -> list[str]:
    """Choose what this run reads, in the order of reading.

    First what was damaged when last read, whatever it costs, since only another reading can clear it. Then packs that
    were never verified, then those verified longest ago, until the run's portion is full. Whatever would be too old by
    the time of the run after next is read in any case.
    """
    known = list(packs)
    ranked = sorted(known, key=lambda row: (row.problem is None, row.verified_at is not None, row.unverified_since,
                                            row.pack))  # fmt: skip
    left = portion_bytes(sum(row.size for row in known), within, spacing)
    last_call = now + (1 + _MARGIN_RUNS) * spacing - within
    chosen = []
    for row in ranked:
        if row.problem is not None or left > 0 or row.unverified_since < last_call:
            chosen.append(row.pack)
            left -= row.size
    return chosen
