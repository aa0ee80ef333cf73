"""Commands about emergency plans: ``plan list``, ``show``, ``check``, ``exercise``, ``review``; and, in an emergency,
``plan start``, ``tick`` and ``finish``.

What people do is written into the log of plans; a running daemon shows it within seconds.
"""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

import typer

from config.plan_files import Plan, PlanBook, read_plans
from config.plans import Restore
from config.units import format_duration
from config.wording import counted
from keepwatch.cli.alerts import AuthorOption
from keepwatch.cli.journals import HoldsOption, verify_journal
from keepwatch.cli.mounting import USUAL_CODES, exit_status, mount
from keepwatch.cli.options import JsonOption, QuietOption, Setup
from keepwatch.cli.output import ProgressPrinter, ago, complain, moment, note, print_json, print_table
from keepwatch.cli.stopping import stop_on_signal
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.orders import Ending, Order, Progress
from keepwatch.plans.checking import Finding, findings, review_due_on
from keepwatch.plans.exercising import exercise as carry_out_exercise
from keepwatch.plans.log import PlanLog
from keepwatch.plans.records import Exercise, PlanRecord, Verdict
from keepwatch.runs import carry_out

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="Name of the plan.", show_default=False)]
NoteOption = Annotated[str, typer.Option("--note", help="A word on it.")]
_EXERCISE_CODES = "0 passed; 1 failed to run; 2 usage or configuration; 3 inconclusive; 4 failed, too late or too old"
_EXIT = {Verdict.PASSED: 0, Verdict.SHORT: 4, Verdict.FAILED: 4, Verdict.INCONCLUSIVE: 3}

plan_app = typer.Typer(
    help="Emergency plans: what to do when, by whom, and the proof that it works.",
    epilog=exit_status("keepwatch plan exercise fire"),
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, name, example, codes in (
        (list_plans, "list", "keepwatch plan list", USUAL_CODES),
        (show, "show", "keepwatch plan show fire", USUAL_CODES),
        (check, "check", "keepwatch plan check", "0 in order; 1 something needs care; 2 usage, or a plan unreadable"),
        (exercise, "exercise", "keepwatch plan exercise fire", _EXERCISE_CODES),
        (review, "review", "keepwatch plan review fire --next 2027-06-30; plan review --close 3 --note 'bought'",
         USUAL_CODES),
        (start, "start", "keepwatch plan start fire --reason 'smoke in the server room'", USUAL_CODES),
        (tick, "tick", "keepwatch plan tick fire 2 --author 'Li Wei'", USUAL_CODES),
        (finish, "finish", "keepwatch plan finish fire", USUAL_CODES),
        (log, "log", "keepwatch plan log --verify", "0 done; 4 the log was tampered with"),
    ):  # fmt: skip
        mount(plan_app, command, example, codes, name=name)
    app.add_typer(plan_app, name="plan")


def list_plans(setup: Setup, as_json: JsonOption = False) -> None:
    """List the plans: owner, promises, last exercise, when to review, and what is still to be improved."""
    book, plan_log = _book(setup), PlanLog(setup.recorded.plan_log)
    if as_json:
        print_json([_row(plan, plan_log.of(plan.name)) for plan in book.plans])
        return
    rows = []
    for plan in book.plans:
        record = plan_log.of(plan.name)
        last = record.last_exercise
        rows.append(
            (
                plan.name, plan.head.title, plan.head.owner or "nobody", plan.head.risk.kind,
                format_duration(plan.head.rto), format_duration(plan.head.rpo),
                f"{last.verdict} {ago(last.ended_at, now())}" if last else "never",
                review_due_on(plan, record), len(record.open_improvements),
            )
        )  # fmt: skip
    columns = ("plan", "title", "owner", "risk", "RTO", "RPO", "exercised", "review by", "open")
    print_table(columns, rows, empty=f"no plan lies in {setup.settings.plans.folder}")
    for plan in book.plans:
        for improvement in plan_log.of(plan.name).open_improvements:
            print(f"improvement {improvement.number} of plan {plan.name}: {improvement.what}")
    for problem in book.problems:
        note(str(problem))


def show(
    setup: Setup,
    plan: PlanArgument, as_json: JsonOption = False
) -> None:
    """Show one plan in full: whom to call, what to do step by step, and what became of it."""
    found = _find(_book(setup), plan)
    record = PlanLog(setup.recorded.plan_log).of(plan)
    if as_json:
        print_json(_row(found, record))
        return
    _print_plan(found, record, setup)


def check(setup: Setup, as_json: JsonOption = False) -> int:
    """Find what needs care: reviews overdue, no owner, never exercised, names that lead nowhere, risks without plan."""
    book = _book(setup)
    found = findings(book, setup.settings, PlanLog(setup.recorded.plan_log).records(), now())
    if as_json:
        print_json([_finding_row(finding) for finding in found])
    else:
        for finding in found:
            print(finding)
            note(f"hint: {finding.hint}")
        if not found:
            note(f"{counted(len(book.plans), 'plan')}, all in order" if book.plans else "there are no plans")
    return 2 if book.problems else 1 if found else 0


def exercise(
    setup: Setup,
    plan: PlanArgument,
    author: AuthorOption,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Carry out the plan's scenario by restore drills, in the order of the jobs, and compare with its promises."""
    found = _find(_book(setup), plan)
    with stop_on_signal() as stop:
        printer = ProgressPrinter(as_json=as_json, quiet=quiet)

        def drill(order: Order) -> Ending:
            return carry_out(order, setup.settings, setup.state, clock=now, progress=printer, stop=stop)

        def begin(restore: Restore, _: Progress | None) -> None:
            if not quiet and not as_json:
                note(f"{restore.job}: drilling")

        try:
            done = carry_out_exercise(
                found, setup.settings, setup.state, by=author, clock=now, carry_out=drill, stop=stop, progress=begin
            )
        finally:
            printer.close()
    if as_json:
        print_json(done)
    else:
        _print_exercise(done)
        for improvement in PlanLog(setup.state.plan_log).of(plan).open_improvements[-len(done.shortfalls) :]:
            if done.shortfalls:
                complain(f"improvement {improvement.number} is open: {improvement.what}")
    return _EXIT[done.verdict]


def review(
    setup: Setup,
    author: AuthorOption,
    plan: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="Which plan was read.")] = None,
    next_on: Annotated[
        str | None, typer.Option("--next", metavar="YYYY-MM-DD", help="Day until which to read it again.")
    ] = None,
    close: Annotated[int | None, typer.Option("--close", metavar="N", help="Close this improvement instead.")] = None,
    text: NoteOption = "",
) -> None:
    """Record that you have read a plan and found it right; or, with --close, that an improvement was seen to."""
    plan_log = PlanLog(setup.state.plan_log)
    if close is not None:
        if next_on is not None:
            raise UsageError("--close and --next are two acts", hint="close first, then review")
        closed = plan_log.close(close, by=author, note=text, now=now())
        print(f"improvement {closed.number} of plan {closed.plan} closed by {author}: {text}")
        return
    if plan is None or next_on is None:
        raise UsageError("a review needs PLAN and --next", hint="keepwatch plan review fire --next 2027-06-30")
    found = _find(_book(setup), plan)
    plan_log.review(found, by=author, next_on=_day(next_on), note=text, now=now())
    print(f"plan {plan} reviewed by {author}; next by {review_due_on(found, plan_log.of(plan))}")


