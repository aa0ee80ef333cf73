"""Temperatures and fans, from psutil. Virtual machines have neither: that is NoData, no error."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psutil

from config.selection import EVERYTHING, Selection
from monitor.result import Measurement, NoData, Reading

Sensor = TypeVar("Sensor")
PLAUSIBLE = (-50.0, 120.0)
_HIGHEST_LIMIT = 150.0
Chips = Callable[[], Mapping[str, Sequence[Any]]]
"""Chip -> its sensors as psutil's ``shwtemp`` or ``sfan``."""


def _temperatures() -> Mapping[str, Sequence[Any]]:
    return psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}


def _fans() -> Mapping[str, Sequence[Any]]:
    return psutil.sensors_fans() if hasattr(psutil, "sensors_fans") else {}


class TemperatureProbe:
    """Temperature sensors of all chips. What lies outside ``plausible`` (degrees) comes from no sensor that works."""

    def __init__(
        self,
        read: Chips = _temperatures,
        selection: Selection = EVERYTHING,
        plausible: tuple[float, float] = PLAUSIBLE,
    ) -> None:
        self._read = read
        self._selection = selection
        self._plausible = plausible

    def measure(self) -> Measurement:
        """Return ``celsius``, and ``share_of_critical`` where the chip names a limit, an entity a sensor."""
        readings: list[Reading] = []
        lowest, highest = self._plausible
        for entity, sensor in _named(self._read()):
            if not self._selection.takes(entity) or sensor.current is None or not lowest <= sensor.current <= highest:
                continue
            readings.append(Reading("celsius", sensor.current, "celsius", entity))
            # A chip without a limit of its own may name one like 65261.8 degrees.
            if sensor.critical is not None and 0 < sensor.critical <= _HIGHEST_LIMIT:
                readings.append(Reading("share_of_critical", sensor.current / sensor.critical, "ratio", entity))
        return _measurement(readings, self._selection, "this machine shows no temperature sensor")


class FansProbe:
    """Fans of all chips."""

    def __init__(self, read: Chips = _fans, selection: Selection = EVERYTHING) -> None:
        self._read = read
        self._selection = selection

    def measure(self) -> Measurement:
        """Return ``rpm``, an entity a fan."""
        named = [(entity, fan) for entity, fan in _named(self._read()) if self._selection.takes(entity)]
        readings = [Reading("rpm", fan.current, "rpm", entity) for entity, fan in named]
        return _measurement(readings, self._selection, "this machine shows no fan")


def _measurement(readings: Sequence[Reading], selection: Selection, nothing: str) -> Measurement:
    missing = selection.missing(reading.entity for reading in readings)
    if not readings and not missing:
        raise NoData(nothing)
    return Measurement(readings, missing=missing)


def _named(chips: Mapping[str, Sequence[Sensor]]) -> Iterator[tuple[str, Sensor]]:
    """Name each sensor by chip and label; those that share a name are numbered in the kernel's order."""
    labelled = [
        (f"{chip} {getattr(sensor, 'label', '')}".strip(), sensor) for chip, row in chips.items() for sensor in row
    ]
    total = Counter(name for name, _ in labelled)
    seen: Counter[str] = Counter()
    for name, sensor in labelled:
        seen[name] += 1
        yield (f"{name} {seen[name]}" if total[name] > 1 else name), sensor
