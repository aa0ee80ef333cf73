"""The log of plans, STATE/plans.jsonl: what people and exercises did, hash-chained like the journal of drills.

It is the only place where this is kept: unlike runs and drills, which a repository proves anew, that Anna closed an
improvement is nowhere else, and a catalog may be lost. Every act is one line; its state is the fold over them. An
exercise names the last line of the drill journal and its hash, which ties both chains together.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path

from backup.errors import BackupError
from backup.journal import Journal
from config.plan_files import Plan, Step
from keepwatch.errors import KeepwatchError
from keepwatch.plans.records import NOTHING, CarryOut, Exercise, Improvement, PlanRecord, Records, fold


class PlanRefused(KeepwatchError):  # noqa: N818 - nothing went wrong
    """What was asked for does not fit the state of the plan."""


class PlanLog:
    """The log at ``path``. Several processes may write; each reads it again when it has grown."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path)
        self._read: tuple[tuple[int, int], dict[str, PlanRecord]] | None = None

    def records(self) -> Records:
        """Return what has become of every plan. Raises BackupError when the log cannot be read."""
        signature = self._signature()
        if self._read is None or self._read[0] != signature:
            self._read = (signature, fold(self.journal.lines()))
        return self._read[1]

    def of(self, plan: str) -> PlanRecord:
        """Return what has become of one plan."""
        return self.records().get(plan, NOTHING)

    def review(self, plan: Plan, *, by: str, next_on: date, note: str, now: datetime) -> None:
        """Note that somebody has read the plan. Raises PlanRefused when the next day is no later day."""
        if next_on <= now.date():
            raise PlanRefused(
                f"a review of plan {plan.name} until {next_on} would be over already", hint="name a later day"
            )
        self._append(
            now, "reviewed", plan.name, by=by, next_on=next_on.isoformat(), note=note, digest=plan.digest
        )

    def exercised(self, exercise: Exercise, drills: Journal) -> int:
        """Note an exercise and give its line. What fell short is open from here on."""
        checked = drills.verify()
        record = asdict(exercise)
        del record["plan"], record["line"]
        record |= {"started_at": exercise.started_at.isoformat(), "ended_at": exercise.ended_at.isoformat()}
        proof = {"drill_journal_lines": checked.lines, "drill_journal_hash": checked.last_hash}
        return self._append(exercise.ended_at, "exercised", exercise.plan, **record, **proof)

    def close(self, number: int, *, by: str, note: str, now: datetime) -> Improvement:
        """Note that an improvement was seen to. Raises PlanRefused: not without a word on how, and not twice."""
        known = [one for record in self.records().values() for one in record.improvements]
        found = next((one for one in known if one.number == number), None)
        if found is None:
            raise PlanRefused(f"there is no improvement {number}", hint="`keepwatch plan list` shows what is open")
        if not found.is_open:
            raise PlanRefused(f"improvement {number} was closed by {found.closed_by} at {found.closed_at:%Y-%m-%d}")
        if not note.strip():
            raise PlanRefused(f"improvement {number} is not closed without a word on how", hint="add --note")
        self._append(now, "improvement closed", found.plan, improvement=number, by=by, note=note)
        return found

    def start(self, plan: Plan, *, by: str, reason: str, rehearsal: bool, now: datetime) -> None:
        """Begin to carry the plan out. Raises PlanRefused while it is being carried out."""
        if going_on := self.of(plan.name).under_way:
            raise PlanRefused(
                f"plan {plan.name} is being carried out by {going_on.by} since {going_on.started_at:%m-%d %H:%M} UTC",
                hint=f"go on with `keepwatch plan tick {plan.name} STEP`; `keepwatch plan finish {plan.name}` ends it",
            )
        self._append(now, "started", plan.name, by=by, reason=reason, rehearsal=rehearsal, digest=plan.digest)

    def tick(self, plan: Plan, number: int, *, by: str, note: str, now: datetime) -> Step:
        """Note that a step is done. Raises PlanRefused when there is no such step or it is done already."""
        going_on = self._under_way(plan)
        step = next((step for step in plan.steps if step.number == number), None)
        if step is None:
            raise PlanRefused(f"plan {plan.name} has no step {number}", hint=f"it has steps 1 to {len(plan.steps)}")
        if done := going_on.tick_of(number):
            raise PlanRefused(f"step {number} of plan {plan.name} was done at {done.at:%H:%M} UTC by {done.by}")
        self._append(now, "step done", plan.name, step=number, title=step.title, by=by, note=note)
        return step

    def finish(self, plan: Plan, *, by: str, note: str, now: datetime) -> CarryOut:
        """End the carrying out. Raises PlanRefused when steps are open and no note says why."""
        going_on = self._under_way(plan)
        undone = [step.number for step in plan.steps if going_on.tick_of(step.number) is None]
        if undone and not note.strip():
            raise PlanRefused(
                f"steps {', '.join(map(str, undone))} of plan {plan.name} are not done",
                hint="tick them, or say with --note why they are left",
            )
        self._append(now, "finished", plan.name, by=by, note=note, undone=undone)
        return going_on

    def _under_way(self, plan: Plan) -> CarryOut:
        going_on = self.of(plan.name).under_way
        if going_on is None:
            raise PlanRefused(
                f"plan {plan.name} is not being carried out", hint=f"begin with `keepwatch plan start {plan.name}`"
            )
        return going_on

    def _append(self, now: datetime, event: str, plan: str, **record: object) -> int:
        line: Mapping[str, object] = {"event": event, "plan": plan, **record}
        return self.journal.append(line, now=now)

    def _signature(self) -> tuple[int, int]:
        try:
            status = os.stat(self.journal.path)
        except FileNotFoundError:
            return 0, 0
        except OSError as error:
            raise BackupError(f"could not read the log of plans {self.journal.path}: {error.strerror}") from error
        return status.st_mtime_ns, status.st_size
