"""Settings of checks of what programs write down: log files and systemd's journal."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from config.checks.base import CheckBase, Pattern, Readings
from config.units import Duration


class LogCheck(CheckBase):
    """Lines of log files or of the journal. Main reading `matches` (lines that match, within `window`); also
    `lines_per_second` (of all lines).

    A place is remembered over restarts, renaming, truncation and compression, so no line counts twice and none is lost;
    what was there before the check was is not looked at. The last matching lines stand in the message.
    """

    type: Literal["log"]
    readings: ClassVar[Readings] = {"matches": "count", "lines_per_second": "per_second"}
    defaults: ClassVar[Mapping[str, object]] = {"warning": "> 0"}
    files: list[str] = Field([], examples=[["/var/log/nginx/error.log", "/srv/erp/log/*.log"]])
    """Paths, or patterns of them."""
    journal: list[str] | None = Field(None, examples=[["_SYSTEMD_UNIT=nginx.service", "PRIORITY=3"]])
    """Fields that entries of the journal must have, as journalctl takes them; an empty list takes all entries."""
    matches: list[Pattern] = Field([], examples=[["ERROR", "out of memory"]])
    """Regular expressions of which one must match for a line to count; every line counts when left out."""
    ignore: list[Pattern] = Field([], examples=[["connection reset by peer"]])
    """Regular expressions of lines that never count."""
    window: Duration = Field("5m", validate_default=True)
    """Over how long matching lines are counted: that long after the last one the check is well again."""
    show: int = Field(3, ge=0, le=10)
    """How many of the last matching lines stand in the message."""

    @model_validator(mode="after")
    def _reads_something(self) -> "LogCheck":
        if not self.files and self.journal is None:
            raise ValueError("nothing to read; write files or journal")
        return self
