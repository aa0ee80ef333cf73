"""Other devices over SNMP: whether they answer, their interfaces (IF-MIB, RFC 2863) and sensors (ENTITY-SENSOR-MIB, RFC
3433), and any number that somebody knows the object identifier of. Made to be measured in a child process.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from config.selection import EVERYTHING, Selection
from monitor.probes.snmp_session import Answer, SilenceError, SnmpAddress, ask
from monitor.result import Finding, Measurement, NoData, ProbeError, Reading, Status

Ask = Callable[[SnmpAddress, Sequence[str], Sequence[str]], Answer]

_UPTIMES = {
    "1.3.6.1.2.1.1.3.0": 0.01,  # sysUpTime: hundredths, of the agent, begins anew after 497 days
    "1.3.6.1.2.1.25.1.1.0": 0.01,  # hrSystemUptime: of the host
    "1.3.6.1.6.3.10.2.1.3.0": 1.0,  # snmpEngineTime: seconds, of the agent, for 68 years
}
_IF, _IFX = "1.3.6.1.2.1.2.2.1", "1.3.6.1.2.1.31.1.1.1"
_NAME, _DESCRIPTION, _ADMIN, _OPER, _SPEED, _HIGH_SPEED = (
    f"{_IFX}.1", f"{_IF}.2", f"{_IF}.7", f"{_IF}.8", f"{_IF}.5", f"{_IFX}.15",
)  # fmt: skip
_WIDE_OCTETS, _OCTETS = (f"{_IFX}.6", f"{_IFX}.10"), (f"{_IF}.10", f"{_IF}.16")
_WIDE_PACKETS = tuple(f"{_IFX}.{column}" for column in (7, 8, 9, 11, 12, 13))
_PACKETS = (f"{_IF}.11", f"{_IF}.17")
_ERRORS, _DISCARDS = (f"{_IF}.14", f"{_IF}.20"), (f"{_IF}.13", f"{_IF}.19")
_INTERFACE_COLUMNS = (
    _NAME, _DESCRIPTION, _ADMIN, _OPER, _SPEED, _HIGH_SPEED,
    *_WIDE_OCTETS, *_OCTETS, *_WIDE_PACKETS, *_PACKETS, *_ERRORS, *_DISCARDS,
)  # fmt: skip
_UP = 1

_SENSOR = "1.3.6.1.2.1.99.1.1.1"
_KIND, _SCALE, _PRECISION, _VALUE, _STATUS = (f"{_SENSOR}.{column}" for column in range(1, 6))
_ENTITY_NAME, _ENTITY_DESCRIPTION = "1.3.6.1.2.1.47.1.1.1.1.7", "1.3.6.1.2.1.47.1.1.1.1.2"
_NUMBERS = (_KIND, _SCALE, _PRECISION, _VALUE, _STATUS)
_SENSOR_COLUMNS = (*_NUMBERS, _ENTITY_NAME, _ENTITY_DESCRIPTION)
_KINDS = {
    3: ("volts", "number", 1.0),
    4: ("volts", "number", 1.0),
    5: ("amperes", "number", 1.0),
    6: ("watts", "number", 1.0),
    8: ("celsius", "celsius", 1.0),
    9: ("humidity", "ratio", 0.01),
    10: ("rpm", "rpm", 1.0),
}
_UNITS_SCALE, _NONOPERATIONAL = 9, 3


class SnmpUptimeProbe:
    """Whether the device answers, and since when it has been up."""

    def __init__(self, address: SnmpAddress, ask: Ask = ask) -> None:
        self._address = address
        self._ask = ask

    def measure(self) -> Measurement:
        """Return ``uptime`` and ``response_time`` (seconds); CRITICAL when there is no answer."""
        began = time.perf_counter()
        try:
            answer = self._ask(self._address, list(_UPTIMES), [])
        except SilenceError as silence:
            return Measurement([], Finding(Status.CRITICAL, f"{silence}; {silence.hint}"))
        took = time.perf_counter() - began
        known = [value * _UPTIMES[oid] for oid, value in answer.values.items() if isinstance(value, int)]
        if not known:
            raise ProbeError(f"asking {self._address.host} for its uptime: it tells none")
        return Measurement([Reading("uptime", max(known), "seconds"), Reading("response_time", took, "seconds")])


class SnmpValueProbe:
    """One number, times ``factor``."""

    def __init__(self, address: SnmpAddress, oid: str, factor: float = 1.0, ask: Ask = ask) -> None:
        self._address = address
        self._oid = oid.removeprefix(".")
        self._factor = factor
        self._ask = ask

    def measure(self) -> Measurement:
        """Return ``value``. Raises ProbeError when the device has no such object, or it is no number."""
        value = self._ask(self._address, [self._oid], []).values.get(self._oid)
        if value is None:
            raise ProbeError(
                f"asking {self._address.host} for {self._oid}: it has no such object",
                hint="is the instance in it? Single objects end in .0",
            )
        try:
            number = float(value)
        except ValueError as error:
            raise ProbeError(f"asking {self._address.host} for {self._oid}: {value!r} is no number") from error
        return Measurement([Reading("value", number * self._factor, "number")])


@dataclass(frozen=True, slots=True)
class _Look:
    """An interface's counters at a moment of the monotonic clock, which all processes of a machine share."""

    at: float
    received: int
    sent: int
    packets: int
    errors: int
    discards: int


