"""The two answers at the top of the page, "is this machine well?" and "can we get it back?", from a view and ``now``.

Pure. Says yes only where the view proves it: what did not run yet, could not be measured, or is older than it may be is
"not known", never "yes". Suppressed alerts count: a silence holds back messages, not the truth.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from backup.drills.levels import WHOLE
from backup.past_drills import PastDrill
from config.said import Said
from config.units import format_duration
from keepwatch.view import AlertView, CheckView, JobView, View
from keepwatch.web.human import span
from monitor.result import Status

STALE_AFTER = timedelta(minutes=5)
"""A view older than this is not news; the daemon's loop renews it at least once a minute."""
FIRING_STATES = ("firing", "recovering")
_ONE_FIRES = "%(count)s alert firing: %(listed)s."
_SOME_FIRE = "%(count)s alerts firing: %(listed)s."
_ONE_WAITS = "%(count)s of %(all)s check did not run yet."
_SOME_WAIT = "%(count)s of %(all)s checks did not run yet."
_ONE_IS_BLIND = "Nothing is firing, but %(count)s check could not measure."
_SOME_ARE_BLIND = "Nothing is firing, but %(count)s checks could not measure."
_ONE_IS_PAST = "Nothing is firing; %(count)s of %(all)s reading past a threshold, watched."
_SOME_ARE_PAST = "Nothing is firing; %(count)s of %(all)s readings past a threshold, watched."
_ONE_IS_OK = "Nothing is firing; the one check is ok."
_ALL_ARE_OK = "Nothing is firing; all %(all)s checks are ok."
_ONE_CAME_BACK = "The one job came back whole in the last restore drill."
_ALL_CAME_BACK = "All %(all)s jobs came back whole in the last restore drill."
_SLOW = "of %(time)s, too slow"
_OLD = "of %(time)s, too old"


class Tone(IntEnum):
    """How a thing is to be taken; each has its own icon, word and colour. Larger is worse."""

    ABSENT = 0
    UNDERWAY = 1
    """Running or pending: neither good nor bad yet."""
    OK = 2
    UNKNOWN = 3
    WARNING = 4
    CRITICAL = 5

    @property
    def key(self) -> str:
        """Name of its icon and style."""
        return self.name.lower()


_OF_STATUS = {
    Status.OK: Tone.OK,
    Status.WARNING: Tone.WARNING,
    Status.CRITICAL: Tone.CRITICAL,
    Status.UNKNOWN: Tone.UNKNOWN,
    Status.ABSENT: Tone.ABSENT,
}
_OF_OUTCOME = {
    "succeeded": Tone.OK, "passed": Tone.OK, "partial": Tone.WARNING, "failed": Tone.CRITICAL,
    "interrupted": Tone.WARNING, "held": Tone.WARNING, "inconclusive": Tone.UNKNOWN, "short": Tone.WARNING,
}  # fmt: skip


def tone_of_check(check: CheckView) -> Tone:
    """Return how a check is shown: by its status, once it has run."""
    return _OF_STATUS[check.status] if check.checked_at else Tone.UNDERWAY


def tone_of_outcome(outcome: str) -> Tone:
    """Return how a run's outcome or a drill's verdict is shown; what is still running is neither good nor bad."""
    return _OF_OUTCOME.get(outcome.lower(), Tone.UNDERWAY)


def tone_of_alert(alert: AlertView) -> Tone:
    """Return how an alert is shown: by severity while it fires."""
    if alert.state in FIRING_STATES:
        return Tone.CRITICAL if alert.severity == "critical" else Tone.WARNING
    return Tone.OK if alert.state == "resolved" else Tone.UNDERWAY


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the two answers: ``answer`` in a word, ``reason`` in a sentence, ``short`` in two words for the tab."""

    tone: Tone
    answer: str
    reason: str
    short: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Meter:
    """A measured time against its objective. ``share`` of the objective, capped at 1; None without an objective."""

    tone: Tone
    share: float | None
    text: str
    word: str


_PARTLY = {"metadata": "structure whole, not restored", "read": "read, not restored", "sample": "only sampled"}
"""What a drill has shown that did not have everything back."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of one job's recoverability."""

    job: str
    tone: Tone
    word: str
    """Two or three words: ``proven``, ``drill failed``, ``never drilled``."""
    proven_at: datetime | None
    """When a drill last had everything back."""
    rto: Meter
    """The last passed drill's time against the objective."""
    rpo: Meter
    """What would be lost if the source were gone now, against the objective."""


