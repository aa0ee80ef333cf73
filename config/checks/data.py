"""Settings of checks of data: is it fresh, do two places agree, did the operator's own jobs report."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from config.checks.base import WEB_ADDRESS, CheckBase, Pattern, Readings
from config.expansion import Expandable, SecretText
from config.model import AbsolutePath, Model
from config.schedule import Schedule
from config.units import Duration


class SqlSource(Model):
    """A query to a database."""

    dsn: SecretText = Field(examples=["service=ledger"])
    """Where: `service=NAME` or another connection string of libpq, postgresql://, mysql://, or sqlite:///PATH."""
    query: str = Field(min_length=1, examples=["select max(synced_at) from sync_log"])
    """One statement that only reads; it runs in a transaction that cannot write."""


class HttpSource(Model):
    """A JSON document at a web address."""

    url: Expandable = Field(pattern=WEB_ADDRESS, examples=["https://api.example.com/status"])
    """Address."""
    at: str = Field("", examples=["sync.last_success"])
    """Path to the value or list in it; the whole document when left out."""
    headers: dict[str, SecretText] = Field({}, examples=[{"Authorization": "Bearer ${API_TOKEN}"}])
    """Headers sent; write secrets in them as ${VARIABLE}."""


class FolderSource(Model):
    """A folder whose files are the records."""

    path: AbsolutePath = Field(examples=["/srv/invoices"])
    """Folder; everything below it counts."""
    pattern: Pattern = Field(examples=["(?P<year>[0-9]{4})/(?P<number>INV-[0-9]+)[.]pdf$"])
    """Regular expression matched against each file's path below it; its named groups are the fields, to which `path`,
    `size_bytes` and `modified_at` are added. Files that do not match are no records."""


class JsonSource(Model):
    """A JSON file."""

    path: AbsolutePath = Field(examples=["/srv/exports/invoices.json"])
    """File."""
    at: str = Field("", examples=["data.invoices"])
    """Path to the list of objects in it; the whole document when left out."""


class SideSettings(Model):
    """One side of a comparison: exactly one of these."""

    sql: SqlSource | None = None
    """A query; each row is a record, its columns the fields."""
    csv: AbsolutePath | None = None
    """A CSV file in UTF-8 with a heading; comma, semicolon or tab."""
    json_: JsonSource | AbsolutePath | None = Field(None, alias="json")
    """A JSON file that is, or has at a path, a list of objects."""
    http: HttpSource | None = None
    """The same by HTTP."""
    folder: FolderSource | None = None
    """The files of a folder, their fields taken from their paths."""

    @model_validator(mode="after")
    def _is_one(self) -> "SideSettings":
        if sum(value is not None for value in (self.sql, self.csv, self.json_, self.http, self.folder)) != 1:
            raise ValueError("write exactly one of sql, csv, json, http and folder")
        return self


class FreshnessCheck(CheckBase):
    """How old the newest row, file or JSON field is. Main reading `age` (seconds).

    Critical when it is older than `max_age`, unless thresholds are given, or when there is none at all; warning when it
    lies in the future. Exactly one of `sql`, `file` and `http` says what is looked at. Moments without a zone are UTC.
    """

    type: Literal["freshness"]
    readings: ClassVar[Readings] = {"age": "seconds"}
    defaults: ClassVar[Mapping[str, object]] = {"every": "1m"}
    max_age: Duration = Field(examples=["30m"])
    """How old it may be."""
    sql: SqlSource | None = Field(
        None, examples=[{"dsn": "service=ledger", "query": "select max(synced_at) from sync_log"}]
    )
    """A query whose first value is a moment, a number of seconds since 1970, or an age (an interval)."""
    file: str | None = Field(None, examples=["/srv/exports/*.csv"])
    """Path or pattern of files, of which the newest counts."""
    http: HttpSource | None = Field(
        None, examples=[{"url": "https://api.example.com/status", "at": "sync.last_success"}]
    )
    """A field of a JSON document, with a moment or a number of seconds or milliseconds since 1970."""

    @model_validator(mode="after")
    def _looks_at_one_thing(self) -> "FreshnessCheck":
        if sum(value is not None for value in (self.sql, self.file, self.http)) != 1:
            raise ValueError("write exactly one of sql, file and http")
        return self


class ReconcileCheck(CheckBase):
    """Two places that must hold the same records. Main reading `wrong` (all of the following); also `missing` (only on
    the left), `extra` (only on the right), `different`, `misfiled`, `duplicate`, and `compared`.

    Critical when there is any, unless thresholds are given. The message names examples.
    """

    type: Literal["reconcile"]
    readings: ClassVar[Readings] = {
        "wrong": "count",
        "missing": "count",
        "extra": "count",
        "different": "count",
        "misfiled": "count",
        "duplicate": "count",
        "compared": "count",
    }
    defaults: ClassVar[Mapping[str, object]] = {"every": "15m", "timeout": "1m"}
    left: SideSettings = Field(
        examples=[{"sql": {"dsn": "service=ledger", "query": "select number, issued_on, amount from invoice"}}]
    )
    """What should be there: `sql`, `csv`, `json`, `http` or `folder`."""
    right: SideSettings = Field(examples=[{"csv": "/srv/exports/tax-authority.csv"}])
    """What is there."""
    key: list[str] = Field(min_length=1, examples=[["number"]])
    """Fields by which records of both sides belong together."""
    compare: list[str] = Field([], examples=[["issued_on", "amount"]])
    """Fields that must be the same; numbers are compared as numbers."""
    place: list[str] = Field([], examples=[["year"]])
    """Fields that say where a record is filed: a record whose place differs is misfiled."""


class HeartbeatCheck(CheckBase):
    """Reports of the operator's own jobs, over HTTP: `/ping/TOKEN` when one has succeeded, `/ping/TOKEN/start`,
    `/ping/TOKEN/fail`, `/ping/TOKEN/EXITCODE`; a body is kept as its log. Main reading `age` (seconds since the last
    success); also `late` (seconds, 0 when it is not), `run_time` (seconds, of the last run), `exit_code`.

    `every` is how often the job runs. Critical when it is late by more than `grace`, runs longer than `run_limit`, or
    its last report was a failure. What was reported is stored before it is answered.
    """

    type: Literal["heartbeat"]
    readings: ClassVar[Readings] = {
        "age": "seconds",
        "late": "seconds",
        "run_time": "seconds",
        "exit_code": "count",
    }
    defaults: ClassVar[Mapping[str, object]] = {"every": "1d"}
    token: SecretText | None = Field(None, examples=["${NIGHTLY_IMPORT_TOKEN}"])
    """What stands in the address; the check's name when left out."""
    schedule: Schedule | None = Field(None, examples=["daily 02:00"])
    """When the job runs, where that is no fixed rhythm; `every` is not looked at then."""
    grace: Duration = Field("1h", validate_default=True)
    """How late it may begin, or report when it never says that it begins."""
    run_limit: Duration | None = Field(None, examples=["2h"])
    """How long it may take once it has begun."""
