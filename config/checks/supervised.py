"""Settings of checks of what somebody else keeps running: systemd's units and timers, Docker's containers."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import Discovering, Readings
from config.model import AbsolutePath
from config.units import Duration


class SystemdCheck(Discovering):
    """Units of systemd, an entity a unit. Main reading `failed` (1 when it has); also `active` (1 when it is),
    `restarts` (within `restart_window`), `state_for` (seconds in its present state).

    Critical when a unit has failed, or one that is named in full is not active; warning when it restarts more often
    than `most_restarts`. A oneshot service that has ended well is fine.
    """

    type: Literal["systemd"]
    readings: ClassVar[Readings] = {
        "failed": "count",
        "active": "count",
        "restarts": "count",
        "state_for": "seconds",
    }
    include: list[str] = Field(["*.service", "*.socket", "*.mount"], examples=[["nginx.service", "erp-*.service"]])
    """Names of units, or patterns such as 'erp-*.service'. It is an alert when one that is named in full is not there
    or not active."""
    most_restarts: int = Field(2, ge=0)
    """How many restarts within `restart_window` are no loop yet."""
    restart_window: Duration = Field("5m", validate_default=True)
    """Over how long restarts are counted."""
    user: bool = False
    """Whether units of the user's own manager are meant, instead of the system's."""


class TimersCheck(Discovering):
    """Timers of systemd, an entity a timer. Main reading `overdue` (seconds past its time, 0 when it is not); also
    `last_run_age` (seconds), `failed` (1 when its last run has).

    Critical when the last run failed, or a timer that is named in full is not active.
    """

    type: Literal["timers"]
    readings: ClassVar[Readings] = {"overdue": "seconds", "last_run_age": "seconds", "failed": "count"}
    defaults: ClassVar[Mapping[str, object]] = {"every": "1m", "warning": "> 15m"}
    include: list[str] = Field(["*.timer"], examples=[["certbot.timer"]])
    """Names of timers, or patterns. It is an alert when one that is named in full is not there."""
    user: bool = False
    """Whether timers of the user's own manager are meant, instead of the system's."""


class DockerCheck(Discovering):
    """Containers of Docker, an entity a container. Main reading `running` (1 when it is); also `restarts` (since the
    last run), `up_for` (seconds), `exit_code` (of one that has ended).

    Critical when a container is dead, calls itself unhealthy, has ended with an error though it is to be restarted, or
    is named in full and does not run; warning while it restarts.
    """

    type: Literal["docker"]
    readings: ClassVar[Readings] = {
        "running": "count",
        "restarts": "count",
        "up_for": "seconds",
        "exit_code": "count",
    }
    socket: AbsolutePath = Path("/var/run/docker.sock")
    """Docker's socket, or podman's; nothing is looked at on a machine without."""
