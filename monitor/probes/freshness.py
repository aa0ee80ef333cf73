"""How old is the newest row, file or JSON field? Nothing there at all is as bad as something too old."""

import glob
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.assertions import NotThere, at_path
from monitor.probes.http_exchange import Request, exchange
from monitor.probes.moments import age_of
from monitor.probes.sql import database
from monitor.result import Finding, Measurement, ProbeError, Reading, Status

_AHEAD_SECONDS = 300.0
"""How far in the future a moment may lie before somebody's clock, or zone, is wrong."""


class Newest(Protocol):
    """Where a moment is found. ``what`` names it in messages."""

    @property
    def what(self) -> str:
        """What is looked at."""
        ...

    def find(self, timeout_seconds: float) -> Any:
        """Return a moment or an age in any form, None when there is nothing. Raises ProbeError, ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class NewestRow:
    """The first value of the first row of a query."""

    dsn: str
    query: str
    what: str = "the newest row"

    def find(self, timeout_seconds: float) -> Any:
        """Ask the database."""
        with database(self.dsn, timeout_seconds) as opened:
            row = next(opened.read(self.query).rows, None)
        return row[0] if row else None


@dataclass(frozen=True, slots=True)
class NewestFile:
    """The time of the last change of the newest file that a pattern matches."""

    pattern: str

    @property
    def what(self) -> str:
        """The pattern."""
        return f"the newest file of {self.pattern}"

    def find(self, timeout_seconds: float) -> Any:  # noqa: ARG002 - a file answers at once
        """Look at the files. One that goes while it is looked at does not count."""
        newest = None
        for path in glob.iglob(self.pattern, recursive=True):
            try:
                found = os.stat(path)
            except OSError:
                continue
            newest = found.st_mtime if newest is None else max(newest, found.st_mtime)
        return newest


@dataclass(frozen=True, slots=True)
class NewestField:
    """A field of a JSON document at a web address."""

    url: str
    at: str
    headers: Mapping[str, str]

    @property
    def what(self) -> str:
        """The field."""
        return self.at or "the answer"

    def find(self, timeout_seconds: float) -> Any:
        """Fetch the document."""
        document = fetch_json(self.url, self.headers, timeout_seconds)
        try:
            return at_path(document, self.at)
        except NotThere as reason:
            raise ValueError(str(reason)) from reason


class FreshnessProbe:
    """Holds what ``newest`` finds against ``clock``, and against ``max_age_seconds`` where that is given."""

    def __init__(
        self, newest: Newest, max_age_seconds: float | None, timeout_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._newest = newest
        self._max_age_seconds = max_age_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def measure(self) -> Measurement:
        """Return ``age`` in seconds; CRITICAL when there is nothing, or it is too old. Raises ProbeError."""
        found = self._newest.find(self._timeout_seconds)
        if found is None:
            return Measurement([], Finding(Status.CRITICAL, Said("%(what)s is not there", what=self._newest.what)))
        try:
            age = age_of(found, self._clock())
        except ValueError as error:
            raise ProbeError(f"reading {self._newest.what}: {error}", hint="it has to be a moment or an age") from error
        return Measurement([Reading("age", max(age, 0.0), "seconds")], self._finding(age))

    def _finding(self, age: float) -> Finding | None:
        if age < -_AHEAD_SECONDS:
            message = Said(
                "%(what)s lies %(time)s in the future: is its clock, or its time zone, right?",
                what=self._newest.what, time=rounded(-age),
            )
            return Finding(Status.WARNING, message)
        if self._max_age_seconds is not None and age > self._max_age_seconds:
            limit = rounded(self._max_age_seconds)
            message = Said(
                "%(what)s is %(time)s old, and may be %(limit)s",
                what=self._newest.what, time=rounded(age), limit=limit,
            )
            return Finding(Status.CRITICAL, message)
        return None


def fetch_json(url: str, headers: Mapping[str, str], timeout_seconds: float) -> Any:
    """Return the JSON document at a web address. Raises ProbeError."""
    deadline = time.monotonic() + timeout_seconds
    try:
        answer = exchange(Request("GET", url, headers), verify_tls=True, deadline=deadline)
    except Unreachable as reason:
        raise ProbeError(str(reason)) from reason
    if answer.status != 200 or answer.cut:
        raise ProbeError(f"fetching JSON: answered {answer.status}" + (", with too long a body" if answer.cut else ""))
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise ProbeError(f"fetching JSON: the answer is none ({error})") from error


def rounded(seconds: float) -> str:
    """Write seconds with their two largest units. (``config.units`` would load pydantic into each child.)"""
    whole, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if whole >= size:
            parts.append(f"{whole // size}{unit}")
            whole %= size
    return " ".join(parts[:2]) or "0s"
