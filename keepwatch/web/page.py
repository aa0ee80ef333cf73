"""Renders the page: one whole document, or the fragment that an open page swaps in every five seconds.

The templates only loop and place; what things mean is decided in ``verdicts``, how numbers read in ``human``. The last
rendering is kept for a few seconds, so that ten open tabs cost as much as one.
"""

import hashlib
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from config.said import Said, listed
from config.units import format_duration, format_size
from keepwatch.bridge import agree_command
from keepwatch.languages import PageLanguage, language
from keepwatch.view import AlertView, CheckView, DutyView, PlanView, ReadingView, RunView, View
from keepwatch.web import human, verdicts
from keepwatch.web.verdicts import Tone, Verdict
from monitor.result import Status

_HERE = Path(__file__).parent
_KEEP_SECONDS = 2
_ROWS = 6
"""Rows of a list that are open at once; the rest of what the view has is folded away."""
GROUPS = MappingProxyType(
    {
        "Processor and memory": (
            "cpu", "load", "memory", "swap", "pressure", "oom_kills", "processes", "stuck_processes", "process_limits",
            "cgroups", "file_descriptors", "uptime",
        ),
        "Disks": ("disk", "disk_io", "file_systems", "smart", "md_raid", "zfs", "btrfs", "lvm"),
        "Network": (
            "network", "link", "bond", "conntrack", "snmp_uptime", "snmp_interfaces", "snmp_sensors", "snmp_value",
        ),
        "Hardware": (
            "temperature", "fans", "memory_errors", "machine_checks", "power_supply", "battery", "ipmi_sensors",
            "ipmi_events", "ups",
        ),
        "System": (
            "clock", "entropy", "users", "systemd", "timers", "reboot", "updates", "permissions", "listening_ports",
            "failed_logins",
        ),
        "Services": (
            "process", "docker", "tcp", "udp", "http", "tls", "dns", "icmp", "smtp", "ssh", "ntp", "postgres", "mysql",
            "redis", "memcached", "rabbitmq", "nats", "mqtt", "command",
        ),
        "Data and logs": ("freshness", "reconcile", "heartbeat", "log", "textfile", "push"),
    }
)  # fmt: skip
"""Groups of checks on the page, and the types in each."""
_VITALS = (("cpu", "CPU"), ("memory", "Memory"), ("disk", "Disk"), ("load", "Load"))
_ICON_SHAPES = MappingProxyType(
    {
        Tone.OK: ("#1a7f37", "M4.5 8.5l2.5 2.5 4.5-5.5"),
        Tone.WARNING: ("#9a6700", "M8 4v5M8 11.2v.3"),
        Tone.CRITICAL: ("#cf222e", "M5 5l6 6M11 5l-6 6"),
        Tone.UNKNOWN: ("#6e4fbf", "M6 6.2a2 2 0 1 1 2.6 1.9c-.5.2-.6.5-.6 1M8 11.3v.2"),
        Tone.UNDERWAY: ("#0b57b0", "M8 4v4l3 2"),
        Tone.ABSENT: ("#656d76", "M5 8h6"),
    }
)
_SYMBOLS = MappingProxyType({
    Tone.OK: "✓", Tone.WARNING: "▲", Tone.CRITICAL: "✖", Tone.UNKNOWN: "?", Tone.UNDERWAY: "…", Tone.ABSENT: "–",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of ours that browsers fetch; read once, at import."""

    content: bytes
    media_type: str


STATIC = MappingProxyType(
    {
        "page.css": StaticFile((_HERE / "static" / "page.css").read_bytes(), "text/css"),
        "page.js": StaticFile((_HERE / "static" / "page.js").read_bytes(), "text/javascript"),
    }
)


class PageRenderer:
    """Turns views into HTML. ``clock`` tells the ``now`` that relative times count from."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, auto_reload=False,
            trim_blocks=True, lstrip_blocks=True, finalize=_in_its_language,
        )  # fmt: skip
        environment.filters |= {
            "duration": format_duration, "size": format_size, "number": human.number, "reading": human.reading_text,
            "tone": _tone, "said": lambda value, _: _.value(value),
        }  # fmt: skip
        environment.globals |= {"spark": _spark, "run_summary": run_summary, "rows": _ROWS}
        environment.globals |= {"usual_line": usual_line, "is_unusual": is_unusual}
        environment.globals |= {"reading_line": reading_line, "agree_command": agree_command}
        environment.globals |= {tone.key: tone for tone in Tone}
        self._whole = environment.get_template("page.html")
        self._fragment = environment.get_template("fragment.html")
        self._error = environment.get_template("error.html")
        names = ("page.html", "fragment.html", "plans.html", "macros.html")
        sources = [(_HERE / "templates" / name).read_bytes() for name in names]
        self._edition = hashlib.sha256(b"".join([f.content for f in STATIC.values()] + sources)).hexdigest()[:12]
        self._kept: tuple[View, datetime, bytes] | None = None

    def page(self, view: View) -> bytes:
        """Return the whole document."""
        now = self._clock()
        title, icon = heading(view, now)
        body = self.fragment(view).decode("utf-8")
        _ = PageLanguage(language(view.language))
        return _encoded(self._whole.render(body=body, title=title, favicon=icon, edition=self._edition, _=_))

    def fragment(self, view: View) -> bytes:
        """Return what stands inside the document's body and changes."""
        now = self._clock()
        if self._kept is not None:
            shown, at, kept = self._kept
            if shown is view and 0 <= (now - at).total_seconds() < _KEEP_SECONDS:
                return kept
        made = _encoded(self._fragment.render(edition=self._edition, **context(view, now)))
        self._kept = (view, now, made)
        return made

    def error(self, status: int, reason: str) -> bytes:
        """Return the page for an HTTP error."""
        return _encoded(self._error.render(status=status, reason=reason))


def context(view: View, now: datetime) -> dict[str, object]:
    """Prepare everything that the fragment shows."""
    zone, _ = human.zone_of(view.timezone), PageLanguage(language(view.language))
    proofs = [verdicts.proof_of(job, view.drills, now) for job in view.jobs]
    title, icon = heading(view, now)
    active = [a for a in view.alerts if a.state != "resolved"]
    return {
        "view": view,
        "_": _,
        "now": now,
        "title": title,
        "favicon": icon,
        "well": verdicts.well(view, now),
        "recoverable": verdicts.recoverable(view.jobs, proofs),
        "stale": verdicts.is_stale(view, now),
        "tally": verdicts.tally(view.checks),
        "vitals": vitals(view.checks),
        "plans": [(plan, *plan_state(plan)) for plan in view.plans],
        "proofs": list(zip(view.jobs, proofs, strict=True)),
        "active": [(a, verdicts.tone_of_alert(a), commands(a)) for a in active],
        "resolved": [a for a in view.alerts if a.state == "resolved"],
        "groups": grouped([check for check in view.checks if not is_absent(check)]),
        "unmeasured": [check for check in view.checks if is_absent(check)],
        "duties": {job.name: [(d, *duty_state(d, job.configured_at, now)) for d in job.duties] for job in view.jobs},
        "upkeep": {
            r.name: [(d, *duty_state(d, r.configured_at, now)) for d in r.duties] for r in view.repositories
        },
        "relative": lambda moment: human.relative(moment, now, _),
        "distance": lambda moment: human.span((now - moment).total_seconds()),
        "absolute": lambda moment: human.absolute(moment, zone),
        "clock": lambda moment: moment.astimezone(zone).strftime("%H:%M:%S"),
    }  # fmt: skip


def heading(view: View, now: datetime) -> tuple[str, str]:
    """Return the tab's title and its icon (a data URI), both telling the worse of the two answers."""
    verdict = overall(view, now)
    return f"{_SYMBOLS[verdict.tone]} {language(view.language)(verdict.short)} · {view.host}", favicon(verdict.tone)


def overall(view: View, now: datetime) -> Verdict:
    """Return the worse of the two answers, the machine's when they are equally bad."""
    machine = verdicts.well(view, now)
    proofs = [verdicts.proof_of(job, view.drills, now) for job in view.jobs]
    return max((machine, verdicts.recoverable(view.jobs, proofs)), key=lambda verdict: verdict.tone)


def favicon(tone: Tone) -> str:
    """Draw the tab's icon: a filled disc with the tone's sign."""
    colour, sign = _ICON_SHAPES[tone]
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>"
        f"<circle cx='8' cy='8' r='8' fill='{colour}'/>"
        f"<path d='{sign}' fill='none' stroke='white' stroke-width='2' stroke-linecap='round'/></svg>"
    )
    return "data:image/svg+xml," + quote(svg, safe="/:='<> ").replace("<", "%3C").replace(">", "%3E")


