"""When an alert comes and goes too often to be told each time: Nagios' weighted window, on what people would be told.

Each judged result leaves one bit: did it change what is told of the alert, be it that it fires, ends or gets worse or
better? Of the last twenty bits the newer ones weigh more (1.2 to 0.8). From 30 % on the alert is flapping, below 25 %
no longer. A check that wavers and never fires is not flapping: nobody would hear of it. Pure; what is told meanwhile is
decided in monitor/telling.py.
"""

from dataclasses import replace
from datetime import datetime

from monitor.alerting import Alert, Change, Transition

WINDOW = 20
BEGINS_AT, ENDS_AT = 0.30, 0.25
_MASK = (1 << WINDOW) - 1
_WEIGHTS = tuple(1.2 - 0.4 * age / (WINDOW - 1) for age in range(WINDOW))
"""By age of the result, the newest first; they sum up to the window."""


def share(flips: int) -> float:
    """Return how much of the window are changes, 0 to 1, weighted."""
    return sum(weight for age, weight in enumerate(_WEIGHTS) if flips >> age & 1) / WINDOW


def observe(before: Alert | None, after: Alert | None, now: datetime) -> tuple[Alert | None, Transition | None]:
    """Count one judged result that turned ``before`` into ``after``; return that with the window moved on.

    The transition says that flapping began or ended. An alert without a past stays one, since nothing of it was told.
    """
    if after is None:
        return None, None
    changed = _told(before) != _told(after)
    if not changed and after.flips == 0:
        return after, None
    flips = (after.flips << 1 | changed) & _MASK
    how_much = share(flips)
    flapping = how_much >= (ENDS_AT if after.flapping else BEGINS_AT)
    moved = replace(after, flips=flips, flapping=flapping)
    if flapping == after.flapping:
        return moved, None
    reason = f"{how_much:.0%} of its last {WINDOW} results, weighted, changed it"
    return moved, Transition(now, Change.FLAPPING if flapping else Change.STEADY, moved, reason)


def _told(alert: Alert | None) -> int:
    """0 for nothing to tell, else the severity."""
    return int(alert.severity) if alert is not None and alert.is_firing else 0
