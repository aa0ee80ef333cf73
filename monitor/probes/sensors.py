"""Temperatures and fans, from psutil. Virtual machines have neither: that is NoData, no error."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psutil

from monitor.result import Measurement, NoData, Reading

Sensor = TypeVar("Sensor")
Chips = Callable[[], Mapping[str, Sequence[Any]]]
"""Chip -> its sensors as psutil's ``shwtemp`` or ``sfan``."""


def _temperatures() -> Mapping[str, Sequence[Any]]:
    return psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}


def _fans() -> Mapping[str, Sequence[Any]]:
    return psutil.sensors_fans() if hasattr(psutil, "sensors_fans") else {}


class TemperatureProbe:
    """Every temperature sensor of every chip."""

    def __init__(self, read: Chips = _temperatures) -> None:
        self._read = read

    def measure(self) -> Measurement:
        """Return ``celsius``, and ``share_of_critical`` where the chip names a limit, an entity a sensor."""
        readings: list[Reading] = []
        for entity, sensor in _named(self._read()):
            if sensor.current is None:
                continue
            readings.append(Reading("celsius", sensor.current, "celsius", entity))
            if sensor.critical is not None and sensor.critical > 0:
                readings.append(Reading("share_of_critical", sensor.current / sensor.critical, "ratio", entity))
        if not readings:
            raise NoData("this machine shows no temperature sensor")
        return Measurement(readings)


class FansProbe:
    """Every fan of every chip."""

    def __init__(self, read: Chips = _fans) -> None:
        self._read = read

    def measure(self) -> Measurement:
        """Return ``rpm``, an entity a fan."""
        readings = [Reading("rpm", fan.current, "rpm", entity) for entity, fan in _named(self._read())]
        if not readings:
            raise NoData("this machine shows no fan")
        return Measurement(readings)


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
