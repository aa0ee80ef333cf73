"""The command ``diagnose``: network, version, permissions, records, and a bundle to send; in this order.

It goes on where others give up: with a configuration that cannot be used, or without a state directory, it answers what
can be answered.
"""

import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from backup.errors import BackupError
from config.documents import Document
from config.problems import ConfigProblems
from config.settings import Settings
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup
from keepwatch.cli.output import note, print_json
from keepwatch.cli.status import recorded_view
from keepwatch.clock import now
from keepwatch.diagnose import bundle
from keepwatch.diagnose.answer import Answer, Mark, Question, problem, unknown
from keepwatch.diagnose.network import network
from keepwatch.diagnose.permissions import permissions
from keepwatch.diagnose.records import database, records
from keepwatch.diagnose.scrubbing import Scrubber, secrets_of
from keepwatch.diagnose.servers import servers
from keepwatch.diagnose.versions import versions
from keepwatch.errors import StateError
from keepwatch.state import StateDirectory
from keepwatch.view import View
from monitor.database import MonitorStoreError


def register(app: typer.Typer) -> None:
    """Add the command."""
    codes = "0 nothing is wrong; 1 something is; 2 usage"
    mount(app, diagnose, "keepwatch diagnose --output support.tar.gz", codes)


def diagnose(
    setup: Setup,
    output: Annotated[
        Path | None, typer.Option(help="Write a bundle to send, without any secret.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Ask the five questions: network, version, permissions, records, support bundle."""
    settings, document, refused = _settings(setup)
    state, no_state = _state(settings, setup.state_dir)
    view = _view(setup) if settings and state and _are_whole(state) else None
    questions = [
        Question("network", _asked(lambda: network(settings)) if settings else refused),
        Question("version", _asked(versions) + (_asked(lambda: servers(settings)) if settings else ())),
        Question(
            "permissions",
            _asked(lambda: permissions(settings, state, setup.path)) if settings and state else refused + no_state,
        ),
        Question("records", (_asked(lambda: records(state, view, now())) if state else no_state) + refused),
    ]
    if as_json:
        print_json(questions)
    else:
        print(bundle.as_text(questions), end="")
    if output:
        journals = (state.journal, state.plan_log) if state else ()
        host = settings.daemon.host if settings else platform.node()
        files = bundle.contents(questions, settings, document, view, journals, host, now())
        written = "".join(
            file.read_text(encoding="utf-8", errors="replace") for file in (document.files if document else []) if file
        )
        known = secrets_of(settings, os.environ, written) if settings else ()
        bundle.write(output, files, Scrubber(known), now())
        note(f"5. support bundle: written to {output}; look into it before you send it")
    elif not as_json:
        print("5. support bundle\n   keepwatch diagnose --output support.tar.gz")
    return 1 if any(question.problems for question in questions) else 0


def _settings(setup: Setup) -> tuple[Settings | None, Document | None, tuple[Answer, ...]]:
    """Return the settings, or everything that is wrong with them."""
    try:
        return setup.settings, setup.document, ()
    except ConfigProblems as problems:
        return None, None, tuple(problem("configuration", str(one)) for one in problems.problems)


def _state(settings: Settings | None, state_dir: Path | None) -> tuple[StateDirectory | None, tuple[Answer, ...]]:
    place = settings.daemon.state_dir if settings else state_dir
    if place is None:
        return None, (unknown("state directory", "where it is stands in the configuration", "or name --state-dir"),)
    if not place.exists():
        return None, (problem("state directory", f"{place} is not there", "the daemon's first start makes it"),)
    try:
        return StateDirectory(place, to_read=True), ()
    except StateError as error:
        return None, (problem("state directory", str(error), error.hint or ""),)


def _are_whole(state: StateDirectory) -> bool:
    """Whether both databases may be opened without changing anything: a damaged one would be set aside."""
    return all(database(path).mark is Mark.OK for path in (state.monitor_db, state.backup_db))


def _view(setup: Setup) -> View | None:
    try:
        return recorded_view(setup)
    except (BackupError, MonitorStoreError):
        return None  # the databases themselves are looked at below, and say why


def _asked(question: Callable[[], Iterable[Answer]]) -> tuple[Answer, ...]:
    return tuple(question())