def is_stale(view: View, now: datetime) -> bool:
    """Tell whether the view is too old to say anything about now."""
    return now - view.made_at > STALE_AFTER


def well(view: View, now: datetime) -> Verdict:
    """Answer "is this machine well?"."""
    if is_stale(view, now):
        age = span((now - view.made_at).total_seconds())
        reason = Said("The daemon's loop has told nothing new for %(time)s.", time=age)
        return Verdict(Tone.UNKNOWN, "Unknown", reason, "no news")
    firing = [a for a in view.alerts if a.state in FIRING_STATES]
    notes = tuple(_notes(view, firing))
    if firing:
        critical = sum(a.severity == "critical" for a in firing)
        tone = Tone.CRITICAL if critical else Tone.WARNING
        by_severity = ((critical, "%(count)s critical"), (len(firing) - critical, "%(count)s warning"))
        counts = [Said(text, count=number) for number, text in by_severity if number]
        listed = counts[0] if len(counts) == 1 else Said("%(first)s, %(second)s", first=counts[0], second=counts[1])
        reason = Said(_ONE_FIRES if len(firing) == 1 else _SOME_FIRE, count=len(firing), listed=listed)
        short = Said("%(count)s firing", count=len(firing))
        return Verdict(tone, "No" if critical else "Mostly", reason, short, notes)
    return _quiet(view.checks, notes)


def _quiet(checks: Sequence[CheckView], notes: tuple[str, ...]) -> Verdict:
    """Answer for a machine on which nothing fires: that alone is not yet a yes."""
    waiting = [c for c in checks if c.checked_at is None]
    unknown = [c for c in checks if c.checked_at is not None and c.status is Status.UNKNOWN]
    bad = [c for c in checks if c.status in (Status.WARNING, Status.CRITICAL)]
    judged = [c for c in checks if c.status is not Status.ABSENT]
    if not checks:
        return Verdict(Tone.UNKNOWN, "Unknown", Said("No check has told anything yet."), "no checks", notes)
    if waiting:
        reason = Said(_ONE_WAITS if len(checks) == 1 else _SOME_WAIT, count=len(waiting), all=len(checks))
        return Verdict(Tone.UNKNOWN, "Starting", reason, "starting", notes)
    if unknown:
        one = len(unknown) == 1
        reason = Said(_ONE_IS_BLIND if one else _SOME_ARE_BLIND, count=len(unknown))
        return Verdict(Tone.UNKNOWN, "Not sure", reason, Said("%(count)s unknown", count=len(unknown)), notes)
    if bad:
        reason = Said(_ONE_IS_PAST if len(judged) == 1 else _SOME_ARE_PAST, count=len(bad), all=len(judged))
        return Verdict(Tone.OK, "So far", reason, "well so far", notes)
    reason = Said(_ONE_IS_OK) if len(judged) == 1 else Said(_ALL_ARE_OK, all=len(judged))
    return Verdict(Tone.OK, "Yes", reason, "well", notes)


def _notes(view: View, firing: Sequence[AlertView]) -> Iterable[str]:
    pending = sum(a.state == "pending" for a in view.alerts)
    held = sum(bool(a.suppressed_by) for a in firing)
    acknowledged = sum(a.acknowledged_by is not None for a in firing)
    if pending:
        yield Said("%(count)s pending", count=pending)
    if acknowledged:
        yield Said("%(count)s acknowledged", count=acknowledged)
    if held:
        yield Said("messages of %(count)s held back", count=held)


def tally(checks: Sequence[CheckView]) -> list[tuple[Tone, int, str]]:
    """Count entities by status, worst first: tone, number, word. What did not run yet is waiting, not unknown."""
    counts = Counter((tone_of_check(c), c.status.label if c.checked_at else "waiting") for c in checks)
    return [(tone, count, word) for (tone, word), count in sorted(counts.items(), reverse=True)]


