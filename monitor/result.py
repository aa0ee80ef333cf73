"""The values that pass from measuring to judging: readings, statuses and results.

A probe measures and returns readings; it never judges. The check runner turns readings into one Result an entity,
whatever happens. "No data" and "could not measure" are statuses of their own, never ok and never bad.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol


class Status(IntEnum):
    """Outcome of judging one entity; the number is what /metrics exports."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3
    """The probe failed: nobody can say how things are."""
    ABSENT = 4
    """This machine has no such thing: nothing to judge, never an alert."""

    @property
    def label(self) -> str:
        """Lower-case word for people and JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Reading:
    """One number in a base unit. ``entity`` names the device, interface or sensor; empty when the check has just one.

    Units: ``ratio`` (0 to 1), ``bytes``, ``bytes_per_second``, ``seconds``, ``celsius``, ``rpm``, ``per_second``,
    ``count`` (of whole things), ``number`` (anything else). A main reading that could not be measured beside others
    that could is NaN.
    """

    name: str
    value: float
    unit: str
    entity: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict that the probe's own protocol carries besides its readings: a refused connection, a plugin's exit."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a probe returns: readings, main one first for each entity, and, where the protocol says so, a finding."""

    readings: Sequence[Reading]
    finding: Finding | None = None
    missing: Sequence[str] = ()
    """Entities that the settings name and that are not there (an unplugged disk)."""
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """The same as ``finding`` for entities: a unit that failed, a container that calls itself ill."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Entity -> words behind its line in messages: which ones were counted, why it is so."""


class ProbeError(Exception):
    """The probe could not measure. The message says what was tried, on what, and why; ``hint`` what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NoData(Exception):  # noqa: N818 - it is not an error
    """This machine has no such thing to measure (no fan, no swap, no tool)."""


class Probe(Protocol):
    """Measures one thing. Paths, addresses and timeouts come in by constructor."""

    def measure(self) -> Measurement:
        """Measure now. Raises ProbeError or NoData. Never judges, notifies, prints or reads settings."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """One judged entity of one run of a check. ``message`` is one line for people, with value and bound."""

    check: str
    entity: str
    status: Status
    message: str
    at: datetime
    took_seconds: float
    readings: tuple[Reading, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    standing: Mapping[str, Status] = field(default_factory=dict)
    """Reading -> its own last judged status, for the next run to clear where it should; UNKNOWN carries it on."""
