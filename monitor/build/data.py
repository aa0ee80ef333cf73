"""Recipes of checks of data: freshness, agreement of two places, reports of the operator's own jobs."""

from datetime import timedelta
from functools import partial
from pathlib import Path

from config.checks import data
from config.schedule import Schedule
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.freshness import FreshnessProbe, Newest, NewestField, NewestFile, NewestRow
from monitor.probes.heartbeat import Expectation, HeartbeatProbe
from monitor.probes.in_child import InChild
from monitor.probes.reconcile import Comparison, ReconcileProbe
from monitor.probes.records import CsvRecords, FolderRecords, HttpRecords, JsonRecords, Records, SqlRecords
from monitor.result import Probe

OWN_SHARE = 0.85
"""Part of its time that a probe in a child has for itself, so that it can say what took so long before it is killed."""
_LOOK = timedelta(seconds=30)
"""How often a heartbeat is looked at, whose ``every`` is how often the job runs."""


def _freshness(check: data.FreshnessCheck, shared: Shared) -> Probe:
    seconds = check.timeout.total_seconds()
    max_age = None if check.warning or check.critical else check.max_age.total_seconds()
    probe = FreshnessProbe(_newest(check), max_age, seconds * OWN_SHARE, shared.clock)
    if check.sql:
        return InChild(probe, "asking the database", seconds)
    # the files may lie on a mount whose server is gone, where nothing in this process could be ended
    return InChild(probe, f"looking at {check.file}", seconds) if check.file else probe


def _newest(check: data.FreshnessCheck) -> Newest:
    if check.sql:
        return NewestRow(check.sql.dsn.get_secret_value(), check.sql.query)
    if check.http:
        return NewestField(check.http.url, check.http.at, _headers(check.http))
    return NewestFile(check.file or "")


def _reconcile(check: data.ReconcileCheck, _shared: Shared) -> Probe:
    seconds = check.timeout.total_seconds()
    key, compare, place = (tuple(map(str.lower, names)) for names in (check.key, check.compare, check.place))
    judged = bool(check.warning or check.critical)
    probe = ReconcileProbe(
        _records(check.left), _records(check.right), Comparison(key, compare, place), seconds * OWN_SHARE,
        any_is_critical=not judged,
    )  # fmt: skip
    return InChild(probe, "comparing", seconds)


def _records(side: data.SideSettings) -> Records:
    if side.sql:
        return SqlRecords(side.sql.dsn.get_secret_value(), side.sql.query)
    if side.csv:
        return CsvRecords(side.csv)
    if side.http:
        return HttpRecords(side.http.url, side.http.at, _headers(side.http))
    if side.folder:
        return FolderRecords(side.folder.path, side.folder.pattern)
    if isinstance(side.json_, Path):
        return JsonRecords(side.json_)
    assert side.json_
    return JsonRecords(side.json_.path, side.json_.at)


def _headers(source: data.HttpSource) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in source.headers.items()}


def _heartbeat(check: data.HeartbeatCheck, shared: Shared) -> Probe:
    schedule = check.schedule or Schedule(f"every {check.every}", every=check.every)
    expectation = Expectation(partial(schedule.next_after, zone=shared.zone), check.grace, check.run_limit)
    return HeartbeatProbe(partial(shared.inbox.heartbeat, check.name), expectation, shared.clock)


def _looked_at(check: data.HeartbeatCheck) -> timedelta:
    return min(_LOOK, check.every)


RECIPES: Recipes = {
    data.FreshnessCheck: Recipe(_freshness, subject=lambda check: check.name),
    data.ReconcileCheck: Recipe(_reconcile, subject=lambda check: check.name),
    data.HeartbeatCheck: Recipe(
        _heartbeat, subject=lambda check: check.name, every=_looked_at, optional=frozenset({"run_time", "exit_code"})
    ),
}
