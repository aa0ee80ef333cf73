"""The plans of one daemon: read again when a file changes, judged, shown, and turned into results for the monitor.

A plan that cannot be read is an alert, never a reason to refuse the settings: who mistypes a date in a plan still
wants his backups. Everything here only reads; people write by the command line.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from backup.errors import BackupError
from config.plan_files import Plan, PlanBook, plan_files, read_plans
from config.said import Said, listed
from config.settings import Settings
from keepwatch.bridge import PLANS
from keepwatch.plans.calling import plan_for_alert
from keepwatch.plans.checking import Care, Finding, findings, review_due_at
from keepwatch.plans.log import PlanLog
from keepwatch.plans.records import NOTHING, PlanRecord, Records
from keepwatch.view import CarryOutView, ExerciseView, ImprovementView, PlanStepView, PlanView
from keepwatch.viewing import PlansPart
from monitor.result import Result, Status

_OF_EACH_PLAN = (Care.REVIEW, Care.OWNER, Care.EXERCISE, Care.NAMES)


class Shelf:
    """The folder of plans and their log. All methods belong to one thread."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._log = PlanLog(log)
        self._book: tuple[tuple[object, ...], PlanBook] | None = None
        self._problem: str | None = None
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Go by these settings."""
        self._settings = settings
        self._book = None

    @property
    def book(self) -> PlanBook:
        """The plans as they stand in their files now."""
        folder = self._settings.plans.folder
        signature = _signature(folder) if folder else ()
        if self._book is None or self._book[0] != signature:
            self._book = (signature, read_plans(folder) if folder else PlanBook())
        return self._book[1]

    @property
    def problem(self) -> str | None:
        """Why the log could not be read when last asked; None when it could."""
        return self._problem

    def called_for(self, check: str, entity: str) -> str | None:
        """Return the plan that an alert calls for and its owner, in a line for messages; None when there is none."""
        called = plan_for_alert(self.book.plans, check, entity)
        return called.text() if called else None

    def results(self, now: datetime) -> list[Result]:
        """Judge every plan once, for the monitor: an entity for each plan and care, so that each is its own alert."""
        book = self.book
        found: dict[tuple[str, Care], list[Finding]] = {("", Care.RISKS): []}
        found |= {(plan.name, care): [] for plan in book.plans for care in _OF_EACH_PLAN}
        for finding in findings(book, self._settings, self._records(), now):
            found.setdefault((finding.plan, finding.care), []).append(finding)
        return [_result(plan, care, about, now) for (plan, care), about in found.items()]

    def part(self, now: datetime, firing: Iterable[tuple[str, str]] = ()) -> PlansPart:
        """Return what is shown. ``firing``: check and title of each alert that fires now."""
        book, records, firing = self.book, self._records(), list(firing)
        found = findings(book, self._settings, records, now)
        return PlansPart(
            tuple(
                self._view(
                    plan, records.get(plan.name, NOTHING), [f.message for f in found if f.plan == plan.name], firing
                )
                for plan in book.plans
            ),
            tuple(f.message if f.care is Care.RISKS else str(f) for f in found if f.care in (Care.FILE, Care.RISKS)),
        )

    def _records(self) -> Records:
        try:
            records = self._log.records()
        except BackupError as error:
            self._problem = str(error)
            return {}
        self._problem = None
        return records

    def _view(
        self, plan: Plan, record: PlanRecord, cares: list[str], firing: list[tuple[str, str]]
    ) -> PlanView:
        head, last, going_on = plan.head, record.last_exercise, record.under_way
        return PlanView(
            name=plan.name,
            title=head.title,
            owner=head.owner,
            deputies=tuple(head.deputies),
            contacts=tuple((contact.name, contact.role, contact.reach) for contact in head.contacts),
            risk=listed([Said(head.risk.kind), Said(head.risk.likelihood), Said(head.risk.impact)]),
            scope=head.scope,
            introduction=plan.introduction,
            rto_seconds=head.rto.total_seconds(),
            rpo_seconds=head.rpo.total_seconds(),
            review_due_at=review_due_at(plan, record, self._settings.daemon.zone),
            proven_at=record.proven_at(by_steps=not head.restore),
            steps=tuple(_steps(plan, record)),
            alerts=tuple(head.alerts),
            called_by=tuple(title for check, title in firing if {check, title} & set(head.alerts)),
            last_exercise=ExerciseView(
                last.verdict.value, last.ended_at, last.by, last.rto_seconds, last.rpo_seconds, len(last.drilled),
                last.shortfalls,
            ) if last else None,
            improvements=tuple(
                ImprovementView(one.number, one.what, one.opened_at) for one in record.open_improvements
            ),
            findings=tuple(cares),
            under_way=CarryOutView(going_on.by, going_on.reason, going_on.rehearsal, going_on.started_at)
            if going_on else None,
        )  # fmt: skip


def _steps(plan: Plan, record: PlanRecord) -> Iterable[PlanStepView]:
    for step in plan.steps:
        tick = record.under_way.tick_of(step.number) if record.under_way else None
        done = (tick.at, tick.by, tick.note) if tick else (None, "", "")
        yield PlanStepView(step.number, step.title, step.person, step.goal, step.text, *done)


def _result(plan: str, care: Care, about: list[Finding], now: datetime) -> Result:
    entity = f"{plan}: {care}" if plan else care.value
    if not about:
        return Result(PLANS, entity, Status.OK, Said("in order"), now, 0.0)
    first = about[0]
    message = first.message
    if plan and care is not Care.FILE:
        message = Said("plan %(plan)s %(what)s", plan=plan, what=message)
    if about[1:]:
        more = Said("and %(count)s more", count=len(about) - 1)
        message = Said("%(first)s; %(second)s", first=message, second=more)
    message = Said("%(first)s; %(second)s", first=message, second=first.hint)
    return Result(PLANS, entity, Status.WARNING, message, now, 0.0)


def _signature(folder: Path) -> tuple[object, ...]:
    """Return what changes when any plan does."""
    found: list[object] = []
    for file in plan_files(folder):
        try:
            status = os.stat(file)
        except OSError:
            found.append(file)
        else:
            found.append((file, status.st_mtime_ns, status.st_size))
    return tuple(found)
