"""Settings of checks: what is measured, how often, and what counts as bad. One class per check type.

:mod:`base` has what all share; the types lie in modules by what they look at, and the probes that do them in
:mod:`monitor.build`. A module is imported when somebody first names one of its types: whoever watches a machine and a
web page holds nothing of databases, SNMP and logs.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Annotated

from config.checks.base import ActionSettings, Bound, CheckBase, Readings
from config.checks.choosing import ChosenByType, tag_of

__all__ = ["TYPES", "ActionSettings", "Bound", "CheckBase", "CheckSettings", "model_of", "readings_of"]

_MODULES: Mapping[str, tuple[str, ...]] = {
    "host": (
        "cpu", "load", "memory", "swap", "disk", "file_systems", "disk_io", "network", "uptime", "processes",
        "file_descriptors", "pressure", "oom_kills", "conntrack", "entropy", "clock", "users", "stuck_processes",
        "process_limits", "cgroups",
    ),
    "upkeep": ("reboot", "updates", "permissions", "listening_ports", "failed_logins"),
    "hardware": (
        "temperature", "fans", "smart", "md_raid", "zfs", "btrfs", "lvm", "memory_errors", "machine_checks",
        "power_supply", "battery", "link", "bond", "ipmi_sensors", "ipmi_events", "ups",
    ),
    "snmp": ("snmp_uptime", "snmp_interfaces", "snmp_sensors", "snmp_value"),
    "supervised": ("systemd", "timers", "docker"),
    "services": ("process", "tcp", "udp", "http", "tls", "dns", "icmp", "smtp", "ssh", "ntp"),
    "databases": ("postgres", "mysql", "redis", "memcached", "rabbitmq", "nats", "mqtt"),
    "logs": ("log",),
    "data": ("freshness", "reconcile", "heartbeat"),
    "extensions": ("command", "textfile", "push"),
}  # fmt: skip
"""Module of this package -> the types in it."""

TYPES: Mapping[str, str] = MappingProxyType({tag: module for module, tags in _MODULES.items() for tag in tags})
"""Every check type, and the module that it is in."""


@cache
def model_of(check_type: str) -> type[CheckBase]:
    """Return the settings class of a type. Raises KeyError for one that there is not."""
    module = import_module(f"config.checks.{TYPES[check_type]}")
    classes = (one for one in vars(module).values() if isinstance(one, type) and issubclass(one, CheckBase))
    return next(one for one in classes if tag_of(one) == check_type)


def readings_of(check_type: str) -> Readings:
    """Return the readings of a type and their units, the main one first; none where a plugin names them."""
    return model_of(check_type).readings


CheckSettings = Annotated[CheckBase, ChosenByType(tuple(TYPES), model_of)]