def start(
    setup: Setup,
    plan: PlanArgument,
    author: AuthorOption,
    reason: Annotated[str, typer.Option("--reason", help="What has happened.")] = "",
    rehearsal: Annotated[bool, typer.Option("--rehearsal", help="Nothing has happened; it is an exercise.")] = False,
) -> None:
    """Begin to carry the plan out: the clock runs, and the page shows its steps as a checklist."""
    found = _find(_book(setup), plan)
    PlanLog(setup.state.plan_log).start(found, by=author, reason=reason, rehearsal=rehearsal, now=now())
    for step in found.steps:
        print(f"{step.number}. {step.title} ({step.person})")
    note(f"when a step is done: keepwatch plan tick {plan} STEP; at the end: keepwatch plan finish {plan}")


def tick(
    setup: Setup,
    plan: PlanArgument,
    step: Annotated[int, typer.Argument(metavar="STEP", help="Number of the step.", show_default=False)],
    author: AuthorOption,
    text: NoteOption = "",
) -> None:
    """Note that a step is done, by whom and when."""
    found, plan_log = _find(_book(setup), plan), PlanLog(setup.state.plan_log)
    done = plan_log.tick(found, step, by=author, note=text, now=now())
    going_on = plan_log.of(plan).under_way
    after = f" after {format_duration(now() - going_on.started_at)}" if going_on else ""
    print(f"step {step} done by {author}{after}: {done.title}")
    ahead = next((s for s in found.steps if going_on and going_on.tick_of(s.number) is None), None)
    note(f"next: {ahead.number}. {ahead.title} ({ahead.person})" if ahead else f"then: keepwatch plan finish {plan}")


def finish(setup: Setup, plan: PlanArgument, author: AuthorOption, text: NoteOption = "") -> None:
    """End the carrying out of a plan and say how long it took against its promise."""
    found, at = _find(_book(setup), plan), now()
    ended = PlanLog(setup.state.plan_log).finish(found, by=author, note=text, now=at)
    took = format_duration(at - ended.started_at)
    print(f"plan {plan} finished by {author} after {took}, promised {format_duration(found.head.rto)}")


