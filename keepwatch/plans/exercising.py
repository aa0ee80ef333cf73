"""An exercise: the plan's jobs come back by real restore drills, in the order of their dependencies, under one clock.

Each job is drilled at its own level by the same code as every drill, so an exercise proves what a drill proves, and
leaves its lines in the drill journal. The clock over all runs from the first job's start to the last one's end; what
the plan promises is compared with that clock less the time that proving took, since nobody compares bytes in an
emergency. A job whose predecessor did not come back is left out and says so.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from backup.journal import Journal
from config.plan_files import Plan
from config.plans import Restore
from config.settings import Settings
from config.units import format_duration
from keepwatch.errors import AlreadyRunning, UsageError
from keepwatch.orders import Ending, Order, Progress
from keepwatch.plans.log import PlanLog
from keepwatch.plans.records import DrilledJob, Exercise, Verdict
from keepwatch.state import StateDirectory

_WAIT_SECONDS = 300.0
"""How long a job's own run may be in the way."""
_LOOK_EVERY_SECONDS = 1.0

_NO_FAULT = ("passed", "left out", "interrupted")
"""Outcomes that open no improvement of their own."""

CarryOutOrder = Callable[[Order], Ending]
"""Carries one drill out; raises AlreadyRunning when the job is at work elsewhere."""


def exercise(
    plan: Plan,
    settings: Settings,
    state: StateDirectory,
    *,
    by: str,
    clock: Callable[[], datetime],
    carry_out: CarryOutOrder,
    stop: threading.Event,
    progress: Callable[[Restore, Progress | None], None] = lambda _restore, _progress: None,
) -> Exercise:
    """Carry the scenario out, record it, and return what it showed.

    ``progress`` is told of each job as it begins. Raises UsageError when the plan restores nothing or names a job that
    is not there, and AlreadyRunning when the same plan is being exercised elsewhere.
    """
    orders = [(restore, _order(plan, restore, settings)) for restore in plan.in_order]
    if not orders:
        raise UsageError(
            f"plan {plan.name} restores no job, so there is nothing to drill",
            hint=f"rehearse its steps instead: keepwatch plan start {plan.name} --rehearsal",
        )
    with state.lock(f"plan-{plan.name}", what=f"an exercise of plan {plan.name}"):
        started_at, began = clock(), time.monotonic()
        drilled: list[DrilledJob] = []
        for restore, order in orders:
            progress(restore, None)
            drilled.append(_drill(restore, order, drilled, carry_out, stop))
        done = judge(plan, tuple(drilled), by, started_at, clock(), time.monotonic() - began)
        PlanLog(state.plan_log).exercised(done, Journal(state.journal))
    return done


def _order(plan: Plan, restore: Restore, settings: Settings) -> Order:
    job = settings.jobs.get(restore.job)
    if job is None:
        raise UsageError(
            f"plan {plan.name} restores job {restore.job}, which is not there", hint="keepwatch plan check shows more"
        )
    usual = (job.drill.repository if job.drill else None) or job.repositories[0]
    chosen = restore.repository or usual
    if chosen not in job.repositories:
        raise UsageError(
            f"plan {plan.name} restores job {restore.job} from repository {chosen}, where it is not saved",
            hint="keepwatch plan check shows more",
        )
    return Order(0, "drill", restore.job, chosen, snapshot="latest")


def _drill(
    restore: Restore, order: Order, before: list[DrilledJob], carry_out: CarryOutOrder, stop: threading.Event
) -> DrilledJob:
    missing = [one.job for one in before if one.job in restore.after and not one.is_back]
    if missing:
        return DrilledJob(order.job, order.repository, "left out", f"{', '.join(missing)} did not come back")
    if stop.is_set():
        return DrilledJob(order.job, order.repository, "interrupted", "the exercise was stopped")
    began, deadline = time.monotonic(), time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            ending = carry_out(order)
            break
        except AlreadyRunning as busy:
            if time.monotonic() > deadline or stop.wait(_LOOK_EVERY_SECONDS):
                return DrilledJob(order.job, order.repository, "inconclusive", str(busy))
            began = time.monotonic()
    return DrilledJob(
        order.job, order.repository, ending.outcome, ending.message, ending.snapshot,
        ending.figures.get("rto_seconds"), ending.figures.get("rpo_seconds"), time.monotonic() - began,
    )  # fmt: skip


def judge(
    plan: Plan, drilled: tuple[DrilledJob, ...], by: str, started_at: datetime, ended_at: datetime, took_seconds: float
) -> Exercise:
    """Compare what came back, how fast and how old, with what the plan promises. Pure."""
    head = plan.head
    rto = rpo = None
    shortfalls = [f"{one.job} {one.outcome}: {one.message}" for one in drilled if one.outcome not in _NO_FAULT]
    if all(one.is_back for one in drilled):
        proving = sum(max(0.0, one.took_seconds - one.rto_seconds) for one in drilled if one.rto_seconds is not None)
        rto = max(0.0, took_seconds - proving)
        rpo = max((one.rpo_seconds for one in drilled if one.rpo_seconds is not None), default=None)
        if rto > head.rto.total_seconds():
            slowest = max(drilled, key=lambda one: one.rto_seconds or 0.0)
            shortfalls.append(
                f"everything was back after {format_duration(rto)}, promised {format_duration(head.rto)};"
                f" {slowest.job} took longest"
            )
        if rpo is not None and rpo > head.rpo.total_seconds():
            oldest = max(drilled, key=lambda one: one.rpo_seconds or 0.0)
            shortfalls.append(
                f"the data of {oldest.job} was {format_duration(rpo)} old, promised {format_duration(head.rpo)}"
            )
    outcomes = {one.outcome for one in drilled}
    if "failed" in outcomes:
        verdict = Verdict.FAILED
    elif outcomes != {"passed"}:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.SHORT if shortfalls else Verdict.PASSED
    return Exercise(
        plan.name, by, started_at, ended_at, verdict, took_seconds, rto, rpo, head.rto.total_seconds(),
        head.rpo.total_seconds(), drilled, tuple(shortfalls), plan.digest,
    )  # fmt: skip
