"""What the tables of this package are made of: how one type of check gets its probe, and what else its type decides."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from config.checks import CheckBase
from monitor.inbox import Inbox
from monitor.memory import Memories
from monitor.probes.file_systems import FileSystems
from monitor.result import Probe


@dataclass(frozen=True, slots=True)
class Shared:
    """What probes share or cannot have of their own."""

    file_systems: FileSystems
    clock: Callable[[], datetime]
    memories: Memories
    inbox: Inbox
    zone: tzinfo
    """Where calendar times in settings are read."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How settings of one class become a check. Functions take the settings, an instance of that class."""

    probe: Callable[[Any, Shared], Probe]
    subject: Callable[[Any], str] | None = None
    """What the check is about, for messages, where its type does not say it all."""
    every: Callable[[Any], timedelta] | None = None
    """How often it is looked at, where the settings' ``every`` says something else: how often somebody else reports."""
    optional: frozenset[str] = frozenset()
    """Readings that hardware may honestly lack."""


Recipes = dict[type[CheckBase], Recipe]
