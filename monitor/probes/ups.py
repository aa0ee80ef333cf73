"""Uninterruptible power supplies, asked of NUT's upsd by its own protocol (RFC 9271), without a login.

Variables and statuses: https://networkupstools.org/docs/user-manual.chunked/apcs01.html and ``ups.status`` there.
"""

import math
import shlex
import socket
import time
from collections.abc import Iterator, Mapping

from config.selection import EVERYTHING, Selection
from monitor.probes.address import Unreachable, connect
from monitor.result import Measurement, NoData, ProbeError, Reading

_MOST_BYTES = 256 * 1024
_FLAGS = {"on_battery": "OB", "low_battery": "LB", "replace_battery": "RB", "overloaded": "OVER"}
_VALUES: tuple[tuple[str, str, str, float], ...] = (
    ("charge", "battery.charge", "ratio", 0.01),
    ("load", "ups.load", "ratio", 0.01),
    ("time_left", "battery.runtime", "seconds", 1.0),
    ("input_volts", "input.voltage", "number", 1.0),
    ("celsius", "ups.temperature", "celsius", 1.0),
)


class UpsProbe:
    """All supplies of one upsd, or the included ones."""

    def __init__(self, host: str, port: int, timeout_seconds: float, selection: Selection = EVERYTHING) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._selection = selection

    def measure(self) -> Measurement:
        """Return ``on_battery`` and what else the supply tells, an entity a supply. Raises ProbeError without upsd."""
        deadline = time.monotonic() + self._timeout_seconds
        try:
            connection, _ = connect(self._host, self._port, deadline)
        except Unreachable as reason:
            raise ProbeError(f"asking upsd: {reason}", hint="does nut-server run there, and listen?") from reason
        with connection:
            upsd = _Upsd(connection, deadline)
            names = [row[0] for row in upsd.list("UPS") if row and self._selection.takes(row[0])]
            missing = self._selection.missing(names)
            if not names and not missing:
                raise NoData("upsd knows no supply")
            readings: list[Reading] = []
            notes: dict[str, str] = {}
            for name in names:
                try:
                    variables = {row[1]: row[2] for row in upsd.list("VAR", name) if len(row) >= 3}
                except RefusalError as refusal:
                    readings.append(Reading("on_battery", math.nan, "count", name))
                    notes[name] = f"upsd says {refusal}"
                    continue
                readings += _readings(name, variables)
        return Measurement(readings, missing=missing, notes=notes)


def _readings(name: str, variables: Mapping[str, str]) -> Iterator[Reading]:
    status = variables.get("ups.status", "").split()
    for reading, flag in _FLAGS.items():
        yield Reading(reading, int(flag in status) if status else math.nan, "count", name)
    for reading, variable, unit, factor in _VALUES:
        try:
            yield Reading(reading, float(variables[variable]) * factor, unit, name)
        except (KeyError, ValueError):
            continue  # few supplies tell everything


class RefusalError(ProbeError):
    """upsd answered ERR: the supply does not answer it (DATA-STALE, DRIVER-NOT-CONNECTED), or may not be asked."""


class _Upsd:
    """One conversation: lines of words, quoted like a shell's."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._received = b""
        self._total = 0

    def list(self, *what: str) -> "list[list[str]]":
        """Return the rows of a LIST without what was asked for. Raises ProbeError, and RefusalError for an ERR."""
        asked = " ".join(what)
        self._connection.sendall(f"LIST {asked}\n".encode())
        first = self._line()
        if first.startswith("ERR"):
            raise RefusalError(first)
        if first != f"BEGIN LIST {asked}":
            raise ProbeError(f"asking upsd to LIST {asked}: it answered {first[:80]!r}", hint="is that really upsd?")
        rows = []
        while (line := self._line()) != f"END LIST {asked}":
            try:
                rows.append(shlex.split(line)[1:])
            except ValueError as error:
                raise ProbeError(f"asking upsd to LIST {asked}: cannot read {line[:80]!r}: {error}") from error
        return rows

    def _line(self) -> str:
        while b"\n" not in self._received:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0 or self._total > _MOST_BYTES:
                raise ProbeError(
                    "asking upsd: no answer in time" if remaining <= 0 else "asking upsd: too long an answer"
                )
            self._connection.settimeout(remaining)
            try:
                piece = self._connection.recv(65_536)
            except TimeoutError:
                continue
            except OSError as error:
                raise ProbeError(f"asking upsd: {error.strerror or error}") from error
            if not piece:
                raise ProbeError("asking upsd: it hung up")
            self._received += piece
            self._total += len(piece)
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("utf-8", "replace").strip()