def grouped(checks: Sequence[CheckView]) -> list[tuple[str, list[CheckView]]]:
    """Sort checks into groups by type, keeping their order; a type that no group names goes to "Other"."""
    group_of = {type_: group for group, types in GROUPS.items() for type_ in types}
    found: dict[str, list[CheckView]] = {group: [] for group in (*GROUPS, "Other")}
    for check in checks:
        found[group_of.get(check.type, "Other")].append(check)
    return [(group, members) for group, members in found.items() if members]


def is_absent(check: CheckView) -> bool:
    """Tell whether this machine has nothing for the check to measure; such checks are folded away."""
    return check.checked_at is not None and check.status is Status.ABSENT


def vitals(checks: Sequence[CheckView]) -> list[tuple[str, CheckView]]:
    """Pick the readings that an operator looks at first: the fullest disk, and the first check of the other kinds."""
    picked: list[tuple[str, CheckView]] = []
    for type_, title in _VITALS:
        of_type = [c for c in checks if c.type == type_ and c.readings]
        if of_type:
            fullest = max(of_type, key=lambda c: c.readings[0].value)
            disk = type_ == "disk" and fullest.entity
            picked.append((Said("Disk %(path)s", path=fullest.entity) if disk else Said(title), fullest))
    return picked


def commands(alert: AlertView) -> list[tuple[str, str]]:
    """Return what to type for an alert, safe to paste into a shell: label, command."""
    matchers = [f"check={alert.check}"] + ([f"entity={alert.entity}"] if alert.entity else [])
    return [
        ("Acknowledge", f"keepwatch ack {shlex.quote(alert.id)}"),
        ("Silence", f"keepwatch silence {' '.join(shlex.quote(matcher) for matcher in matchers)}"),
        ("Why", f"keepwatch why {shlex.quote(alert.id)}"),
    ]


