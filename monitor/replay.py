"""Today's rules over what was measured: which alerts would have fired, had these rules been in force.

Readings come from the history: every one as far back as samples go, five-minute means before that. The very functions
that judge and alert are used. What was not recorded cannot be judged again: verdicts that a probe brought along (a
refused connection, a plugin's exit code), readings without a threshold at the time, and stretches without data.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.checks import Bound
from monitor.alerting import Alert, Change, Policy, Transition, advance
from monitor.flapping import observe
from monitor.forecaster import Forecaster
from monitor.history import History
from monitor.judge import judge
from monitor.result import Reading, Result, Status
from monitor.wording import describe

SPOKEN = frozenset({Change.FIRED, Change.WORSENED, Change.EASED, Change.RESOLVED, Change.FLAPPING, Change.STEADY})
"""Changes that matter to people; pending and the like are left out."""
_COARSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is said of one check today."""

    type: str
    policy: Policy
    main: str | None
    """Its main reading; None where the first recorded one is."""
    warning: Sequence[Bound] = ()
    critical: Sequence[Bound] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one check."""

    transitions: tuple[Transition, ...]
    """Those of ``SPOKEN``, in order."""
    results: int
    """How many results there were to judge."""


def replay(
    rules: Rules, history: History, since: datetime, until: datetime, forecaster: Forecaster | None = None
) -> Replay:
    """Play one check again between two moments. Raises MonitorStoreError."""
    alerts: dict[str, Alert] = {}
    standing: dict[str, dict[str, Status]] = {}
    transitions: list[Transition] = []
    results = 0
    for at, entity, readings in _runs(rules, history, since, until):
        results += 1
        verdict = judge(readings, rules.warning, rules.critical, standing.get(entity, {}))
        standing[entity] = dict(verdict.standing)
        known = tuple(reading for reading in readings if math.isfinite(reading.value))
        message = describe(rules.type, entity or rules.policy.check, known, verdict.breach)
        result = Result(
            rules.policy.check, entity, verdict.status, message, at, 0.0, known, standing=standing[entity]
        )
        if forecaster is not None:
            [result] = forecaster.applied([result], at)
        before = alerts.get(entity)
        after, transition = advance(before, result, rules.policy, at)
        after, flapping = observe(before, after, at)
        if after is None:
            alerts.pop(entity, None)
        else:
            alerts[entity] = after
        transitions += [one for one in (transition, flapping) if one is not None and one.change in SPOKEN]
    return Replay(tuple(transitions), results)


def _runs(
    rules: Rules, history: History, since: datetime, until: datetime
) -> Iterator[tuple[datetime, str, list[Reading]]]:
    """Yield moment, entity and readings (main one first) of each recorded run, in order of time."""
    found: dict[tuple[datetime, str], list[Reading]] = {}
    for entity, name, unit in history.series(rules.policy.check):
        for at, value in _values(history, rules.policy.check, entity, name, since, until):
            found.setdefault((at, entity), []).append(Reading(name, value, unit, entity))
    for (at, entity), readings in sorted(found.items(), key=lambda item: item[0]):
        first = [reading for reading in readings if reading.name == rules.main]
        if rules.main is not None and not first:
            first = [Reading(rules.main, math.nan, "number", entity)]
        yield at, entity, [*first, *(reading for reading in readings if reading.name != rules.main)]


def _values(
    history: History, check: str, entity: str, reading: str, since: datetime, until: datetime
) -> Iterable[tuple[datetime, float]]:
    samples = history.samples(check, entity, reading, since, until)
    finest = samples[0][0] if samples else until
    if finest - since > _COARSE:
        for one in history.rollups(check, entity, reading, since, finest - timedelta(milliseconds=1), _COARSE):
            end = datetime.fromtimestamp(one.at_ms / 1000, UTC) + _COARSE
            if end <= finest:
                yield end, one.mean
    yield from samples