def log(
    setup: Setup,
    verify: Annotated[bool, typer.Option("--verify", help="Check that nobody changed the log.")] = False,
    holds: HoldsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show the log of plans: reviews, exercises, closed improvements, steps, each with who and when."""
    journal = PlanLog(setup.recorded.plan_log).journal
    if verify:
        return verify_journal(journal, holds or (), as_json=as_json)
    lines = list(journal.lines())
    if as_json:
        print_json(lines)
        return 0
    rows = [
        (line.line, line.at[:19].replace("T", " "), line.record["plan"], line.record["event"], line.record["by"],
         _what(line.record))
        for line in lines
    ]  # fmt: skip
    print_table(("line", "at (UTC)", "plan", "event", "by", "what"), rows, empty="nothing has been done yet")
    return 0


def _what(record: Mapping[str, Any]) -> str:
    """Say in a few words what a line of the log is about."""
    shortfalls = "; ".join(record.get("shortfalls", ()))
    parts = (
        record.get("verdict"), shortfalls, record.get("title"), record.get("next_on") and f"next {record['next_on']}",
        record.get("improvement") and f"improvement {record['improvement']}", record.get("reason"), record.get("note"),
    )  # fmt: skip
    return ": ".join(str(part) for part in parts if part)


def _book(setup: Setup) -> PlanBook:
    folder = setup.settings.plans.folder
    assert folder is not None, "loading fills it in"
    return read_plans(folder)


def _find(book: PlanBook, name: str) -> Plan:
    if plan := book.get(name):
        return plan
    if name in book.unread:
        raise UsageError(f"plan {name} cannot be read", hint="`keepwatch plan check` says what is wrong with it")
    known = ", ".join(plan.name for plan in book.plans) or "none"
    raise UsageError(f"no plan is named {name}", hint=f"there are: {known}")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a day", hint="write it as 2027-06-30") from None


def _row(plan: Plan, record: PlanRecord) -> dict[str, object]:
    return {
        "name": plan.name,
        "file": plan.file,
        **plan.head.model_dump(mode="json"),
        "rto": plan.head.rto,
        "rpo": plan.head.rpo,
        "review_due_on": review_due_on(plan, record).isoformat(),
        "steps": plan.steps,
        "last_exercise": record.last_exercise,
        "open_improvements": record.open_improvements,
        "under_way": record.under_way,
    }


def _finding_row(finding: Finding) -> dict[str, object]:
    place = finding.place
    return {
        "plan": finding.plan, "care": finding.care.value, "message": finding.message, "hint": finding.hint,
        "file": place.file if place else None, "line": place.line if place else None,
    }  # fmt: skip


def _print_plan(plan: Plan, record: PlanRecord, setup: Setup) -> None:
    head, zone = plan.head, setup.settings.daemon.zone
    print(f"{head.title}\n")
    print(f"owner     {head.owner or 'nobody'}" + (f", deputies {', '.join(head.deputies)}" if head.deputies else ""))
    points = "a single point" if head.scope == "single" else "several points"
    print(f"risk      {head.risk.kind}: {head.risk.likelihood}, {head.risk.impact}; {points} of failure")
    print(f"promise   back within {format_duration(head.rto)}, with data at most {format_duration(head.rpo)} old")
    print(f"review    by {review_due_on(plan, record)}")
    for contact in head.contacts:
        print(f"call      {contact.name}, {contact.role}: {contact.reach}")
    for what in head.risk.prevention:
        print(f"prevent   {what}")
    if head.alerts:
        print(f"called by {', '.join(head.alerts)}")
    if head.restore:
        print(f"restores  {', then '.join(restore.job for restore in plan.in_order)}")
    if plan.introduction:
        print(f"\n{plan.introduction}")
    going_on = record.under_way
    for step in plan.steps:
        done = going_on.tick_of(step.number) if going_on else None
        mark = ("[x] " if done else "[ ] ") if going_on else ""
        print(f"\n{mark}{step.number}. {step.title}\n   {step.person}; goal: {step.goal}")
        if done:
            print(f"   done by {done.by}, {moment(done.at, zone)}{f': {done.note}' if done.note else ''}")
        if step.text:
            print("\n".join(f"   {line}".rstrip() for line in step.text.splitlines()))
    if last := record.last_exercise:
        print()
        _print_exercise(last)
    for improvement in record.open_improvements:
        print(f"improvement {improvement.number}, open since {moment(improvement.opened_at, zone)}: {improvement.what}")


def _print_exercise(done: Exercise) -> None:
    for one in done.drilled:
        rto = format_duration(one.rto_seconds) if one.rto_seconds is not None else "-"
        print(f"{one.job} from {one.repository}: {one.outcome}, back in {rto}")
    back = f"back in {format_duration(done.rto_seconds)}" if done.rto_seconds is not None else "not back"
    rpo = format_duration(done.rpo_seconds) if done.rpo_seconds is not None else "-"
    print(
        f"exercise of {done.plan} {done.verdict}: everything {back} (promised"
        f" {format_duration(done.rto_target_seconds)}), data {rpo} old (promised"
        f" {format_duration(done.rpo_target_seconds)}); {format_duration(done.took_seconds)} with all proofs"
    )
