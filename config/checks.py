"""Settings of checks: what is measured, how often, and what counts as bad. One class per check type."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from config.expansion import Expandable, SecretText
from config.model import AbsolutePath, Model, Name
from config.threshold import Threshold
from config.units import Duration

WEB_ADDRESS = r"^https?://"
AT_MOST = r"^\d+ per \d+(ms|[smhdwy])$"


class Bound(Model):
    """A threshold in its long form: which reading, where it raises, where it clears."""

    reading: str | None = Field(None, examples=["inodes_used"])
    """Name of the reading; the check's main one when left out."""
    raise_: Threshold = Field(alias="raise", examples=["> 85%"])
    """Where the status begins."""
    clear: Threshold | None = Field(None, examples=["< 80%"])
    """Where the status ends, such as '< 80%'; 10 % of the bound back from `raise` when left out."""

    @field_validator("clear", mode="after")
    @classmethod
    def _holds_until_clear(cls, clear: Threshold | None, info: ValidationInfo) -> Threshold | None:
        """Turn where it ends into what holds until then, the form that judging needs and `default_clear` gives."""
        start = info.data.get("raise_")
        if clear is None or start is None:
            return clear
        until = clear.opposite()
        if start.op[0] != until.op[0]:
            raise ValueError(f"lies on the same side as raise '{start}'; write where the status ends")
        if (start.op[0] == ">" and clear.bound > start.bound) or (start.op[0] == "<" and clear.bound < start.bound):
            raise ValueError(f"lies beyond raise '{start}', so the status would end where it begins")
        return until

    @property
    def until(self) -> Threshold:
        """What holds until the status ends, once it has begun."""
        return self.clear or self.raise_.default_clear()


def _as_bounds(value: object) -> object:
    """Accept ``"> 85%"``, ``{raise = "> 85%"}`` and a list of either."""
    rows = value if isinstance(value, list) else [value]
    return [{"raise": row} if isinstance(row, str | Threshold) else row for row in rows]


Bounds = Annotated[
    list[Bound], BeforeValidator(_as_bounds, json_schema_input_type=Threshold | Bound | list[Threshold | Bound])
]


class ActionSettings(Model):
    """A command run when a status is reached."""

    run: str = Field(min_length=1, examples=["/usr/local/sbin/clean-tmp"])
    """Shell command."""
    at_most: str = Field("1 per 1h", pattern=AT_MOST)
    """How often at most, such as '1 per 1h'."""


class CheckBase(Model):
    """What every check has."""

    name: Name = Field(examples=["root disk"])
    """Unique name, shown everywhere."""
    every: Duration = Field("30s", validate_default=True)
    """How often it runs."""
    timeout: Duration = Field("10s", validate_default=True)
    """How long one run may take; longer is `unknown`."""
    for_: Duration = Field("0s", alias="for", validate_default=True)
    """How long a status must last before its alert fires."""
    keep_firing_for: Duration = Field("0s", validate_default=True)
    """How long it must be clear before the alert resolves."""
    min_samples: int = Field(1, ge=1, le=100)
    """How many bad results in a row it takes at least."""
    warning: Bounds = Field([], examples=["> 85%"])
    """Thresholds of the status warning: one, or a list; a plain one is of the check's main reading."""
    critical: Bounds = Field([], examples=[{"reading": "used", "raise": "> 95%", "clear": "< 90%"}])
    """Thresholds of the status critical."""
    labels: dict[str, str] = Field({}, examples=[{"team": "office"}])
    """Labels added to the alert."""
    runbook: str | None = Field(None, examples=["disk-full"])
    """What to do: a name below deploy/runbooks/ or a URL."""
    depends_on: list[Name] = []
    """Checks whose critical alert mutes this one's messages."""
    on_critical: ActionSettings | None = Field(
        None, examples=[{"run": "/usr/local/sbin/clean-tmp", "at_most": "1 per 1h"}]
    )
    """Command run when the alert fires as critical."""


class CpuCheck(CheckBase):
    """CPU use since the last run. Main reading `used` (ratio); also `user`, `system`, `iowait`, `steal`."""

    type: Literal["cpu"]


class LoadCheck(CheckBase):
    """Load averages. Main reading `load5_per_core` (ratio; 1 is a full machine); also `load1`, `load5`, `load15`."""

    type: Literal["load"]


class MemoryCheck(CheckBase):
    """Memory in use. Main reading `used` (ratio, reclaimable left out); also `available_bytes`, `total_bytes`."""

    type: Literal["memory"]


class SwapCheck(CheckBase):
    """Swap in use. Main reading `used` (ratio); also `used_bytes`, `in_bytes_per_second`, `out_bytes_per_second`."""

    type: Literal["swap"]


class DiskCheck(CheckBase):
    """Space and inodes of one file system.

    Main reading `used` (ratio); also `free_bytes`, `total_bytes`, `inodes_used`.
    """

    type: Literal["disk"]
    path: AbsolutePath = Path("/")
    """Any path on it."""


class DiskIoCheck(CheckBase):
    """Disk activity. Main reading `busy` (ratio), an entity a device; also `read_bytes_per_second`,
    `write_bytes_per_second`, `reads_per_second`, `writes_per_second`.
    """

    type: Literal["disk_io"]
    devices: list[str] = []
    """Device names as in /proc/diskstats; every physical one when left out."""


class NetworkCheck(CheckBase):
    """Traffic and errors, an entity an interface. Main reading `errors` (ratio of packets, both ways); also
    `receive_bytes_per_second`, `transmit_bytes_per_second`, `drops_per_second`, `up`.
    """

    type: Literal["network"]
    interfaces: list[str] = []
    """Interface names; every one but loopback when left out."""


