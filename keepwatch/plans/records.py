"""What has become of the plans: reviews, exercises, improvements, carrying out. Values, and how they follow from a log.

The log of plans only grows (:mod:`keepwatch.plans.log`); everything here is a fold over its lines, so nothing can be
lost but with the log itself, and whoever doubts a figure can follow it to its line. Decides nothing about time.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from backup.errors import BackupError
from backup.journal import JournalLine


class Verdict(StrEnum):
    """What an exercise showed."""

    PASSED = "PASSED"
    """Everything came back, in time and young enough."""
    SHORT = "SHORT"
    """Everything came back, too late or too old."""
    FAILED = "FAILED"
    """Something did not come back."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Nobody can say."""

    @property
    def proves(self) -> bool:
        """Whether everything came back."""
        return self in (Verdict.PASSED, Verdict.SHORT)


@dataclass(frozen=True, slots=True)
class Review:
    """Somebody has read the plan and found it right."""

    at: datetime.datetime
    by: str
    next_on: datetime.date
    """Day until which it has to be read again."""
    note: str
    digest: str
    """SHA-256 of the file that was read."""


@dataclass(frozen=True, slots=True)
class DrilledJob:
    """One job of an exercise."""

    job: str
    repository: str
    outcome: str
    """As its run ended: ``passed``, ``failed``, ``inconclusive``, ...; ``left out`` when what it needs was not back."""
    message: str
    snapshot: str = ""
    rto_seconds: float | None = None
    """From opening the repository to the last byte; None when not everything came back."""
    rpo_seconds: float | None = None
    """Age of the data that came back."""
    took_seconds: float = 0.0
    """The whole drill, comparison included."""

    @property
    def is_back(self) -> bool:
        """Whether it came back whole."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True)
class Exercise:
    """The plan's scenario carried out by drills."""

    plan: str
    by: str
    started_at: datetime.datetime
    ended_at: datetime.datetime
    verdict: Verdict
    took_seconds: float
    """The one clock over all, proofs included."""
    rto_seconds: float | None
    """The same clock without the time that proving took; None when not everything came back."""
    rpo_seconds: float | None
    """Age of the oldest data that came back; None when not everything did."""
    rto_target_seconds: float
    rpo_target_seconds: float
    drilled: tuple[DrilledJob, ...]
    shortfalls: tuple[str, ...]
    """What fell short; each became an improvement."""
    digest: str
    line: int = 0
    """Its place in the log."""


