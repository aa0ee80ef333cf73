"""The words of a report: short answers on top, the same for the HTML file and for plain text. Nothing is computed here.

Every text goes through a language; names, numbers and units do not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from config.units import format_duration, format_size
from keepwatch.languages import Language
from keepwatch.report.figures import JobFigures
from keepwatch.report.gathering import Report
from monitor.result import Status


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the answers on top. ``tone``: ``good``, ``bad`` or ``open``."""

    question: str
    answer: str
    tone: str
    more: str


def answers(report: Report, _: Language) -> list[Answer]:
    """Return what a manager wants to know first."""
    return [_promises(report, _), _restores(report, _), _alerts(report, _), _plans(report, _), _evidence(report, _)]


def _promises(report: Report, _: Language) -> Answer:
    question = _("Were the promises kept?")
    judged = [job for job in report.jobs if job.kept is not None]
    if not judged:
        return Answer(question, _("Not known"), "open", _("nothing is promised, or nothing was measured yet"))
    if broken := report.broken:
        names = ", ".join(job.name for job in broken)
        more = _("%(count)s of %(all)s jobs did not: %(names)s", count=len(broken), all=len(judged), names=names)
        return Answer(question, _("No"), "bad", more)
    return Answer(question, _("Yes"), "good", _("by every job that promises anything: %(all)s", all=len(judged)))


def _restores(report: Report, _: Language) -> Answer:
    question = _("Does the data come back?")
    passed = sum(drill.verdict == "PASSED" for drill in report.drills)
    failed = sum(drill.verdict == "FAILED" for drill in report.drills)
    unsure = len(report.drills) - passed - failed
    more = _("drills passed: %(passed)s, failed: %(failed)s, inconclusive: %(unsure)s", passed=passed, failed=failed,
             unsure=unsure)  # fmt: skip
    unproven = [job.name for job in report.jobs if not job.drills.get("PASSED")]
    if failed:
        return Answer(question, _("Not always"), "bad", more)
    if unproven or not passed:
        if unproven:
            more += "; " + _("not proven: %(names)s", names=", ".join(unproven))
        return Answer(question, _("Not proven"), "open", more)
    return Answer(question, _("Yes"), "good", more)


def _alerts(report: Report, _: Language) -> Answer:
    question = _("What went wrong?")
    critical, warning = report.alerts.count(Status.CRITICAL), report.alerts.count(Status.WARNING)
    more = _("critical: %(critical)s, warnings: %(warning)s", critical=critical, warning=warning)
    if report.alerts.to_resolve_seconds is not None:
        took = format_duration(report.alerts.to_resolve_seconds)
        more += "; " + _("half of them were over within %(took)s", took=took)
    if not critical and not warning:
        return Answer(question, _("Nothing"), "good", _("no alert fired"))
    return Answer(question, str(critical + warning), "bad" if critical else "open", more)


def _plans(report: Report, _: Language) -> Answer:
    question = _("Is everybody ready for an emergency?")
    if not report.plans:
        return Answer(question, _("Not known"), "open", _("there is no emergency plan"))
    cared = [plan for plan in report.plans if plan.findings]
    improvements = sum(len(plan.improvements) for plan in report.plans)
    more = _(
        "plans: %(plans)s, need care: %(care)s, open improvements: %(open)s", plans=len(report.plans), care=len(cared),
        open=improvements,
    )  # fmt: skip
    if cared or report.plan_findings:
        return Answer(question, _("Not quite"), "bad", more)
    return Answer(question, _("Yes"), "open" if improvements else "good", more)


def _evidence(report: Report, _: Language) -> Answer:
    question = _("Can this report be trusted?")
    if report.is_trustworthy:
        return Answer(question, _("Yes"), "good", _("both chains of evidence are unbroken"))
    return Answer(question, _("No"), "bad", _("evidence is broken or missing; see below"))


def verdict_of(job: JobFigures, _: Language) -> str:
    """Say in a word whether a job kept its promises."""
    return _("not known") if job.kept is None else _("kept") if job.kept else _("not kept")


