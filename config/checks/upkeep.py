"""Settings of checks of how the machine is kept: updates, restarts that are due, and what nobody should find open."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from config.checks.base import CheckBase, Readings
from config.model import AbsolutePath
from config.units import Duration

OCTAL_MODE = r"^0?[0-7]{3}$"
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?/(tcp|udp)")


def _ports(text: str) -> str:
    match = _PORTS.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) < 65_536:
        raise ValueError("is no port; write '22/tcp', '53/udp' or '8000-8100/tcp'")
    return text


class RebootCheck(CheckBase):
    """Whether a restart is due. Main reading `required` (1 when an update asked for it, or a newer kernel than the one
    that runs is installed). Messages say why.
    """

    type: Literal["reboot"]
    readings: ClassVar[Readings] = {"required": "count"}
    defaults = {"every": "10m", "for": "1h", "warning": "> 0"}


class UpdatesCheck(CheckBase):
    """Updates of packages that wait (apt). Main reading `security` (count); also `pending` (all of them), and `age`
    (seconds since the lists of packages were fetched). Messages name the packages.
    """

    type: Literal["updates"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"security": "count", "pending": "count", "age": "seconds"}
    defaults = {
        "every": "6h",
        "timeout": "2m",
        "for": "1d",
        "warning": ["> 0", {"reading": "age", "raise": "> 7d", "clear": "< 7d"}],
    }


class PermissionsCheck(CheckBase):
    """Who may read and write certain paths, an entity a path. Main reading `wrong` (count of files and folders that are
    not as they should be). Messages name them.
    """

    type: Literal["permissions"]
    readings: ClassVar[Readings] = {"wrong": "count"}
    defaults = {"every": "10m", "timeout": "1m", "critical": "> 0"}
    paths: list[AbsolutePath] = Field(min_length=1, examples=[["/etc/shadow", "/srv/invoices"]])
    """Files and folders."""
    at_most: str = Field("0775", pattern=OCTAL_MODE)
    """Most that anybody may: files and folders that allow more are wrong. '0775' finds what all the world may write. A
    folder may be searched by whoever may read it; one with the sticky bit, such as /tmp, may be written by all."""
    owner: str | None = Field(None, min_length=1, examples=["root"])
    """User that must own them."""
    group: str | None = Field(None, min_length=1, examples=["shadow"])
    """Group that must own them."""
    recursive: bool = False
    """Whether what lies below folders counts, on the same file system; symbolic links are not followed."""

    @property
    def named_entities(self) -> frozenset[str]:
        """The paths."""
        return frozenset(map(str, self.paths))


class ListeningPortsCheck(CheckBase):
    """Ports that answer to the network. Main reading `unexpected` (count of those not in `allowed`); also `open` (all).
    Messages name port and program.
    """

    type: Literal["listening_ports"]
    readings: ClassVar[Readings] = {"unexpected": "count", "open": "count"}
    defaults = {"every": "1m", "min_samples": 2, "warning": "> 0"}
    allowed: list[Annotated[str, AfterValidator(_ports)]] = Field(examples=[["22/tcp", "443/tcp", "8000-8100/tcp"]])
    """Ports that may be open."""
    loopback: bool = False
    """Whether ports that only this machine can reach count."""


class FailedLoginsCheck(CheckBase):
    """Logins that were refused, by the system's record of them (/var/log/btmp: SSH, console). Main reading `failed`
    (count `within` the time). Messages name the addresses and users that tried most.
    """

    type: Literal["failed_logins"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"failed": "count"}
    defaults = {"every": "1m", "warning": "> 100", "critical": "> 1000"}
    within: Duration = Field("1h", validate_default=True)
    """How long one is counted."""
