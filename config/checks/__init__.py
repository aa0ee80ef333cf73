"""Settings of checks: what is measured, how often, and what counts as bad. One class per check type.

:mod:`base` has what all share; the types lie in modules by what they look at. Every type stands in
:data:`CheckSettings` and, with the probe that does it, in :mod:`monitor.build`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, get_args

from config.checks.base import ActionSettings, Bound, CheckBase, Readings
from config.checks.choosing import ChosenByType
from config.checks.data import DataCheck
from config.checks.databases import DatabaseCheck
from config.checks.extensions import ExtensionCheck
from config.checks.hardware import HardwareCheck
from config.checks.host import HostCheck
from config.checks.logs import LogCheck
from config.checks.services import ServiceCheck
from config.checks.snmp import SnmpCheck
from config.checks.supervised import SupervisedCheck
from config.checks.upkeep import UpkeepCheck

__all__ = ["READINGS", "ActionSettings", "Bound", "CheckBase", "CheckSettings", "main_reading"]

CheckSettings = Annotated[
    HostCheck
    | UpkeepCheck
    | HardwareCheck
    | SnmpCheck
    | SupervisedCheck
    | ServiceCheck
    | DatabaseCheck
    | LogCheck
    | DataCheck
    | ExtensionCheck,
    ChosenByType(),
]

READINGS: Mapping[str, Readings] = MappingProxyType(
    {get_args(kind.model_fields["type"].annotation)[0]: kind.readings for kind in get_args(get_args(CheckSettings)[0])}
)
"""Readings of each check type and their units, the main one first. A command's readings are named by the plugin."""


def main_reading(check_type: str) -> str | None:
    """Return the reading that a threshold without `reading` compares; None where the plugin's first one is meant."""
    return next(iter(READINGS[check_type]), None)