def duration(seconds: float | None) -> str:
    """Write a duration; a dash for what was not measured."""
    return "–" if seconds is None else format_duration(seconds)


def size(value: float | None) -> str:
    """Write a size; a dash for what is not known."""
    return "–" if value is None else format_size(value)


def share(ratio: float | None) -> str:
    """Write a share of one: nothing but all is 100 %."""
    if ratio is None:
        return "–"
    percent = ratio * 100
    return "100 %" if ratio >= 1 else f"{min(percent, 99.99):.2f} %"


def counts(numbers: dict[str, int], _: Language) -> str:
    """Write counts by word: ``12 succeeded, 1 failed``."""
    return ", ".join(f"{number} {_(word)}" for word, number in sorted(numbers.items())) or "–"


def lines_of(number: int, _: Language) -> str:
    """Write how long a journal is."""
    return _("1 line") if number == 1 else _("%(lines)s lines", lines=number)


def as_text(report: Report, _: Language, moment: Callable[[datetime], str]) -> str:
    """Write the report as plain text, for a terminal or a mail."""
    lines = [
        _("%(host)s: the last %(period)s", host=report.host, period=_(report.period.name)),
        f"{moment(report.period.since)} – {moment(report.period.until)}",
        "",
    ]
    lines += [f"{one.question} {one.answer} ({one.more})" for one in answers(report, _)]
    lines += ["", _("Jobs against their promises").upper()]
    for job in report.jobs:
        lines.append(
            f"  {job.name}: {verdict_of(job, _)}; "
            + _(
                "at most %(worst)s of work at risk (promised %(rpo)s), back in %(took)s at worst (promised %(rto)s)",
                worst=duration(job.loss.worst_seconds), rpo=duration(job.rpo_seconds),
                took=duration(job.rto_worst_seconds), rto=duration(job.rto_seconds),
            )
            + f"; {_('backups')}: {counts(dict(job.outcomes), _)}; {_('drills')}: {counts(dict(job.drills), _)}"
        )  # fmt: skip
    lines += ["", _("Checks").upper()]
    bad = [check for check in report.checks if check.in_order_ratio < 1]
    lines += [
        f"  {check.check} {check.entity}".rstrip()
        + ": "
        + _("in order %(ok)s, not critical %(bearable)s", ok=share(check.in_order_ratio),
            bearable=share(check.not_critical_ratio))
        for check in bad
    ] or [f"  {_('all of them in order all the time')}"]  # fmt: skip
    lines += ["", _("Emergency plans").upper()]
    for plan in report.plans:
        last = plan.last_exercise
        exercised = f"{_(last.verdict)} {moment(last.ended_at)}" if last else _("never exercised")
        lines.append(f"  {plan.name}: {plan.title}; {_('owner')} {plan.owner or '–'}; {exercised}")
        lines += [f"    ! {finding}" for finding in plan.findings]
        lines += [f"    ({one.number}) {one.what}" for one in plan.improvements]
    lines += [f"  ! {finding}" for finding in report.plan_findings]
    lines += [] if report.plans or report.plan_findings else [f"  {_('there is no emergency plan')}"]
    lines += ["", _("Repositories").upper()]
    for repository in report.repositories:
        grown = repository.stored_bytes - repository.freed_bytes
        lines.append(
            f"  {repository.name}: {size(repository.size_bytes)}, "
            + _("grown by %(grown)s, read and verified %(share)s", grown=size(grown),
                share=share(repository.verified_ratio))
            + (f"; {repository.problem}" if repository.problem else "")
        )  # fmt: skip
    lines += ["", _("Evidence").upper()]
    for one in report.evidence:
        state = one.problem or _("unbroken, last hash %(hash)s", hash=one.last_hash[:16])
        lines.append(f"  {_(one.name)}: {lines_of(one.lines, _)}, {state}")
    lines += [f"  ! {part}" for part in report.unread]
    return "\n".join(lines) + "\n"
