"""Settings of checks whose measuring is somebody else's program."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import CheckBase, Readings
from config.expansion import SecretText
from config.model import AbsolutePath
from config.units import Duration


class CommandCheck(CheckBase):
    """A program that speaks the Nagios plugin protocol: exit 0/1/2/3 and performance data as readings."""

    type: Literal["command"]
    readings: ClassVar[Readings] = {}
    run: str = Field(min_length=1, examples=["/usr/lib/nagios/plugins/check_ntp_time -H pool.ntp.org"])
    """Command line; run without a shell."""
    environment: dict[str, SecretText] = Field({}, examples=[{"PGPASSFILE": "/etc/keepwatch/pgpass"}])
    """Variables added to its environment; write secrets in them as ${VARIABLE}."""


class TextfileCheck(CheckBase):
    """A folder of `*.prom` files in node_exporter's textfile format. Main reading `value` of `metric`, an entity for
    each of its series.

    Critical when a file cannot be understood, or was not written for `stale_after`.
    """

    type: Literal["textfile"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"value": "number"}
    defaults: ClassVar[Mapping[str, object]] = {"every": "1m"}
    directory: AbsolutePath = Path("/var/lib/prometheus/node-exporter")
    """Folder."""
    metric: str | None = Field(None, examples=["erp_import_queue_length"])
    """Metric that is judged; only the files themselves are when left out."""
    stale_after: Duration | None = Field(None, examples=["1d"])
    """How old a file may be."""


class PushCheck(CheckBase):
    """Readings that somebody posts to `/api/v1/push/NAME`, with `Authorization: Bearer TOKEN`: a JSON object of names
    and numbers, or `{"readings": [{"name", "value", "unit", "entity"}], "status", "message"}`.

    Unknown when nothing came within `max_age`.
    """

    type: Literal["push"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {}
    token: SecretText = Field(examples=["${PUSH_TOKEN}"])
    """What a sender must know."""
    max_age: Duration = Field("5m", validate_default=True)
    """How long what was posted counts."""
