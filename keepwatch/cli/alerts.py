"""Commands about alerts: alerts, ack, silence.

They write and read monitor.db; a running daemon sees it at its next tick, and it works just as well while none runs.
"""

import getpass
from datetime import tzinfo
from typing import Annotated

import typer

from config.units import format_duration
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup, duration
from keepwatch.cli.output import ago, moment, note, print_json, print_table
from keepwatch.clock import now
from keepwatch.errors import UsageError
from monitor.actions import ActionEntry, action_log
from monitor.alerting import Alert
from monitor.matching import Matcher
from monitor.store import MonitorStore, NoSuchAlert
from monitor.suppress import Acknowledgement

AuthorOption = Annotated[str, typer.Option("--author", help="Who you are.", default_factory=getpass.getuser)]
CommentOption = Annotated[str, typer.Option("--comment", "-c", help="Why.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (alerts, "keepwatch alerts --log"),
        (ack, "keepwatch ack 3f9c -c 'disk is ordered' --for 2d"),
        (silence, "keepwatch silence check='root disk' --for 2h -c 'cleaning up'"),
    ):
        mount(app, command, example)


def alerts(
    setup: Setup,
    log: Annotated[bool, typer.Option("--log", help="The latest changes instead of what stands now.")] = False,
    actions: Annotated[bool, typer.Option("--actions", help="The commands that alerts asked for instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the alerts: firing, pending, and those resolved within the last day; or what they had run."""
    zone = setup.settings.daemon.zone
    store = MonitorStore(setup.recorded.monitor_db, to_read=True)
    try:
        if actions:
            _list_actions(action_log(store, limit=200), zone, as_json=as_json)
            return
        if log:
            entries = store.log(limit=200)
            if as_json:
                print_json(entries)
                return
            rows = [
                (moment(e.at, zone), e.alert_id, e.change, e.severity.label, f"{e.check} {e.entity}".strip(), e.reason)
                for e in entries
            ]
            print_table(("at", "id", "change", "severity", "check", "why"), rows, empty="nothing happened yet")
            return
        found = sorted(store.alerts(), key=lambda alert: (not alert.is_open, -alert.severity, alert.since))
        owners = store.acknowledgements()
        if as_json:
            print_json([{"alert": alert, "acknowledgement": owners.get(alert.id)} for alert in found])
            return
        table = []
        for alert in found:
            owner = owners.get(alert.id)
            who = _owner(alert, owner) if owner else ""
            since = ago(alert.since, now())
            table.append((alert.id, alert.state, alert.severity.label, alert.title, since, alert.message, who))
        print_table(("id", "state", "severity", "alert", "since", "message", ""), table, empty="no alerts")
    finally:
        store.close()


def _owner(alert: Alert, owner: Acknowledgement) -> str:
    if owner.baseline is not None:
        return f"{owner.author} accepts {owner.reading} at {owner.baseline:g}"
    return f"acknowledged by {owner.author}" if owner.covers(alert, now()) else ""


def _list_actions(entries: list[ActionEntry], zone: tzinfo, *, as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    rows = []
    for e in entries:
        lasted = format_duration(e.ended_at - e.started_at) if e.ended_at and e.started_at else ""
        said = e.output.strip().rpartition("\n")[2]
        code = "" if e.exit_code is None else e.exit_code
        about = f"{e.check} {e.entity}".strip()
        rows.append((moment(e.requested_at, zone), e.alert_id, about, e.command, e.outcome, code, lasted, said))
    columns = ("at", "id", "check", "command", "outcome", "exit", "took", "said")
    print_table(columns, rows, empty="no alert ran anything")


def ack(
    setup: Setup,
    alert: Annotated[str, typer.Argument(help="Its id or the beginning of it, or its name.")],
    author: AuthorOption,
    comment: CommentOption = "",
    lasting: Annotated[str | None, typer.Option("--for", help="For how long; until it is over by default.")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Accept its value for good; tell only when it gets worse than that.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the acknowledgement back.")] = False,
) -> None:
    """Take an alert on: repeats stop until it is over or gets worse."""
    store = MonitorStore(setup.state.monitor_db)
    try:
        if undo:
            note("taken back" if store.unacknowledge(alert, now()) else "it was not acknowledged")
            return
        expires_at = now() + duration(lasting) if lasting else None
        made = store.acknowledge(alert, author, comment, now(), expires_at, as_baseline=baseline)
        title = store.find(made.alert_id).title
    except NoSuchAlert as error:
        raise UsageError(str(error), hint=error.hint) from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        store.close()
    accepted = "" if made.baseline is None else f", who accepts {made.reading} up to {made.baseline:g}"
    print(f"{title} is {author}'s{accepted}")


def silence(
    setup: Setup,
    author: AuthorOption,
    matchers: Annotated[list[str] | None, typer.Argument(help="Such as check='root disk'.", show_default=False)] = None,
    comment: CommentOption = "",
    lasting: Annotated[str, typer.Option("--for", help="For how long.")] = "2h",
    expire: Annotated[int | None, typer.Option("--expire", help="End the silence of this number now.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold back messages about matching alerts for a time; without matchers, list the silences."""
    zone = setup.settings.daemon.zone
    listing = expire is None and not matchers
    place = setup.recorded if listing else setup.state
    store = MonitorStore(place.monitor_db, to_read=listing)
    try:
        if expire is not None:
            if not store.expire_silence(expire, now()):
                raise UsageError(f"no silence {expire} is active", hint="`keepwatch silence` lists them")
            print(f"silence {expire} is over")
        elif matchers:
            made = store.add_silence(
                [Matcher.parse(m) for m in matchers], author, comment, now(), now() + duration(lasting)
            )
            print(f"silence {made.id} until {moment(made.expires_at, zone)} ({format_duration(duration(lasting))})")
        else:
            found = store.silences(now())
            if as_json:
                print_json(found)
                return
            rows = [(s.id, str(s), s.author, s.comment, moment(s.expires_at, zone)) for s in found]
            print_table(("id", "matchers", "author", "comment", "until"), rows, empty="no silences")
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        store.close()
