"""Settings of checks whose measuring is somebody else's program."""

from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import CheckBase, Readings
from config.expansion import SecretText


class CommandCheck(CheckBase):
    """A program that speaks the Nagios plugin protocol: exit 0/1/2/3 and performance data as readings."""

    type: Literal["command"]
    readings: ClassVar[Readings] = {}
    run: str = Field(min_length=1, examples=["/usr/lib/nagios/plugins/check_ntp_time -H pool.ntp.org"])
    """Command line; run without a shell."""
    environment: dict[str, SecretText] = Field({}, examples=[{"PGPASSFILE": "/etc/keepwatch/pgpass"}])
    """Variables added to its environment; write secrets in them as ${VARIABLE}."""


ExtensionCheck = CommandCheck
