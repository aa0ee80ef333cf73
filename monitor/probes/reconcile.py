"""Two places that must hold the same records, compared by key: what is missing, extra, different, misfiled, duplicate.

The left side is held in memory, the right one passes by once; a million records of each are the most. Meant to run in a
child (:class:`monitor.probes.in_child.InChild`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from monitor.probes.records import Record, Records
from monitor.result import Finding, Measurement, ProbeError, Reading, Status

MOST_RECORDS = 1_000_000
_EXAMPLES = 3
_KINDS = ("missing", "extra", "different", "misfiled", "duplicate")
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared: names of fields, in lower case."""

    key: Sequence[str]
    compare: Sequence[str] = ()
    place: Sequence[str] = ()


@dataclass(slots=True)
class _Tally:
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] += 1
        named = self.examples.setdefault(kind, [])
        if len(named) < _EXAMPLES:
            named.append(example)


class ReconcileProbe:
    """Compares ``left`` (what should be there) with ``right`` (what is)."""

    def __init__(
        self, left: Records, right: Records, comparison: Comparison, timeout_seconds: float, *, any_is_critical: bool
    ) -> None:
        self._left = left
        self._right = right
        self._comparison = comparison
        self._timeout_seconds = timeout_seconds
        self._any_is_critical = any_is_critical

    def measure(self) -> Measurement:
        """Return ``wrong``, its five parts and ``compared``; examples by key in the message. Raises ProbeError."""
        tally = _Tally()
        expected = self._index(tally)
        compared = self._pass_by(expected, tally)
        for key in expected:
            tally.add("missing", " ".join(key))
        wrong = sum(tally.counts[kind] for kind in _KINDS)
        readings = [Reading("wrong", wrong, "count")]
        readings += [Reading(kind, tally.counts[kind], "count") for kind in _KINDS]
        readings.append(Reading("compared", compared, "count"))
        if not wrong:
            return Measurement(readings)
        told = told_of(tally.counts, tally.examples)
        if self._any_is_critical:
            return Measurement(readings, Finding(Status.CRITICAL, told))
        return Measurement(readings, notes={"": told})

    def _index(self, tally: _Tally) -> dict[Key, Record]:
        """Return the left side by key, reduced to what is compared."""
        wanted = (*self._comparison.compare, *self._comparison.place)
        found: dict[Key, Record] = {}
        for number, record in enumerate(self._left.read(self._timeout_seconds)):
            _refuse_beyond(number, "left")
            key = self._key(record, "left")
            if key in found:
                tally.add("duplicate", f"{' '.join(key)} (left)")
            else:
                found[key] = {name: _field(record, name, "left") for name in wanted}
        return found

    def _pass_by(self, expected: dict[Key, Record], tally: _Tally) -> int:
        """Hold each record on the right against its other half, which is taken out. Return how many had one."""
        seen: set[Key] = set()
        compared = 0
        for number, record in enumerate(self._right.read(self._timeout_seconds)):
            _refuse_beyond(number, "right")
            key = self._key(record, "right")
            name = " ".join(key)
            if key in seen:
                tally.add("duplicate", f"{name} (right)")
                continue
            seen.add(key)
            other = expected.pop(key, None)
            if other is None:
                tally.add("extra", name)
                continue
            compared += 1
            for kind, fields in (("misfiled", self._comparison.place), ("different", self._comparison.compare)):
                differing = _differing(other, record, fields)
                if differing:
                    tally.add(kind, f"{name} ({differing})")
        return compared

    def _key(self, record: Record, side: str) -> Key:
        return tuple(_text(_field(record, name, side)) for name in self._comparison.key)


def told_of(counts: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> str:
    """Write what was found for people: ``2 missing: A-1, A-2; 1 different: A-3 (amount 10 / 12)``."""
    parts = []
    for kind in _KINDS:
        if counts.get(kind):
            more = ", ..." if counts[kind] > len(examples[kind]) else ""
            parts.append(f"{counts[kind]} {kind}: {', '.join(examples[kind])}{more}")
    return "; ".join(parts)


def _differing(left: Record, right: Record, fields: Sequence[str]) -> str:
    """Return the first of ``fields`` that are not the same, with both values; empty when all are."""
    for name in fields:
        mine, theirs = left[name], _field(right, name, "right")
        if not _same(mine, theirs):
            return f"{name} {_text(mine) or 'nothing'} / {_text(theirs) or 'nothing'}"
    return ""


def _field(record: Record, name: str, side: str) -> Any:
    try:
        return record[name.lower()]
    except KeyError:
        known = ", ".join(record)
        raise ProbeError(f"comparing: the {side} side has no field {name}", hint=f"it has: {known}") from None


def _same(left: Any, right: Any) -> bool:
    mine, theirs = _text(left), _text(right)
    if mine == theirs:
        return True
    try:
        return Decimal(mine) == Decimal(theirs)
    except InvalidOperation:
        return False


def _text(value: Any) -> str:
    """Write a value so that what means the same reads the same, whichever side and type it comes from."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _refuse_beyond(number: int, side: str) -> None:
    if number >= MOST_RECORDS:
        raise ProbeError(f"comparing: the {side} side has more than {MOST_RECORDS} records",
                         hint="compare a part of them, such as the last year")  # fmt: skip
