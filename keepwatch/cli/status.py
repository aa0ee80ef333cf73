"""The command ``status``: what the daemon last recorded, read from the stores whether it runs or not."""

import typer

from backup.catalog import Catalog
from config.units import format_duration
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup
from keepwatch.cli.output import ago, note, print_json, print_table
from keepwatch.clock import now
from keepwatch.duties import duties_of
from keepwatch.plans.shelf import Shelf
from keepwatch.view import AlertView, CheckView, View
from keepwatch.viewing import Viewer, WatchPart, read_backups
from monitor.store import MonitorStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    mount(app, status, "keepwatch status --json", "0 all is well; 1 something is not; 2 usage")


def status(setup: Setup, as_json: JsonOption = False) -> int:
    """Show checks, alerts and jobs against their RPO and RTO, as last recorded."""
    view = recorded_view(setup)
    since = setup.recorded.locked_since("daemon")
    if as_json:
        print_json({"daemon_running": since is not None, "daemon_started_at": since, "view": view})
    else:
        if since is None:
            note(f"no daemon runs on {setup.recorded.path}; this is what was last recorded there")
        _print_view(view)
    firing = any(alert.state in ("firing", "recovering") for alert in view.alerts)
    return 1 if firing or since is None else 0


def recorded_view(setup: Setup) -> View:
    """Return what the daemon would show, from what it last recorded."""
    settings = setup.settings
    store = MonitorStore(setup.recorded.monitor_db, to_read=True)
    try:
        statuses = store.statuses()
        owners = store.acknowledgements()
        watch = WatchPart(
            checks=tuple(
                CheckView(name, entity, _type_of(setup, name), found, "", None)
                for (name, entity), found in sorted(statuses.items())
            ),
            alerts=tuple(
                AlertView(
                    a.id, a.name, a.check, a.entity, a.severity.label, a.state.value, a.since, a.message,
                    acknowledged_by=owners[a.id].author if a.id in owners else None, resolved_at=a.resolved_at,
                )
                for a in store.alerts()
            ),
        )  # fmt: skip
    finally:
        store.close()
    with Catalog(setup.recorded.backup_db, to_read=True) as catalog:
        duties = tuple(duties_of(settings, now(), settings.daemon.zone))
        backups = read_backups(catalog, settings, duties, catalog.standings(), {})
    viewer = Viewer(settings, setup.recorded.locked_since("daemon") or now(), now)
    firing = [(a.check, f"{a.check} {a.entity}".strip()) for a in watch.alerts if a.state in ("firing", "recovering")]
    plans = Shelf(settings, setup.recorded.plan_log).part(now(), firing)
    viewer.put(watch=watch, backups=backups, plans=plans)
    return viewer.view()


def _type_of(setup: Setup, name: str) -> str:
    return next((check.type for check in setup.settings.checks if check.name == name), "backup")


def _print_view(view: View) -> None:
    rows = [
        (a.state, a.severity, f"{a.check} {a.entity}".strip(), ago(a.since, view.made_at), a.message)
        for a in view.alerts
        if a.state != "resolved"
    ]
    print_table(("ALERTS", "severity", "check", "since", "message"), rows, empty="no alerts")
    jobs = []
    for job in view.jobs:
        drill = job.last_drill
        saved = max((d.last_success_at for d in job.duties if d.kind != "drill" and d.last_success_at), default=None)
        jobs.append(
            (
                job.name,
                ago(saved, view.made_at),
                format_duration(job.rpo_seconds) if job.rpo_seconds else "-",
                f"{drill.verdict} {ago(drill.ended_at, view.made_at)}" if drill else "never drilled",
                format_duration(drill.rto_seconds) if drill and drill.rto_seconds is not None else "-",
                format_duration(job.rto_seconds) if job.rto_seconds else "-",
                str(job.pause or ""),
            )
        )
    print_table(("JOBS", "saved", "RPO", "drill", "measured RTO", "RTO", ""), jobs, empty="no jobs")
    checks = [(check.check, check.entity, check.status.label) for check in view.checks]
    print_table(("CHECKS", "entity", "status"), checks, empty="no check has run yet")