@dataclass(frozen=True, slots=True)
class Improvement:
    """Something that fell short, until a person closes it."""

    number: int
    """Counted from 1 over all plans."""
    plan: str
    what: str
    opened_at: datetime.datetime
    closed_at: datetime.datetime | None = None
    closed_by: str = ""
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it still has to be seen to."""
        return self.closed_at is None


@dataclass(frozen=True, slots=True)
class Tick:
    """A step that somebody has done."""

    step: int
    title: str
    at: datetime.datetime
    by: str
    note: str


@dataclass(frozen=True, slots=True)
class CarryOut:
    """The plan carried out step by step, in earnest or as a rehearsal."""

    plan: str
    by: str
    reason: str
    rehearsal: bool
    started_at: datetime.datetime
    ticks: tuple[Tick, ...] = ()
    ended_at: datetime.datetime | None = None
    ended_by: str = ""
    note: str = ""

    def tick_of(self, step: int) -> Tick | None:
        """Return how a step was done; None while it is not."""
        return next((tick for tick in self.ticks if tick.step == step), None)


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """Everything about one plan, oldest first."""

    reviews: tuple[Review, ...] = ()
    exercises: tuple[Exercise, ...] = ()
    improvements: tuple[Improvement, ...] = ()
    carry_outs: tuple[CarryOut, ...] = ()

    @property
    def last_exercise(self) -> Exercise | None:
        """The latest exercise, whatever it showed."""
        return self.exercises[-1] if self.exercises else None

    @property
    def open_improvements(self) -> tuple[Improvement, ...]:
        """What still has to be seen to."""
        return tuple(improvement for improvement in self.improvements if improvement.is_open)

    @property
    def under_way(self) -> CarryOut | None:
        """The carrying out that has not ended."""
        return next((one for one in reversed(self.carry_outs) if one.ended_at is None), None)

    def proven_at(self, *, by_steps: bool) -> datetime.datetime | None:
        """Return when the plan was last shown to work.

        By an exercise that brought everything back, or, ``by_steps``, where there is nothing to bring back, by a
        carrying out that came to its end.
        """
        moments = [exercise.ended_at for exercise in self.exercises if exercise.verdict.proves]
        if by_steps:
            moments += [one.ended_at for one in self.carry_outs if one.ended_at is not None]
        return max(moments, default=None)


NOTHING = PlanRecord()
Records = Mapping[str, PlanRecord]
"""By plan."""


def fold(lines: Iterable[JournalLine]) -> dict[str, PlanRecord]:
    """Return the record of each plan that the log speaks of. Lines of kinds that are not known are passed over.

    Raises BackupError for a line that lacks what its kind has: somebody has edited it.
    """
    found: dict[str, PlanRecord] = {}
    opened = 0
    for line in lines:
        record: Mapping[str, Any] = line.record
        try:
            apply = _EVENTS.get(str(record.get("event")))
            if apply is None:
                continue
            at = datetime.datetime.fromisoformat(line.at)
            plan = str(record["plan"])
            after = apply(found.get(plan, NOTHING), record, at)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BackupError(
                f"could not read line {line.line} of the log of plans: {type(error).__name__}: {error}",
                hint="`keepwatch diagnose` says whether the line was changed; bring the file back from a backup",
            ) from error
        if record["event"] == "exercised":
            exercise = replace(after.exercises[-1], line=line.line)
            improvements = tuple(
                Improvement(opened + count, plan, what, at) for count, what in enumerate(exercise.shortfalls, 1)
            )
            opened += len(improvements)
            after = replace(
                after, exercises=(*after.exercises[:-1], exercise), improvements=after.improvements + improvements
            )
        found[plan] = after
    return found


def _reviewed(before: PlanRecord, record: Mapping[str, Any], at: datetime.datetime) -> PlanRecord:
    next_on = datetime.date.fromisoformat(record["next_on"])
    review = Review(at, record["by"], next_on, record["note"], record["digest"])
    return replace(before, reviews=(*before.reviews, review))


def _exercised(before: PlanRecord, record: Mapping[str, Any], at: datetime.datetime) -> PlanRecord:
    values = {name: record[name] for name in Exercise.__slots__ if name in record}
    values |= {
        "started_at": datetime.datetime.fromisoformat(record["started_at"]),
        "ended_at": at,
        "verdict": Verdict(record["verdict"]),
        "drilled": tuple(DrilledJob(**row) for row in record["drilled"]),
        "shortfalls": tuple(record["shortfalls"]),
    }
    return replace(before, exercises=(*before.exercises, Exercise(**values)))


def _closed(before: PlanRecord, record: Mapping[str, Any], at: datetime.datetime) -> PlanRecord:
    closed = tuple(
        replace(one, closed_at=at, closed_by=record["by"], note=record["note"])
        if one.number == record["improvement"] and one.is_open
        else one
        for one in before.improvements
    )
    return replace(before, improvements=closed)


def _started(before: PlanRecord, record: Mapping[str, Any], at: datetime.datetime) -> PlanRecord:
    begun = CarryOut(record["plan"], record["by"], record["reason"], record["rehearsal"], at)
    return replace(before, carry_outs=(*before.carry_outs, begun))


def _ticked(before: PlanRecord, record: Mapping[str, Any], at: datetime.datetime) -> PlanRecord:
    tick = Tick(record["step"], record["title"], at, record["by"], record["note"])
    return _last_carry_out(before, lambda one: replace(one, ticks=(*one.ticks, tick)))


def _finished(before: PlanRecord, record: Mapping[str, Any], at: datetime.datetime) -> PlanRecord:
    return _last_carry_out(
        before, lambda one: replace(one, ended_at=at, ended_by=record["by"], note=record["note"])
    )


def _last_carry_out(before: PlanRecord, change: Callable[[CarryOut], CarryOut]) -> PlanRecord:
    if not before.carry_outs:
        return before
    return replace(before, carry_outs=(*before.carry_outs[:-1], change(before.carry_outs[-1])))


_EVENTS: Mapping[str, Callable[[PlanRecord, Mapping[str, Any], datetime.datetime], PlanRecord]] = {
    "reviewed": _reviewed,
    "exercised": _exercised,
    "improvement closed": _closed,
    "started": _started,
    "step done": _ticked,
    "finished": _finished,
}
"""The kinds of lines in the log."""