def plan_state(plan: PlanView) -> tuple[Tone, str]:
    """Judge a plan: carried out now, called for, in need of care, or in order."""
    if plan.under_way:
        return Tone.UNDERWAY, "under way"
    if plan.called_by:
        return Tone.CRITICAL, "called for"
    if plan.findings:
        return Tone.WARNING, "needs care"
    return (Tone.WARNING, "to improve") if plan.improvements else (Tone.OK, "in order")


def duty_state(duty: DutyView, configured_at: datetime | None, now: datetime) -> tuple[Tone, str]:
    """Judge one duty's freshness by the same rule as the alert: the last success, or the first day, against max age."""
    since = max((m for m in (duty.last_success_at, configured_at) if m is not None), default=None)
    if duty.max_age_seconds > 0 and since is not None and (now - since).total_seconds() > duty.max_age_seconds:
        return Tone.CRITICAL, "overdue"
    if duty.last_success_at is None:
        return Tone.UNKNOWN, "not yet"
    return Tone.OK, "fresh"


def run_summary(run: RunView) -> str:
    """Write a backup's figures in one line; empty when it has none."""
    figures = run.figures
    texts = (
        ("files_new", "%(count)s new"),
        ("files_changed", "%(count)s changed"),
        ("files_unreadable", "%(count)s unreadable"),
    )
    parts = [Said(text, count=human.number(figures[key])) for key, text in texts if figures.get(key)]
    if not parts and "files_unmodified" in figures:
        parts.append(Said("nothing changed"))
    if figures.get("bytes_stored"):
        parts.append(Said("%(size)s added", size=format_size(figures["bytes_stored"])))
    return listed(parts)


def reading_line(reading: ReadingView, now: datetime) -> str:
    """Write how much was read and verified: ``83 % within 30d, oldest 12d ago``."""
    share = f"{math.floor(reading.verified_ratio * 100)} %"  # nothing but all is 100 %
    within = format_duration(reading.within_seconds) if reading.within_seconds else None
    parts = [Said("%(share)s within %(time)s", share=share, time=within) if within else share]
    if reading.oldest_at:
        parts.append(Said("oldest %(time)s ago", time=human.span((now - reading.oldest_at).total_seconds())))
    if reading.damaged:
        parts.append(Said("packs damaged: %(count)s", count=len(reading.damaged)))
    return listed(parts)


def usual_line(check: CheckView) -> str:
    """Write what is usual for a check at this hour of the week; empty where nobody knows."""
    if check.usual is None or not check.readings:
        return ""
    low, high = (human.quantity(value, check.readings[0].unit) for value in check.usual)
    return Said("usual at this hour of the week: %(low)s to %(high)s", low=low, high=high)


def is_unusual(check: CheckView) -> bool:
    """Tell whether the main reading lies outside of what is usual. For the eye; nobody is told."""
    if check.usual is None or not check.readings:
        return False
    low, high = check.usual
    return not low <= check.readings[0].value <= high


def _spark(check: CheckView) -> human.Spark | None:
    return human.sparkline(check.trend, check.readings[0].unit if check.readings else "")


@pass_context
def _in_its_language(context: Context, value: object) -> object:
    """Say a text, wherever a template puts one, in the language that it is rendered in."""
    return context["_"].value(value) if isinstance(value, Said) else value


def _tone(value: object) -> Tone:
    """Return the tone of a check, alert, or outcome; for the templates."""
    if isinstance(value, CheckView):
        return verdicts.tone_of_check(value)
    if isinstance(value, AlertView):
        return verdicts.tone_of_alert(value)
    return verdicts.tone_of_outcome(str(value))


def _encoded(text: str) -> bytes:
    """Encode for the wire; names from the file system may hold what UTF-8 cannot carry."""
    return text.encode("utf-8", "replace")