class TemperatureCheck(CheckBase):
    """Temperatures, an entity a sensor. Main reading `celsius`; also `share_of_critical` where the chip has a limit."""

    type: Literal["temperature"]


class FansCheck(CheckBase):
    """Fans, an entity a fan. Main reading `rpm`."""

    type: Literal["fans"]


class UptimeCheck(CheckBase):
    """Time since boot. Main reading `uptime` (seconds); `< 10m` finds a machine that restarted."""

    type: Literal["uptime"]


class ProcessesCheck(CheckBase):
    """All processes. Main reading `count`; also `zombies`, `uninterruptible`."""

    type: Literal["processes"]


class FileDescriptorsCheck(CheckBase):
    """Open file handles of the system. Main reading `used` (ratio of the limit); also `open`, `limit`."""

    type: Literal["file_descriptors"]


class ProcessCheck(CheckBase):
    """One program's processes. Main reading `count`; also `cpu` (cores), `memory_bytes`, `open_files`, `oldest`
    (seconds).

    Critical when there is none, unless thresholds are given.
    """

    type: Literal["process"]
    command: str = Field(min_length=1, examples=["nginx"])
    """Name of the program, or a regular expression searched in its command line when `match` is `regex`."""
    match: Literal["name", "regex"] = "name"
    """How `command` is compared."""


class TcpCheck(CheckBase):
    """A TCP connection. Main reading `connect_time` (seconds). Critical when it is refused or times out."""

    type: Literal["tcp"]
    host: str = Field("127.0.0.1", min_length=1)
    """Name or address."""
    port: int = Field(ge=1, le=65_535, examples=[5432])
    """Port."""


class HttpCheck(CheckBase):
    """An HTTP request. Main reading `response_time` (seconds); also `status_code`, `certificate_expires_in` (seconds).

    Critical when there is no answer, the status is not expected, or the body lacks `contains`.
    """

    type: Literal["http"]
    url: Expandable = Field(pattern=WEB_ADDRESS, examples=["https://www.example.com/health"])
    """Address."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    """Method."""
    headers: dict[str, SecretText] = Field({}, examples=[{"Authorization": "Bearer ${HEALTH_TOKEN}"}])
    """Headers sent; write secrets in them as ${VARIABLE}."""
    body: SecretText | None = Field(None, examples=["ping"])
    """Body sent."""
    expect_status: list[int] = [200]
    """Accepted status codes."""
    contains: str | None = Field(None, examples=["ready"])
    """Text that must be in the body."""
    verify_tls: bool = True
    """Whether the certificate must be valid."""


class CommandCheck(CheckBase):
    """A program that speaks the Nagios plugin protocol: exit 0/1/2/3 and performance data as readings."""

    type: Literal["command"]
    run: str = Field(min_length=1, examples=["/usr/lib/nagios/plugins/check_ntp_time -H pool.ntp.org"])
    """Command line; run without a shell."""
    environment: dict[str, SecretText] = Field({}, examples=[{"PGPASSFILE": "/etc/keepwatch/pgpass"}])
    """Variables added to its environment; write secrets in them as ${VARIABLE}."""


CheckSettings = Annotated[
    CpuCheck
    | LoadCheck
    | MemoryCheck
    | SwapCheck
    | DiskCheck
    | DiskIoCheck
    | NetworkCheck
    | TemperatureCheck
    | FansCheck
    | UptimeCheck
    | ProcessesCheck
    | FileDescriptorsCheck
    | ProcessCheck
    | TcpCheck
    | HttpCheck
    | CommandCheck,
    Field(discriminator="type"),
]


READINGS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "cpu": {"used": "ratio", "user": "ratio", "system": "ratio", "iowait": "ratio", "steal": "ratio"},
    "load": {"load5_per_core": "number", "load1": "number", "load5": "number", "load15": "number"},
    "memory": {"used": "ratio", "available_bytes": "bytes", "total_bytes": "bytes"},
    "swap": {
        "used": "ratio",
        "used_bytes": "bytes",
        "in_bytes_per_second": "bytes_per_second",
        "out_bytes_per_second": "bytes_per_second",
    },
    "disk": {"used": "ratio", "free_bytes": "bytes", "total_bytes": "bytes", "inodes_used": "ratio"},
    "disk_io": {
        "busy": "ratio",
        "read_bytes_per_second": "bytes_per_second",
        "write_bytes_per_second": "bytes_per_second",
        "reads_per_second": "per_second",
        "writes_per_second": "per_second",
    },
    "network": {
        "errors": "ratio",
        "receive_bytes_per_second": "bytes_per_second",
        "transmit_bytes_per_second": "bytes_per_second",
        "drops_per_second": "per_second",
        "up": "count",
    },
    "temperature": {"celsius": "celsius", "share_of_critical": "ratio"},
    "fans": {"rpm": "rpm"},
    "uptime": {"uptime": "seconds"},
    "processes": {"count": "count", "zombies": "count", "uninterruptible": "count"},
    "file_descriptors": {"used": "ratio", "open": "count", "limit": "count"},
    "process": {"count": "count", "cpu": "number", "memory_bytes": "bytes", "open_files": "count", "oldest": "seconds"},
    "tcp": {"connect_time": "seconds"},
    "http": {"response_time": "seconds", "status_code": "count", "certificate_expires_in": "seconds"},
    "command": {},
})
"""Readings of each check type and their units, the main one first. A command's readings are named by the plugin."""


def main_reading(check_type: str) -> str | None:
    """Return the reading that a threshold without `reading` compares; None where the plugin's first one is meant."""
    return next(iter(READINGS[check_type]), None)
