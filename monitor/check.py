"""A check: a probe with what counts as bad, how often, and how urgent. And the one way to run it.

``run_check`` is total: it times the probe, catches whatever it raises, judges what it returns and always has at least
one result. It never schedules, notifies or stores; a probe that hangs in the kernel in spite of its own deadline holds
its thread, and it is for whoever owns the thread to give up on it with :func:`given_up`.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from config.checks import ActionSettings, Bound
from config.said import Said, listed
from config.units import format_duration
from monitor.judge import Verdict, judge
from monitor.result import Finding, Measurement, NoData, Probe, ProbeError, Reading, Result, Status
from monitor.wording import describe, one_line

log = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
"""How far past its timeout a run may come back and still count: a probe at its own deadline needs time to say so."""
_WEIGHT = {Status.OK: 0, Status.ABSENT: 0, Status.UNKNOWN: 1, Status.WARNING: 2, Status.CRITICAL: 3}
"""Known to be bad counts for more than not known."""


@dataclass(frozen=True, slots=True)
class Check:
    """What ``[[checks]]`` says, with the probe that measures it. Field names as in the settings."""

    name: str
    type: str
    probe: Probe
    subject: str = ""
    """What it looks at, for messages: a path, an address, a program."""
    every: timedelta = timedelta(seconds=30)
    retry_interval: timedelta | None = None
    """Its rhythm while an alert of it is pending; a quarter of ``every`` when there is none."""
    timeout: timedelta = timedelta(seconds=10)
    for_: timedelta = timedelta(0)
    keep_firing_for: timedelta = timedelta(0)
    min_samples: int = 1
    warning: tuple[Bound, ...] = ()
    critical: tuple[Bound, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook: str | None = None
    depends_on: tuple[str | tuple[str, ...], ...] = ()
    on_critical: ActionSettings | None = None
    optional: frozenset[str] = frozenset()
    """Readings that an entity may honestly lack: a bound on them is met by silence instead of UNKNOWN."""


Before = Mapping[str, Status | Result]
"""Entity -> its last result. After a restart its last status will do: each reading is then taken to have raised it."""


def run_check(check: Check, previous: Before, clock: Callable[[], datetime]) -> list[Result]:
    """Measure and judge once; never raises. Returns one result an entity, at least one.

    ``previous``: the results of the run before by entity, empty at first. A probe that fails gives one UNKNOWN for each
    entity of ``previous``, so that nothing known is taken for gone; an entity that vanished gives no result.
    """
    began = time.perf_counter()
    try:
        measurement = check.probe.measure()
        took = time.perf_counter() - began
        if took > check.timeout.total_seconds() + _GRACE_SECONDS:
            times = {"took": format_duration(took), "limit": format_duration(check.timeout)}
            slow = Said("took %(took)s, and may take %(limit)s", **times)
            return _failed(check, previous, slow, clock(), took)
        return list(_judged(check, _with_plain_names(measurement), previous, clock(), took))
    except NoData as reason:
        return [_result(check, "", Status.ABSENT, str(reason), clock(), time.perf_counter() - began)]
    except ProbeError as error:
        message = f"{error}; {error.hint}" if error.hint else str(error)
    except Exception as bug:  # a probe's bug must not blind the other checks
        what = one_line(f"{type(bug).__name__}: {bug}")
        message = Said("the probe failed with %(bug)s; this is a bug, the log has the details", bug=what)
        known = any(isinstance(before, Result) and before.message == message for before in previous.values())
        log.log(logging.DEBUG if known else logging.ERROR, "probe failed", extra={"check": check.name}, exc_info=True)
    return _failed(check, previous, message, clock(), time.perf_counter() - began)


def given_up(check: Check, previous: Before, now: datetime, running_seconds: float) -> list[Result]:
    """Results for a run that has not come back: UNKNOWN for each known entity, like a failed probe."""
    message = Said(
        "no answer after %(time)s: the probe is stuck in the system and cannot be ended",
        time=format_duration(running_seconds),
    )
    return _failed(check, previous, message, now, running_seconds)


def _with_plain_names(measured: Measurement) -> Measurement:
    """Write out what no database, message or terminal can carry in the names of entities: a mount point or a file may
    be called by any bytes.
    """
    names = {one.entity for one in measured.readings} | {*measured.missing, *measured.findings, *measured.notes}
    plain = {name: _plain(name) for name in names if not name.isprintable()}
    if not plain:
        return measured
    return replace(
        measured,
        readings=[replace(one, entity=plain.get(one.entity, one.entity)) for one in measured.readings],
        missing=[plain.get(entity, entity) for entity in measured.missing],
        findings={plain.get(entity, entity): finding for entity, finding in measured.findings.items()},
        notes={plain.get(entity, entity): note for entity, note in measured.notes.items()},
    )


def _plain(name: str) -> str:
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)


def _judged(check: Check, measured: Measurement, previous: Before, at: datetime, took: float) -> Iterator[Result]:
    by_entity: dict[str, list[Reading]] = {}
    for reading in measured.readings:
        by_entity.setdefault(reading.entity, []).append(reading)
    findings = {"": measured.finding, **measured.findings} if measured.finding else measured.findings
    for entity in findings:
        by_entity.setdefault(entity, [])
    if not (by_entity or measured.missing):
        by_entity[""] = []
    for entity in measured.missing:
        gone = Said("%(entity)s is named in the settings and not there", entity=entity)
        yield _result(check, entity, Status.CRITICAL, gone, at, took, standing=_standing(previous.get(entity)))
    for entity, readings in by_entity.items():
        verdict = judge(readings, check.warning, check.critical, _standing(previous.get(entity)))
        numbers = tuple(reading for reading in readings if math.isfinite(reading.value))
        status, message = _conclusion(check, entity, numbers, verdict, findings.get(entity))
        if entity in measured.notes:
            message = Said("%(message)s: %(note)s", message=message, note=one_line(measured.notes[entity]))
        yield _result(check, entity, status, message, at, took, numbers, verdict.standing)


def _conclusion(
    check: Check, entity: str, readings: tuple[Reading, ...], verdict: Verdict, finding: Finding | None
) -> tuple[Status, str]:
    """Weigh the probe's finding against the thresholds: the worse one counts, and what cannot be judged is never OK."""
    if finding and _WEIGHT[finding.status] > _WEIGHT[verdict.status]:
        return finding.status, finding.message
    if not verdict.breach:
        lacking = [name for name in verdict.missing if name not in check.optional]
        if lacking:
            names = listed([name or Said("its main one") for name in lacking])
            return Status.UNKNOWN, Said("a threshold is set on a reading that was not measured: %(names)s", names=names)
        if not readings and not finding:
            return Status.UNKNOWN, Said("nothing was measured")
        if finding and finding.message:
            return Status.OK, finding.message
    return verdict.status, describe(check.type, entity or check.subject, readings, verdict.breach)


def _failed(check: Check, previous: Before, message: str, at: datetime, took: float) -> list[Result]:
    return [
        _result(check, entity, Status.UNKNOWN, message, at, took, standing=_standing(previous.get(entity)))
        for entity in previous or ("",)
    ]


def _standing(before: Status | Result | None) -> Mapping[str, Status]:
    if isinstance(before, Result):
        return before.standing
    return {"": before} if before in (Status.WARNING, Status.CRITICAL) else {}


def _result(
    check: Check, entity: str, status: Status, message: str, at: datetime, took: float,
    readings: tuple[Reading, ...] = (), standing: Mapping[str, Status] | None = None,
) -> Result:  # fmt: skip
    return Result(check.name, entity, status, one_line(message), at, took, readings, check.labels, standing or {})
