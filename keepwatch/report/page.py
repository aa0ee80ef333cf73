"""A report as one HTML file that needs nothing else: no script, no font, no picture from anywhere. It prints well."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from keepwatch.languages import Language
from keepwatch.report import writing
from keepwatch.report.drawing import HEIGHT, WIDTH, bars, chart, per_slice, slice_starts
from keepwatch.report.gathering import Report
from monitor.result import Status

_SLICES = {"day": 24, "week": 7, "month": 30}
_DRILLS = 12
"""Rows of drills, but that none is left out that did not pass."""
_LONGEST_EPISODES = 15
_WORST_CHECKS = 20
TEMPLATES = Path(__file__).parent / "templates"


def environment(_: Language) -> Environment:
    """Return the templates' surroundings; texts go through ``_``."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, auto_reload=False,
        trim_blocks=True, lstrip_blocks=True, finalize=_.value,
    )  # fmt: skip
    made.globals |= {"_": _, "chart": chart, "bars": bars, "WIDTH": WIDTH, "HEIGHT": HEIGHT, "Status": Status}
    made.filters |= {"duration": writing.duration, "size": writing.size, "share": writing.share}
    return made


def as_html(report: Report, _: Language, moment: Callable[[datetime], str]) -> str:
    """Write the whole file."""
    slices = _SLICES[report.period.name]
    fired = [one.fired_at for one in report.alerts.episodes]
    longest = sorted(
        report.alerts.episodes,
        key=lambda one: ((one.resolved_at or report.period.until) - one.fired_at).total_seconds(),
        reverse=True,
    )
    bad = [drill for drill in report.drills if drill.verdict != "PASSED"]
    good = [drill for drill in report.drills if drill.verdict == "PASSED"]
    drills = bad + good[: max(0, _DRILLS - len(bad))]
    return environment(_).get_template("report.html").render(
        report=report,
        answers=writing.answers(report, _),
        verdict_of=lambda job: writing.verdict_of(job, _),
        lines_of=lambda number: writing.lines_of(number, _),
        counts=lambda numbers: writing.counts(dict(numbers), _),
        moment=moment,
        drills=drills,
        more_drills=len(report.drills) - len(drills),
        alert_bars=bars(per_slice(fired, report.period.since, report.period.until, slices)),
        slice_starts=slice_starts(report.period.since, report.period.until, slices),
        per_slice=per_slice(fired, report.period.since, report.period.until, slices),
        episodes=longest[:_LONGEST_EPISODES],
        more_episodes=max(0, len(longest) - _LONGEST_EPISODES),
        checks=[check for check in report.checks if check.in_order_ratio < 1][:_WORST_CHECKS],
        in_order=sum(check.in_order_ratio >= 1 for check in report.checks),
    )
