"""Settings of restore drills: when, how far, of which snapshot, within what, and what must hold afterwards."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from config.model import AbsolutePath, Identifier, Model
from config.schedule import Schedule
from config.units import ByteSize, Duration, Share, parse_duration


def _bound(value: object) -> object:
    """Read ``"1h"`` as a time span; leave other text as it is."""
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError:
            return value
    return value


Bound = Annotated[
    int | float | timedelta | str,
    BeforeValidator(_bound, json_schema_input_type=int | float | str),
]
"""A number, a time span such as 1h, or text."""


class AssertSettings(Model):
    """What must hold of the restored data: a statement's value, or a command's success."""

    sql: str | None = Field(None, min_length=1, examples=["select count(*) from invoice"])
    """Statement in the restored database whose first value counts; without a bound it must be true."""
    run: str | None = Field(None, min_length=1, examples=["/usr/local/bin/check-books"])
    """Command that must exit 0; run without a shell and without network; $KEEPWATCH_RESTORED has the files."""
    database: str | None = Field(None, min_length=1, examples=["shop"])
    """Which database is asked, where there are several."""
    member: str | None = Field(None, min_length=1, examples=["ledger"])
    """Which member of a group is asked."""
    min: Bound | None = Field(None, examples=[1])
    """Least value."""
    max: Bound | None = Field(None, examples=["1h"])
    """Greatest value; a moment counts as the time since then, held against a duration."""
    equals: Bound | None = Field(None, examples=[0])
    """The value itself."""
    timeout: Duration = Field("5m", validate_default=True)
    """How long it may take."""

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.sql is None) == (self.run is None):
            raise ValueError("give exactly one of sql and run")
        if self.run is not None and (self.min, self.max, self.equals) != (None, None, None):
            raise ValueError("min, max and equals are about the value of sql; a command tells by its exit status")
        return self


class DrillSettings(Model):
    """A scheduled restore drill."""

    schedule: Schedule = Field(examples=["daily 04:30"])
    """When to drill."""
    level: Literal["metadata", "read", "sample", "restore", "application", "point-in-time"] = "restore"
    """How far to go. metadata: the snapshot's structure is whole; read: so is every byte of packs, oldest proven
    first; sample: some files are restored and compared; restore: everything is, under the clock; application: its
    service runs on it; point-in-time: and at a moment after the snapshot."""
    repository: Identifier | None = Field(None, examples=["local"])
    """Which of the job's repositories; the first by default."""
    snapshots: list[Literal["latest", "oldest", "random"]] = Field(
        ["latest"], min_length=1, examples=[["latest", "latest", "oldest", "random"]]
    )
    """Which snapshots to drill, one after the other."""
    sample: Share = Field("5%", validate_default=True)
    """Share of the files that the level sample restores."""
    until: datetime | Literal["latest", "random"] = "random"
    """Where the level point-in-time recovers to: the last record, any moment since the snapshot, or a date and time."""
    assert_: list[AssertSettings] = Field(
        [], alias="assert", examples=[[{"sql": "select count(*) from invoice", "min": 1}]]
    )
    """What must hold of the restored data, from the level application on: the first value of `sql` within `min`, `max`
    or `equals` (or true), asked of `database` or `member` where there are several; or `run`, a command that exits 0."""
    stale_after: Duration | None = Field(None, examples=["7d"])
    """Fail when the data are the same as so long ago: the job may be saving something that nobody writes any more."""
    scratch: AbsolutePath | None = Field(None, examples=["/srv/scratch"])
    """Folder to restore below; the state directory's own when left out."""
    scratch_budget: ByteSize | None = Field(None, examples=["200 GiB"])
    """Most that a restore may take there; a drill that needs more is inconclusive."""
    memory_limit: ByteSize | None = Field(None, examples=["4 GiB"])
    """Most memory that each program on restored data may take, with its children; it is ended then, and the drill is
    inconclusive. When the machine's memory runs out the kernel ends those programs first in any case."""
    timeout: Duration | None = Field(None, examples=["2h"])
    """Give up, inconclusive, after this long."""
    load_limit: float | None = Field(None, gt=0, strict=False, examples=[0.8])
    """Wait while the machine's load over one minute, per core, is above this."""
    load_wait: Duration = Field("1h", validate_default=True)
    """How long to wait for that; after it the drill is inconclusive."""