def proof_of(job: JobView, drills: Sequence[PastDrill], now: datetime) -> Proof:
    """Weigh one job's last drill, its age, and its two objectives. ``drills``: the latest of all jobs, newest first."""
    duties = [d for d in job.duties if d.kind == "drill"]
    candidates = [*drills, *([job.last_drill] if job.last_drill else [])]
    passed = next((d for d in candidates if d.job == job.name and _had_all_back(d)), None)
    whole = job.last_drill is None or job.last_drill.level in WHOLE
    earlier = [d.last_success_at for d in duties if d.last_success_at] if whole else []  # may have left the list
    proven_at = max([*earlier, *([passed.ended_at] if passed else [])], default=None)
    rto = _meter(passed.rto_seconds if passed else None, job.rto_seconds, Said("not measured yet"), _SLOW)
    newest = job.newest_snapshot
    age = (now - newest.taken_at).total_seconds() if newest else None
    rpo = _meter(age, job.rpo_seconds, Said("no snapshot yet"), _OLD)
    tone, word = _proof_word(job, proven_at, min((d.max_age_seconds for d in duties), default=None), now)
    if tone is Tone.OK and rpo.tone is Tone.WARNING:
        tone, word = Tone.WARNING, "proven, loss above RPO"
    elif tone is Tone.OK and rto.tone is Tone.WARNING:
        tone, word = Tone.WARNING, "proven, slower than RTO"
    return Proof(job.name, tone, word, proven_at, rto, rpo)


def _had_all_back(drill: PastDrill) -> bool:
    return drill.verdict == "PASSED" and drill.level in WHOLE


def _proof_word(job: JobView, proven_at: datetime | None, max_age: float | None, now: datetime) -> tuple[Tone, str]:
    last = job.last_drill
    if last is not None and last.verdict == "FAILED":
        return Tone.CRITICAL, "drill failed"
    if job.newest_snapshot is None:
        return Tone.UNKNOWN, "no snapshot yet"
    if proven_at is None:
        if last is not None:
            partly = _PARTLY.get(last.level, last.level)
            return Tone.UNKNOWN, partly if last.verdict == "PASSED" else "drill inconclusive"
        return (Tone.UNKNOWN, "not drilled yet") if max_age is not None else (Tone.WARNING, "no drill set up")
    if max_age and (now - proven_at).total_seconds() > max_age:
        return Tone.WARNING, "proof too old"
    if last is not None and last.verdict == "INCONCLUSIVE":
        return Tone.UNKNOWN, "proven, last drill inconclusive"
    return Tone.OK, "proven"


def _meter(measured: float | None, objective: float | None, nothing: str, past: str) -> Meter:
    promise = Said("no objective") if objective is None else Said("of %(time)s", time=format_duration(objective))
    if measured is None:
        return Meter(Tone.UNKNOWN, 0.0 if objective else None, nothing, promise)
    if objective is None:
        return Meter(Tone.ABSENT, None, format_duration(measured), promise)
    share = measured / objective if objective > 0 else 1.0
    tone = Tone.OK if measured <= objective else Tone.WARNING
    word = promise if tone is Tone.OK else Said(past, time=format_duration(objective))
    return Meter(tone, min(max(share, 0.0), 1.0), format_duration(measured), word)


def recoverable(jobs: Sequence[JobView], proofs: Sequence[Proof]) -> Verdict:
    """Answer "can we get it back?" from the proofs of all jobs."""
    if not jobs:
        return Verdict(Tone.WARNING, "No", Said("Nothing is backed up: the settings have no jobs."), "no backups")
    worst = max(p.tone for p in proofs)
    hit = [p for p in proofs if p.tone is worst]
    names = _names([p.job for p in hit])
    if worst is Tone.CRITICAL:
        short = Said("%(count)s drill failed" if len(hit) == 1 else "%(count)s drills failed", count=len(hit))
        return Verdict(worst, "No", Said("The last restore drill of %(names)s failed.", names=names), short)
    if worst is Tone.WARNING:
        reason = _of_one(hit[0]) if len(hit) == 1 else Said("Promises are not kept for %(names)s.", names=names)
        return Verdict(worst, "Yes, but" if all(p.proven_at for p in hit) else "Not all", reason, "promise broken")
    if worst is Tone.UNKNOWN:
        reason = _of_one(hit[0]) if len(hit) == 1 else Said("Not proven for %(names)s.", names=names)
        return Verdict(worst, "Not sure", reason, "not proven")
    reason = Said(_ONE_CAME_BACK) if len(proofs) == 1 else Said(_ALL_CAME_BACK, all=len(proofs))
    return Verdict(Tone.OK, "Yes", reason, "proven")


def _of_one(proof: Proof) -> str:
    return Said("%(job)s: %(word)s.", job=proof.job, word=Said(proof.word))


def _names(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    if len(names) > 3:
        return Said("%(names)s and %(count)s more", names=", ".join(names[:3]), count=len(names) - 3)
    return Said("%(names)s and %(last)s", names=", ".join(names[:-1]), last=names[-1])
