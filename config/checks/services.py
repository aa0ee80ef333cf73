"""Settings of checks of what runs here or answers over the network."""

from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import WEB_ADDRESS, CheckBase, Readings
from config.expansion import Expandable, SecretText


class ProcessCheck(CheckBase):
    """One program's processes. Main reading `count`; also `cpu` (cores), `memory_bytes`, `open_files`, `oldest`
    (seconds).

    Critical when there is none, unless thresholds are given.
    """

    type: Literal["process"]
    readings: ClassVar[Readings] = {
        "count": "count",
        "cpu": "number",
        "memory_bytes": "bytes",
        "open_files": "count",
        "oldest": "seconds",
    }
    command: str = Field(min_length=1, examples=["nginx"])
    """Name of the program, or a regular expression searched in its command line when `match` is `regex`."""
    match: Literal["name", "regex"] = "name"
    """How `command` is compared."""


class TcpCheck(CheckBase):
    """A TCP connection. Main reading `connect_time` (seconds). Critical when it is refused or times out."""

    type: Literal["tcp"]
    readings: ClassVar[Readings] = {"connect_time": "seconds"}
    host: str = Field("127.0.0.1", min_length=1)
    """Name or address."""
    port: int = Field(ge=1, le=65_535, examples=[5432])
    """Port."""


class HttpCheck(CheckBase):
    """An HTTP request. Main reading `response_time` (seconds); also `status_code`, `certificate_expires_in` (seconds).

    Critical when there is no answer, the status is not expected, or the body lacks `contains`.
    """

    type: Literal["http"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "status_code": "count",
        "certificate_expires_in": "seconds",
    }
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


ServiceCheck = ProcessCheck | TcpCheck | HttpCheck
