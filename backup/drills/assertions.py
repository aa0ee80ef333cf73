"""What an operator says must hold of restored data: a statement's value between bounds, or a command that succeeds.

Values are compared in kind: numbers with numbers, time spans with time spans, moments as the time since then, text with
text. An assertion that cannot be judged has not held; that includes a value of another kind than its bounds.
"""

import math
import os
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from backup.applications.base import Running
from backup.errors import ApplicationError
from config.units import format_duration

Bound = float | timedelta | str

_TOLD_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Assertion:
    """One of them: exactly one of ``sql`` and ``run``."""

    sql: str = ""
    """Statement whose first value is held against the bounds; without any bound it must be true."""
    run: str = ""
    """Command that must exit 0; it finds the files below $KEEPWATCH_RESTORED."""
    database: str | None = None
    member: str = ""
    """Which of several applications is asked; the only one when left out."""
    min: Bound | None = None
    max: Bound | None = None
    equals: Bound | None = None
    timeout_seconds: float = 300

    def __str__(self) -> str:
        words = (("at least", self.min), ("at most", self.max), ("exactly", self.equals))
        bounds = [f"{word} {_shown(bound)}" for word, bound in words if bound is not None]
        return " ".join([self.sql or self.run, *(["is", " and ".join(bounds)] if bounds else [])])


def judge(assertion: Assertion, running: Running, now: datetime) -> str:
    """Ask the application; give why the assertion does not hold, empty when it does."""
    try:
        value = running.query(assertion.sql, assertion.database)
    except ApplicationError as error:
        return f"{assertion.sql}: {error}"
    return misfit(assertion, value, now)


def misfit(assertion: Assertion, value: object, now: datetime) -> str:
    """Say why a value is not what is asserted, empty when it is. A moment counts as the time since then.

    So does text that is a moment in ISO 8601, where a time span bounds it: SQLite keeps moments so. Without a zone it
    is taken for UTC.
    """
    if isinstance(value, str) and any(isinstance(b, timedelta) for b in (assertion.min, assertion.max)):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = now - (value if value.tzinfo else value.replace(tzinfo=UTC))
    elif isinstance(value, date):
        value = now - datetime(value.year, value.month, value.day, tzinfo=UTC)
    bounds = (assertion.min, assertion.max, assertion.equals)
    if bounds == (None, None, None):
        return "" if value not in (None, False, 0, "", "f", "0", "false") else f"{assertion.sql}: gave {_shown(value)}"
    try:
        holds = all(
            (
                assertion.min is None or _like(value, assertion.min) >= assertion.min,  # type: ignore[operator]
                assertion.max is None or _like(value, assertion.max) <= assertion.max,  # type: ignore[operator]
                assertion.equals is None or _like(value, assertion.equals) == assertion.equals,
            )
        )
    except TypeError:
        return f"{assertion}: gave {_shown(value)}, which cannot be compared so"
    return "" if holds else f"{assertion}: gave {_shown(value)}"


def _like(value: object, bound: Bound) -> Bound:
    """Give the value as the kind of its bound. Raises TypeError when it is of no such kind."""
    if isinstance(bound, str):
        if value is None:
            raise TypeError
        return str(value)
    if isinstance(bound, timedelta):
        if isinstance(value, timedelta):
            return value
        raise TypeError
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            raise TypeError from None
    if not isinstance(value, int | float | Decimal) or math.isnan(value):
        raise TypeError
    return float(value)


def run_command(assertion: Assertion, restored: Path, environment: Mapping[str, str], isolated: tuple[str, ...]) -> str:
    """Run the operator's command on the restored files; give why it does not hold, empty when it does.

    ``environment`` is added to ours. ``isolated`` is put before the command, to cut it off from the network.
    """
    command = [*isolated, *shlex.split(assertion.run)]
    variables = dict(os.environ) | dict(environment) | {"KEEPWATCH_RESTORED": str(restored)}
    try:
        done = subprocess.run(
            command, env=variables, cwd=restored, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=assertion.timeout_seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{assertion.run}: took longer than {format_duration(assertion.timeout_seconds)}"
    except OSError as error:
        return f"{assertion.run}: {(error.strerror or str(error)).lower()}"
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
    last = said.splitlines()[-1][:_TOLD_CHARACTERS] if said else "it said nothing"
    return f"{assertion.run}: exit status {done.returncode}: {last}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, timedelta):
        return format_duration(value)
    return str(value)[:_TOLD_CHARACTERS]
