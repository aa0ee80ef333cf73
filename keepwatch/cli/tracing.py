"""Commands that ask why: why an alert is as it is and who hears of it; what today's rules would have said of yesterday.

They read monitor.db and the settings, and decide by the daemon's own functions; nothing is written.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from backup.catalog import Catalog
from config.settings import Settings
from config.wording import counted
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup, duration
from keepwatch.cli.output import moment, note, print_json, print_table
from keepwatch.clock import now
from keepwatch.errors import UsageError
from keepwatch.watch import policies_of
from monitor.actions import action_log
from monitor.alerting import Alert, Change
from monitor.announcer import Announcer, Surroundings
from monitor.forecaster import Forecaster
from monitor.history import History
from monitor.maintenance import maintenance_of
from monitor.outbox import Outbox
from monitor.replay import SPOKEN, Replay, Rules, replay
from monitor.store import MonitorStore, NoSuchAlert
from monitor.suppress import LoadWindow
from monitor.why import Evidence, Section, trace

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_LINES = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    mount(app, why, "keepwatch why 'root disk'")
    mount(app, replay_, "keepwatch replay 'root disk' --since 7d", name="replay")


def why(
    setup: Setup,
    alert: Annotated[str, typer.Argument(help="Its id or the beginning of it, or its name.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Print the whole trace of decisions about an alert: from the reading to each channel."""
    store = MonitorStore(setup.recorded.monitor_db, to_read=True)
    catalog = Catalog(setup.recorded.backup_db, to_read=True)
    try:
        found = store.find(alert, open_only=False)
        runs = [run for run in catalog.runs(100) if run.outcome == "running"]
        windows = [LoadWindow(f"{run.kind} {run.job}".strip(), run.started_at) for run in runs]
        sections = explain(found, setup.settings, store, windows, now())
    except NoSuchAlert as error:
        raise UsageError(str(error), hint=error.hint) from None
    finally:
        store.close()
        catalog.close()
    if as_json:
        print_json({"alert": found, "trace": sections})
        return
    print(f"{found.title} ({found.id})")
    for section in sections:
        print(f"\n{section.title}")
        for line in section.lines:
            print(f"  {line}")


def explain(
    alert: Alert, settings: Settings, store: MonitorStore, load_windows: list[LoadWindow], at: datetime
) -> list[Section]:
    """Return the trace, decided as the daemon would with these settings. Raises MonitorStoreError."""
    policies = policies_of(settings)
    daemon = settings.daemon
    surroundings = Surroundings(daemon.host, daemon.zone, maintenance_of(settings.maintenance, daemon.zone))
    announcer = Announcer(store, surroundings, _LONG_AGO)
    announcer.configure(settings.notify, policies)
    announcer.read(at)
    noteworthy = [one for one in store.alerts() if one.is_firing or one.flapping]
    announcer.weigh(noteworthy, policies, load_windows, store.ran_at(), at)
    check = next((one for one in settings.checks if one.name == alert.check), None)
    evidence = Evidence(
        announcer.situation(at), announcer.ledger, settings.notify, check.warning if check else (),
        check.critical if check else (), announcer.acknowledgements.get(alert.id), store.log(alert.id, _LINES),
        [entry for entry in action_log(store) if entry.alert_id == alert.id][:_LINES],
        Outbox(store.database).problems(),
    )  # fmt: skip
    return trace(alert, policies.get(alert.check), evidence)


def replay_(
    setup: Setup,
    checks: Annotated[list[str] | None, typer.Argument(help="Which; all by default.", show_default=False)] = None,
    since: Annotated[str, typer.Option("--since", help="How far back.")] = "24h",
    as_json: JsonOption = False,
) -> None:
    """Play recorded readings again by today's rules, and show what would have fired beside what did."""
    zone = setup.settings.daemon.zone
    rules = rules_of(setup.settings, checks)
    until = now()
    begin = until - duration(since)
    store = MonitorStore(setup.recorded.monitor_db, to_read=True)
    try:
        history = History(store)
        found = {name: _play(setup.settings, name, one, history, begin, until) for name, one in rules.items()}
        entries = [e for e in store.log(limit=100_000) if e.at >= begin and e.check in rules and e.change in SPOKEN]
    finally:
        store.close()
    would = sorted((one for played in found.values() for one in played.transitions), key=lambda one: one.at)
    if as_json:
        print_json({"since": begin, "until": until, "would": would, "did": entries})
        return
    rows = [("today's rules", t.at, t.change, t.alert.severity, t.alert.title, t.reason) for t in would]
    rows += [("what was", e.at, e.change, e.severity, f"{e.check} {e.entity}".strip(), e.reason) for e in entries]
    rows.sort(key=lambda row: row[1])
    print_table(
        ("", "at", "change", "severity", "alert", "why"),
        [(who, moment(at, zone), change, severity.label, *rest) for who, at, change, severity, *rest in rows],
        empty="nothing would have fired, and nothing did",
    )
    fired = sum(one.change is Change.FIRED for one in would)
    did = sum(entry.change is Change.FIRED for entry in entries)
    results = sum(played.results for played in found.values())
    of = f"{counted(results, 'result')} of {counted(len(rules), 'check')}"
    note(f"{of}: {fired} would have fired by today's rules, {did} did")
    if silent := [name for name, played in found.items() if not played.results]:
        note(f"nothing is on record of: {', '.join(silent)}")


def rules_of(settings: Settings, names: list[str] | None) -> dict[str, Rules]:
    """Return the rules of the named checks, or of all that judge numbers. Raises UsageError."""
    policies = policies_of(settings)
    known = {check.name: check for check in settings.checks}
    for name in names or []:
        if name not in known:
            raise UsageError(f"no check is named {name}", hint=f"configured: {', '.join(known) or 'none'}")
    return {
        name: Rules(
            check.type, policies[name], next(iter(check.readings), None), tuple(check.warning), tuple(check.critical)
        )
        for name, check in known.items()
        if not names or name in names
    }


def _play(
    settings: Settings, name: str, rules: Rules, history: History, begin: datetime, until: datetime
) -> Replay:
    """Play one check; long ``for`` times are under way when the time that was asked for begins."""
    foreseen = {check.name: tuple(check.forecast) for check in settings.checks if check.name == name}
    earlier = begin - max(rules.policy.warning_for, rules.policy.critical_for, timedelta(0))
    return replay(rules, history, earlier, until, Forecaster(history, foreseen))
