"""Units and timers of systemd, as ``systemctl show`` tells them: a block of properties for each, apart by empty lines.

systemctl is asked rather than D-Bus: it is on every machine with systemd, and its output is documented to be parsed
(systemctl(1), "show"). A machine without a running systemd has nothing to look at.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from config.said import Said
from config.selection import Selection
from monitor.probes.program import NotInstalled, Program
from monitor.probes.recent import RecentByEntity
from monitor.result import Finding, Measurement, NoData, ProbeError, Reading, Status

Show = Callable[[Sequence[str], Sequence[str]], str]
"""Takes properties and names or patterns of units, returns what systemctl says of them."""
_UNIT = ("Id", "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "Type", "StateChangeTimestampMonotonic",
         "ExecMainStatus")  # fmt: skip
_TIMER = ("Id", "LoadState", "ActiveState", "NextElapseUSecRealtime", "NextElapseUSecMonotonic", "LastTriggerUSec",
          "Unit")  # fmt: skip
_TRIGGERED = ("Id", "ActiveState", "Result", "ExecMainStatus")
_OUTPUT_BYTES = 4 << 20
_NEVER = ("", "0", "infinity", "n/a", "[not set]", str(2**64 - 1))


class Systemctl:
    """Asks the running systemd, of the system or of the ``user``. ``booted`` is the folder that tells of one."""

    def __init__(self, timeout_seconds: float, *, user: bool = False, booted: str = "/run/systemd/system") -> None:
        self._timeout_seconds = timeout_seconds
        self._user = user
        self._booted = booted

    def __call__(self, properties: Sequence[str], units: Sequence[str]) -> str:
        """Ask. Raises NoData where no systemd runs, ProbeError when it does not answer."""
        if not os.path.isdir(self._booted):
            raise NoData("this machine does not run systemd")
        scope = ["--user"] if self._user else ["--system"]
        # --timestamp=unix would need version 248; the monotonic ones are numbers in all of them
        words = ["systemctl", *scope, "show", "--all", "--no-pager", f"--property={','.join(properties)}", "--", *units]
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        program = Program(
            words, self._timeout_seconds, shown="systemctl show", environment=environment,
            output_limit_bytes=_OUTPUT_BYTES,
        )  # fmt: skip
        try:
            ended = program.run()
        except NotInstalled as error:
            raise NoData("this machine has no systemctl") from error
        if ended.code and not ended.output:
            raise ProbeError(f"asking systemd: {ended.complaint or f'exit status {ended.code}'}")
        return ended.output.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class RestartRule:
    """How many restarts within ``window_seconds`` are no loop yet."""

    most: int
    window_seconds: float


class SystemdProbe:
    """Looks at the units that a selection takes. ``monotonic`` counts seconds since boot, as systemd's stamps do."""

    def __init__(
        self,
        show: Show,
        selection: Selection,
        rule: RestartRule,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._selection = selection
        self._rule = rule
        self._monotonic = monotonic
        self._restarts = RecentByEntity(rule.window_seconds, monotonic)

    def measure(self) -> Measurement:
        """Return ``failed``, ``active``, ``restarts`` and ``state_for``, an entity a unit.

        CRITICAL for one that failed, or is named and not active; WARNING for one that restarts again and again.
        """
        blocks = parse(self._show(_UNIT, self._selection.include))
        units = {
            unit["Id"]: unit
            for unit in blocks
            if unit.get("LoadState") == "loaded" and self._selection.takes(unit.get("Id", ""))
        }
        totals = {name: float(unit["NRestarts"]) for name, unit in units.items() if unit.get("NRestarts", "").isdigit()}
        restarts = self._restarts.see(totals)
        readings: list[Reading] = []
        findings: dict[str, Finding] = {}
        for name, unit in units.items():
            readings += self._readings(name, unit, restarts.get(name))
            if finding := self._finding(name, unit, restarts.get(name, 0.0)):
                findings[name] = finding
        return Measurement(readings, missing=self._selection.missing(units), findings=findings)

    def _readings(self, name: str, unit: Mapping[str, str], restarts: float | None) -> Iterator[Reading]:
        state = unit.get("ActiveState")
        yield Reading("failed", state == "failed", "count", name)
        yield Reading("active", state in ("active", "reloading"), "count", name)
        if restarts is not None:
            yield Reading("restarts", restarts, "count", name)
        changed = unit.get("StateChangeTimestampMonotonic", "")
        if changed.isdigit() and int(changed):
            yield Reading("state_for", max(0.0, self._monotonic() - int(changed) / 1e6), "seconds", name)

    def _finding(self, name: str, unit: Mapping[str, str], restarts: float) -> Finding | None:
        state = unit.get("ActiveState", "")
        if state == "failed":
            return Finding(Status.CRITICAL, Said("%(name)s has failed: %(why)s", name=name, why=_why(unit)))
        if restarts > self._rule.most:
            times = f"{restarts:.0f}"
            message = Said(
                "%(name)s restarted %(times)s times, the last time by %(why)s", name=name, times=times, why=_why(unit)
            )
            return Finding(Status.WARNING, message)
        named = name in self._selection.named
        ended_well = unit.get("Type") == "oneshot" and unit.get("Result") == "success"
        if named and state not in ("active", "reloading", "activating") and not ended_well:
            message = Said(
                "%(name)s is %(state)s (%(detail)s)", name=name, state=state, detail=unit.get("SubState", "")
            )
            return Finding(Status.CRITICAL, message)
        return None


class TimersProbe:
    """Looks at the timers that a selection takes, and at what they triggered."""

    def __init__(
        self,
        show: Show,
        selection: Selection,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._selection = selection
        self._clock = clock
        self._monotonic = monotonic

    def measure(self) -> Measurement:
        """Return ``overdue``, ``last_run_age`` and ``failed``, an entity a timer.

        CRITICAL when the last run of one failed, or one that is named is not active.
        """
        timers = {
            timer["Id"]: timer
            for timer in parse(self._show(_TIMER, self._selection.include))
            if timer.get("LoadState") == "loaded" and self._selection.takes(timer.get("Id", ""))
        }
        triggered = sorted({timer["Unit"] for timer in timers.values() if timer.get("Unit")})
        units = {unit.get("Id", ""): unit for unit in parse(self._show(_TRIGGERED, triggered))} if triggered else {}
        readings: list[Reading] = []
        findings: dict[str, Finding] = {}
        for name, timer in timers.items():
            unit = units.get(timer.get("Unit", ""), {})
            failed = unit.get("ActiveState") == "failed"
            readings.append(Reading("overdue", self._overdue(timer, unit), "seconds", name))
            if (ran_at := moment(timer.get("LastTriggerUSec", ""))) is not None:
                age = (self._clock() - ran_at).total_seconds()
                readings.append(Reading("last_run_age", max(0.0, age), "seconds", name))
            readings.append(Reading("failed", failed, "count", name))
            if failed:
                message = Said(
                    "%(unit)s, run by %(name)s, failed: %(why)s", unit=timer["Unit"], name=name, why=_why(unit)
                )
                findings[name] = Finding(Status.CRITICAL, message)
            elif name in self._selection.named and timer.get("ActiveState") != "active":
                message = Said("%(name)s is %(state)s, so nothing runs", name=name, state=timer.get("ActiveState"))
                findings[name] = Finding(Status.CRITICAL, message)
        return Measurement(readings, missing=self._selection.missing(timers), findings=findings)

    def _overdue(self, timer: Mapping[str, str], unit: Mapping[str, str]) -> float:
        """Return how long ago the next time of an active timer was; one whose unit runs right now is not waited for."""
        if timer.get("ActiveState") != "active" or unit.get("ActiveState") in ("active", "activating"):
            return 0.0
        waits = []
        if (due := microseconds(timer.get("NextElapseUSecMonotonic", ""))) is not None:
            waits.append(self._monotonic() - due / 1e6)
        if (due_at := moment(timer.get("NextElapseUSecRealtime", ""))) is not None:
            waits.append((self._clock() - due_at).total_seconds())
        return max(0.0, min(waits, default=0.0))


def parse(text: str) -> list[dict[str, str]]:
    """Return the blocks of ``systemctl show``. A line that is no property is passed over."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return [block for block in blocks if block.get("Id")]


_SPANS = {"us": 1, "ms": 1e3, "s": 1e6, "min": 6e7, "h": 3.6e9, "d": 8.64e10, "day": 8.64e10, "days": 8.64e10,
          "w": 6.048e11, "week": 6.048e11, "weeks": 6.048e11, "month": 2.62974e12, "months": 2.62974e12,
          "y": 3.15576e13, "year": 3.15576e13, "years": 3.15576e13}  # fmt: skip
"""Units of systemd.time(7) in microseconds, as it prints them."""


def microseconds(text: str) -> float | None:
    """Return a time span that systemd printed as a number or as ``1h 2min 3.5s``; None for never."""
    if text in _NEVER:
        return None
    if text.isdigit():
        return float(text)
    total = 0.0
    for word in text.split():
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        factor = _SPANS.get(word[len(number) :])
        if factor is None or not number.replace(".", "", 1).isdigit():
            return None
        total += float(number) * factor
    return total


def moment(text: str) -> datetime | None:
    """Return a moment that systemd printed in UTC, as ``Sun 2026-03-01 02:00:00 UTC``; None for never."""
    try:
        return datetime.strptime(text.partition(" ")[2], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None


def _why(unit: Mapping[str, str]) -> str:
    result, code = unit.get("Result", "unknown"), unit.get("ExecMainStatus", "0")
    return Said("%(result)s, exit status %(code)s", result=result, code=code) if result == "exit-code" else result
