"""Readings and thresholds in, a status out: pure, and the only place that says what counts as bad.

A reading raises a status at its threshold and clears it only further back, so that a value that hovers does not flap;
each reading stands for itself, so one that never raised cannot hold a status that another left behind. Critical
implies warning. A threshold whose reading did not come is reported as missing, never taken for fine.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from config.checks import Bound
from config.threshold import Threshold
from monitor.result import Reading, Status


@dataclass(frozen=True, slots=True)
class Breach:
    """A reading on the bad side of a bound, or not yet back behind its clear bound (``held``)."""

    status: Status
    reading: Reading
    bound: Bound
    held: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one entity's readings amount to."""

    status: Status
    breach: Breach | None = None
    """The worst one; the first written when several are as bad."""
    missing: tuple[str, ...] = ()
    """Readings that bounds name (``""`` for the main one) and that were not given, or are not finite numbers."""
    standing: Mapping[str, Status] = field(default_factory=dict)
    """Status of each reading that has bounds; hand it to the next call."""


def judge(
    readings: Sequence[Reading], warning: Sequence[Bound], critical: Sequence[Bound], before: Mapping[str, Status]
) -> Verdict:
    """Judge one entity. ``readings``: main one first. ``before``: the ``standing`` of the last verdict, empty at first;
    its key ``""`` stands for every reading not named.
    """
    by_name = {reading.name: reading for reading in reversed(readings) if math.isfinite(reading.value)}
    main = readings[0].name if readings else ""
    breaches: list[Breach] = []
    missing: list[str] = []
    standing: dict[str, Status] = {}
    others = before.get("", Status.OK)
    for status, bound in _worst_first(warning, critical):
        name = bound.reading or main
        reading = by_name.get(name)
        if reading is None:
            missing.append(name)
            standing[name] = before.get(name, others)
            continue
        standing.setdefault(name, Status.OK)
        raised = bound.raise_.is_past(reading.value)
        if raised or (before.get(name, others) >= status and held_by(bound, reading).is_past(reading.value)):
            breaches.append(Breach(status, reading, bound, held=not raised))
            standing[name] = max(standing[name], status)
    worst = breaches[0] if breaches else None
    return Verdict(worst.status if worst else Status.OK, worst, tuple(dict.fromkeys(missing)), standing)


def held_by(bound: Bound, reading: Reading) -> Threshold:
    """Return what holds as long as a raised ``bound`` is not over.

    A default that would lie between two whole numbers of a count moves to the bound itself, since a process count that
    must not be ``< 1`` is fine at 1, and not only at 1.1.
    """
    until = bound.until
    if bound.clear is None and reading.unit == "count":
        back = until.bound - bound.raise_.bound
        return replace(until, bound=bound.raise_.bound + math.copysign(math.floor(abs(back)), back))
    return until


def _worst_first(warning: Iterable[Bound], critical: Iterable[Bound]) -> Iterator[tuple[Status, Bound]]:
    yield from ((Status.CRITICAL, bound) for bound in critical)
    yield from ((Status.WARNING, bound) for bound in warning)
