"""Forecasts at work: asks history for the past of each reading that has a rule, and lets results carry what comes of
it.

A forecast is looked at anew as often as its points come, not with each result, and all of it is in the history: after a
restart the same is found again. Judges nothing but forecasts, and never makes a result better.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from config.checks.forecast import ForecastSettings
from config.said import Said, listed
from monitor.forecast import Forecast, forecast, needed, point_spacing
from monitor.history import History
from monitor.result import Result, Status
from monitor.store import MonitorStoreError

log = logging.getLogger(__name__)

_KEEP = timedelta(days=2)
"""Longer than any points are apart: what was not looked at for so long is of an entity that is gone."""

Rules = Mapping[str, Sequence[ForecastSettings]]
"""By check."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a rule said of an entity when last looked at."""

    at: datetime
    found: Forecast


class Forecaster:
    """One thread at a time."""

    def __init__(self, history: History, rules: Rules) -> None:
        self._history = history
        self._rules: dict[str, tuple[ForecastSettings, ...]] = {}
        self._looks: dict[tuple[str, str, int], _Look] = {}
        self._swept_at: datetime | None = None
        self.configure(rules)

    def configure(self, rules: Rules) -> None:
        """Go by other rules; what was forecast for those that stay is kept."""
        before, self._rules = self._rules, {check: tuple(some) for check, some in rules.items() if some}
        same = {check for check, some in self._rules.items() if before.get(check) == some}
        self._looks = {key: look for key, look in self._looks.items() if key[0] in same}

    def applied(self, results: Iterable[Result], now: datetime) -> list[Result]:
        """Return the results, with the status and the words of the worst forecast where that is worse."""
        if self._swept_at is None or abs(now - self._swept_at) >= _KEEP:
            self._looks = {key: look for key, look in self._looks.items() if abs(now - look.at) < _KEEP}
            self._swept_at = now
        return [self._applied(result, now) if result.check in self._rules else result for result in results]

    def outlook(self, check: str, entity: str) -> str | None:
        """Return in words when an entity will be past a bound, soon enough to matter or not; None without a trend."""
        texts = [look.found.text for _, look in self._looks_at(check, entity) if look.found.outlook is not None]
        return listed(texts) or None

    def _looks_at(self, check: str, entity: str) -> Iterable[tuple[int, _Look]]:
        for index in range(len(self._rules.get(check, ()))):
            if (look := self._looks.get((check, entity, index))) is not None:
                yield index, look

    def _applied(self, result: Result, now: datetime) -> Result:
        if result.status > Status.CRITICAL or not result.readings:
            return result
        for index, rule in enumerate(self._rules[result.check]):
            self._look(result, index, rule, now)
        worst = max((look.found for _, look in self._looks_at(result.check, result.entity)), key=lambda f: f.status)
        if worst.status <= result.status:
            return result
        message = Said("%(first)s; %(second)s", first=worst.text, second=result.message)
        return replace(result, status=worst.status, message=message)

    def _look(self, result: Result, index: int, rule: ForecastSettings, now: datetime) -> None:
        key = (result.check, result.entity, index)
        before = self._looks.get(key)
        spacing = point_spacing(rule)
        if before is not None and abs(now - before.at) < spacing:
            return
        reading = rule.reading or result.readings[0].name
        try:
            rolled = self._history.rollups(result.check, result.entity, reading, now - needed(rule), now, spacing)
        except MonitorStoreError as error:
            log.debug("forecast without history", extra={"check": result.check, "reason": str(error)})
            rolled = []
        middle = spacing.total_seconds() / 2
        points = [(one.at_ms / 1000 + middle, one.mean) for one in rolled]
        status = before.found.status if before is not None else Status.OK
        end = points[-1][0] if points else 0.0
        self._looks[key] = _Look(now, forecast(rule, points, end, reading, status))
