"""Which plans need care: a pure judgement from plans, settings, records and ``now``.

Found are: a plan that cannot be read, past its review, without owner, never or not lately exercised, naming a job, a
repository or an alert that is not there, and a kind of risk without any plan. Whether a plan is *good* is for people.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum

from config.documents import Place
from config.plan_files import Plan, PlanBook
from config.plans import RISK_KINDS
from config.said import Said
from config.settings import Settings
from config.units import format_duration
from config.wording import suggestion
from keepwatch import bridge
from keepwatch.plans.records import NOTHING, PlanRecord, Records


class Care(StrEnum):
    """What about a plan needs care."""

    FILE = "file"
    REVIEW = "review"
    OWNER = "owner"
    EXERCISE = "exercise"
    NAMES = "names"
    RISKS = "risks"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to see to. Prints as ``file:line: plan NAME: what``."""

    care: Care
    plan: str
    """Empty for a risk that no plan covers."""
    message: str
    hint: str
    place: Place | None = None

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{f'plan {self.plan}: ' if self.plan else ''}{self.message}"


def review_due_on(plan: Plan, record: PlanRecord) -> date:
    """Return the last day on which the plan need not be read again: what the file says, or the latest review."""
    return max([plan.head.review_by, *(review.next_on for review in record.reviews[-1:])])


def review_due_at(plan: Plan, record: PlanRecord, zone: tzinfo) -> datetime:
    """Return the moment from which the review is overdue: the end of that day in the operator's zone."""
    after = review_due_on(plan, record) + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=zone)


def known_alerts(settings: Settings) -> list[str]:
    """Return every check and alert that a plan may name: configured checks, and what the daemon judges by itself."""
    return [*(check.name for check in settings.checks), *bridge.policies(settings.jobs, settings.repositories)]


def findings(book: PlanBook, settings: Settings, records: Records, now: datetime) -> list[Finding]:
    """Judge every plan; by plan, then in the order of :class:`Care`."""
    found = [
        Finding(
            Care.FILE, problem.file.stem if problem.file else "",
            f"{problem.path}: {problem.problem}".removeprefix(": "),
            Said("put the line right; `keepwatch plan check` reads it again"), Place(problem.file, problem.line or 1),
        )
        for problem in book.problems
    ]  # fmt: skip
    for plan in book.plans:
        found += of_plan(plan, settings, records.get(plan.name, NOTHING), now)
    return found + list(_uncovered(book, settings))


def of_plan(plan: Plan, settings: Settings, record: PlanRecord, now: datetime) -> Iterator[Finding]:
    """Judge one plan."""
    yield from _review(plan, record, now, settings.daemon.zone)
    if not plan.head.owner.strip():
        hint = Said('name somebody who answers for it: owner = "NAME"')
        yield Finding(Care.OWNER, plan.name, Said("has no owner"), hint, plan.place("owner"))
    yield from _exercise(plan, record, now, settings.plans.exercise_within)
    yield from _names(plan, settings)


def _review(plan: Plan, record: PlanRecord, now: datetime, zone: tzinfo) -> Iterator[Finding]:
    if now >= review_due_at(plan, record, zone):
        message = Said("was to be reviewed by %(day)s", day=str(review_due_on(plan, record)))
        command = f"keepwatch plan review {plan.name} --next YYYY-MM-DD"
        hint = Said("read it, put it right, then: %(command)s", command=command)
        yield Finding(Care.REVIEW, plan.name, message, hint, plan.place("review_by"))


def _exercise(plan: Plan, record: PlanRecord, now: datetime, within: timedelta) -> Iterator[Finding]:
    proven_at = record.proven_at(by_steps=not plan.head.restore)
    how = f"keepwatch plan {'exercise' if plan.head.restore else 'start'} {plan.name}"
    if proven_at is not None and now - proven_at <= within:
        return
    last = record.last_exercise
    if proven_at is not None:
        times = {"age": format_duration(now - proven_at), "limit": format_duration(within)}
        message = Said("was last shown to work %(age)s ago, allowed %(limit)s", **times)
    elif last is not None:
        message = Said("was never shown to work; its last exercise ended %(verdict)s", verdict=Said(last.verdict))
        if last.shortfalls:
            message = Said("%(message)s: %(note)s", message=message, note="; ".join(last.shortfalls))
    else:
        message = Said("was never exercised")
    hint = Said("exercise it: %(command)s", command=how)
    yield Finding(Care.EXERCISE, plan.name, message, hint, plan.place("restore"))


def _names(plan: Plan, settings: Settings) -> Iterator[Finding]:
    for index, restore in enumerate(plan.head.restore):
        job = settings.jobs.get(restore.job)
        if job is None:
            message = Said("restores job '%(job)s', which is not there", job=restore.job)
            message = _with(message, suggestion(restore.job, settings.jobs))
            yield _misnamed(plan, message, plan.place("restore", index, "job"))
        elif restore.repository and restore.repository not in job.repositories:
            message = Said(
                "restores job '%(job)s' from repository '%(repository)s', where it is not saved", job=restore.job,
                repository=restore.repository,
            )  # fmt: skip
            message = _with(message, suggestion(restore.repository, job.repositories))
            yield _misnamed(plan, message, plan.place("restore", index, "repository"))
    known = known_alerts(settings)
    for index, name in enumerate(plan.head.alerts):
        if not any(name == check or name.startswith(f"{check} ") for check in known):  # or a check and its entity
            message = _with(Said("names alert '%(alert)s', which no check gives", alert=name), suggestion(name, known))
            yield _misnamed(plan, message, plan.place("alerts", index))


def _with(message: Said, more: str) -> Said:
    return Said("%(message)s%(more)s", message=message, more=more) if more else message


def _misnamed(plan: Plan, message: str, place: Place) -> Finding:
    return Finding(Care.NAMES, plan.name, message, Said("put the name right, or the plan if the thing is gone"), place)


def _uncovered(book: PlanBook, settings: Settings) -> Iterator[Finding]:
    if book.problems:  # a plan that could not be read may cover it
        return
    wanted = settings.plans.risks
    if wanted is None:
        wanted = list(RISK_KINDS) if book.plans else []
    covered = {plan.head.risk.kind for plan in book.plans}
    for kind in wanted:
        if kind not in covered:
            folder = str(settings.plans.folder)
            hint = Said("write one into %(folder)s, or name the risks that count in plans.risks", folder=folder)
            yield Finding(Care.RISKS, "", Said("no plan for the risk of %(risk)s", risk=Said(kind)), hint)
