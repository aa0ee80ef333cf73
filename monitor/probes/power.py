"""Power supplies and batteries, from /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power)."""

import os
from collections.abc import Iterator
from pathlib import Path

from config.selection import EVERYTHING, Selection
from monitor.node.reading import names_in, read_or
from monitor.result import Measurement, NoData, Reading

SYS_POWER = Path("/sys/class/power_supply")


class PowerSupplyProbe:
    """What feeds the machine from the mains."""

    def __init__(self, selection: Selection = EVERYTHING, folder: Path = SYS_POWER) -> None:
        self._selection = selection
        self._folder = folder

    def measure(self) -> Measurement:
        """Return ``online``, an entity a supply."""
        readings = [
            Reading("online", int(supply.number("online") or 0), "count", supply.name)
            for supply in _supplies(self._folder, self._selection)
            if supply.text("type") in ("Mains", "USB", "Wireless") and supply.number("online") is not None
        ]
        return _measurement(readings, self._selection, "this machine shows no power supply")


class BatteryProbe:
    """The machine's own batteries, not those of its mouse."""

    def __init__(self, selection: Selection = EVERYTHING, folder: Path = SYS_POWER) -> None:
        self._selection = selection
        self._folder = folder

    def measure(self) -> Measurement:
        """Return ``charge``, ``discharging``, and where the battery knows, ``health`` and ``time_left``; by battery."""
        readings = [
            reading
            for battery in _supplies(self._folder, self._selection)
            if battery.text("type") == "Battery" and battery.text("scope") != "Device"
            for reading in _battery(battery)
        ]
        return _measurement(readings, self._selection, "this machine has no battery")


class _Supply:
    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._folder = f"{folder}/{name}"

    def text(self, file: str) -> str:
        return read_or(f"{self._folder}/{file}")

    def number(self, file: str) -> float | None:
        try:
            return float(self.text(file))
        except ValueError:
            return None


def _supplies(folder: Path, selection: Selection) -> Iterator[_Supply]:
    return (_Supply(os.fspath(folder), name) for name in names_in(os.fspath(folder)) if selection.takes(name))


def _battery(battery: _Supply) -> Iterator[Reading]:
    """Batteries count in energy (microwatt hours) or in charge (microampere hours), by their driver."""
    amount, flow = ("energy", "power") if battery.number("energy_now") is not None else ("charge", "current")
    now, full = battery.number(f"{amount}_now"), battery.number(f"{amount}_full")
    percent = battery.number("capacity")
    if percent is not None:
        charge = percent / 100
    elif now is not None and full:
        charge = now / full
    else:
        return
    discharging = battery.text("status") == "Discharging"
    yield Reading("charge", min(charge, 1.0), "ratio", battery.name)
    yield Reading("discharging", int(discharging), "count", battery.name)
    new = battery.number(f"{amount}_full_design")
    if full and new:
        yield Reading("health", full / new, "ratio", battery.name)
    rate = battery.number(f"{flow}_now")
    if discharging and now is not None and rate:
        yield Reading("time_left", now / abs(rate) * 3600, "seconds", battery.name)


def _measurement(readings: list[Reading], selection: Selection, nothing: str) -> Measurement:
    missing = selection.missing(reading.entity for reading in readings)
    if not readings and not missing:
        raise NoData(nothing)
    return Measurement(readings, missing=missing)