class SnmpInterfacesProbe:
    """Interfaces by name. Rates need two looks: the first run has none, nor has one whose counters went backwards."""

    def __init__(
        self,
        address: SnmpAddress,
        selection: Selection = EVERYTHING,
        ask: Ask = ask,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._selection = selection
        self._ask = ask
        self._monotonic = monotonic
        self._before: dict[str, _Look] = {}

    def measure(self) -> Measurement:
        """Return ``down``, and rates since the last run, an entity an interface."""
        columns = self._ask(self._address, [], _INTERFACE_COLUMNS).columns
        now = self._monotonic()
        names = _names(columns, columns[_OPER], _NAME, _DESCRIPTION)
        chosen = {index: name for index, name in names.items() if self._selection.takes(name)}
        missing = self._selection.missing(chosen.values())
        if not chosen and not missing:
            raise NoData(f"{self._address.host} shows no interface")
        readings: list[Reading] = []
        looks: dict[str, _Look] = {}
        for index, name in chosen.items():
            wanted, works = (columns[column].get(index) == _UP for column in (_ADMIN, _OPER))
            readings.append(Reading("down", int(wanted and not works), "count", name))
            looks[name] = _look(columns, index, now)
            before = self._before.get(name)
            if before:
                readings += _rates(name, before, looks[name], _speed(columns, index))
        self._before = looks
        return Measurement(readings, missing=missing)


Columns = Mapping[str, Mapping[str, int | bytes]]


def _look(columns: Columns, index: str, now: float) -> _Look:
    def total(wide: Sequence[str], narrow: Sequence[str]) -> int:
        chosen = wide if any(index in columns[column] for column in wide) else narrow
        return sum(int(columns[column].get(index, 0)) for column in chosen)

    received, sent = (total([wide], [narrow]) for wide, narrow in zip(_WIDE_OCTETS, _OCTETS, strict=True))
    return _Look(now, received, sent, total(_WIDE_PACKETS, _PACKETS), total(_ERRORS, ()), total(_DISCARDS, ()))


def _rates(name: str, before: _Look, now: _Look, bytes_per_second: float) -> Iterator[Reading]:
    seconds = now.at - before.at
    received, sent, packets, errors, discards = (
        getattr(now, what) - getattr(before, what) for what in ("received", "sent", "packets", "errors", "discards")
    )
    if seconds <= 0 or min(received, sent, packets, errors, discards) < 0:
        return
    yield Reading("errors", errors / (packets + errors) if errors else 0.0, "ratio", name)
    yield Reading("receive_bytes_per_second", received / seconds, "bytes_per_second", name)
    yield Reading("transmit_bytes_per_second", sent / seconds, "bytes_per_second", name)
    yield Reading("discards_per_second", discards / seconds, "per_second", name)
    if bytes_per_second:
        yield Reading("used", min(max(received, sent) / seconds / bytes_per_second, 1.0), "ratio", name)


def _speed(columns: Columns, index: str) -> float:
    """Return bytes per second; 0 where it is not known."""
    megabits = int(columns[_HIGH_SPEED].get(index, 0))
    return megabits * 125_000 if megabits else int(columns[_SPEED].get(index, 0)) / 8


class SnmpSensorsProbe:
    """Sensors by the name of the part that they sit in."""

    def __init__(self, address: SnmpAddress, selection: Selection = EVERYTHING, ask: Ask = ask) -> None:
        self._address = address
        self._selection = selection
        self._ask = ask

    def measure(self) -> Measurement:
        """Return ``failed``, and the value in its unit, an entity a sensor. Raises NoData where there is none."""
        columns = self._ask(self._address, [], _SENSOR_COLUMNS).columns
        names = _names(columns, columns[_VALUE], _ENTITY_NAME, _ENTITY_DESCRIPTION)
        chosen = {index: name for index, name in names.items() if self._selection.takes(name)}
        missing = self._selection.missing(chosen.values())
        if not chosen and not missing:
            raise NoData(f"{self._address.host} shows no sensor")
        readings: list[Reading] = []
        for index, name in chosen.items():
            row = {column: int(columns[column].get(index, 0)) for column in _NUMBERS}
            readings.append(Reading("failed", int(row[_STATUS] == _NONOPERATIONAL), "count", name))
            if row[_STATUS] == 1 and row[_KIND] in _KINDS:
                reading, unit, factor = _KINDS[row[_KIND]]
                exponent = 3 * (row[_SCALE] - _UNITS_SCALE) - row[_PRECISION]
                value = row[_VALUE] * math.pow(10, exponent) * factor
                readings.append(Reading(reading, value, unit, name))
        return Measurement(readings, missing=missing)


def _names(columns: Columns, rows: Mapping[str, object], *where: str) -> dict[str, str]:
    """Name each row by the first column that says something; those that share a name by their number too."""
    said = {
        index: next((text for column in where if (text := _text(columns[column].get(index)))), index) for index in rows
    }
    shared = list(said.values())
    return {index: f"{name} {index}" if shared.count(name) > 1 else name for index, name in said.items()}


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace").strip("\0 ") if isinstance(value, bytes) else str(value or "")
