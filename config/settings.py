"""The whole of keepwatch.toml: the single reference for names, defaults, help and JSON Schema.

Settings are values: nothing here opens a file, looks at the machine or keeps state. What one part may say of another
(a job's repositories, a check's dependencies) is checked by :mod:`config.references` while loading.
"""

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from config.checks import CheckSettings
from config.expansion import SecretText
from config.exporting import AlertmanagerSettings, MetricsSettings, WebSettings, web_address
from config.history import HistorySettings
from config.jobs import JobSettings, RepositorySettings
from config.model import AbsolutePath, Identifier, Model, ZoneName
from config.notify import MaintenanceSettings, NotifySettings
from config.plans import PlansSettings
from config.units import Duration


class DaemonSettings(Model):
    """The daemon itself. Loading fills in what the operator left out from the machine (see :mod:`config.machine`)."""

    host: str = Field("localhost", min_length=1, examples=["erp-1"])
    """This machine's name in snapshots, alerts and metrics; its host name when left out."""
    state_dir: AbsolutePath = Path("/var/lib/keepwatch")
    """Where state is kept; /var/lib/keepwatch for root, ~/.local/state/keepwatch otherwise."""
    timezone: ZoneName = Field("UTC", examples=["Europe/Berlin"])
    """Zone in which schedules and the page are read, such as Europe/Berlin; the machine's when left out."""
    language: Literal["en", "zh-CN"] = "en"
    """Language of the page, of messages and of reports."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written to stderr."""
    max_parallel_jobs: int = Field(1, ge=1, le=16)
    """How many backup, drill and verify runs may go on at once."""

    @property
    def zone(self) -> datetime.tzinfo:
        """The time zone as a value."""
        return datetime.UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)


class HeartbeatSettings(Model):
    """Dead-man switch: a URL that is fetched as long as the daemon's own loops advance."""

    url: Annotated[SecretText, AfterValidator(web_address)] = Field(examples=["https://hc-ping.com/${HEARTBEAT_ID}"])
    """Address, such as a healthchecks ping URL; write secrets in it as ${VARIABLE}."""
    every: Duration = Field("1m", validate_default=True)
    """How often."""


class Settings(Model):
    """keepwatch.toml."""

    daemon: DaemonSettings = DaemonSettings()
    """The daemon itself."""
    web: WebSettings = WebSettings()
    """The page, metrics and API."""
    metrics: MetricsSettings = MetricsSettings()
    """What is exported about the host."""
    repositories: dict[Identifier, RepositorySettings] = {}
    """Where snapshots live, by name."""
    jobs: dict[Identifier, JobSettings] = {}
    """What is backed up, by name."""
    checks: list[CheckSettings] = []
    """What is watched."""
    notify: list[NotifySettings] = []
    """Who is told."""
    maintenance: list[MaintenanceSettings] = []
    """When not to tell, since somebody works on it."""
    history: HistorySettings = HistorySettings()
    """What is remembered of readings."""
    alertmanager: AlertmanagerSettings | None = None
    """Alertmanagers to tell."""
    heartbeat: HeartbeatSettings | None = None
    """The dead-man switch."""
    plans: PlansSettings = PlansSettings()
    """Emergency plans."""

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of keepwatch.toml, with the keys that operators write."""
        from config.docstrings import DescribedSchema  # for editors only

        written = cls.model_json_schema(by_alias=True, schema_generator=DescribedSchema, mode="validation")
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **written, "title": "keepwatch.toml"}
