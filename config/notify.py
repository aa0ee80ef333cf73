"""Settings of channels and of planned work: who is told of alerts, when not, and what happens when a channel fails."""

import datetime
import re
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from config.expansion import SecretText
from config.model import AT_MOST, Model, Name, Window, ZoneName
from config.schedule import Schedule
from config.units import Duration, parse_duration
from config.windows import WeeklyWindow

Severity = Literal["warning", "critical"]


@cache
def weekly_window(text: str) -> WeeklyWindow:
    """Return the window that a checked text means."""
    return WeeklyWindow.parse(text)


class QuietHours(Model):
    """When a channel is left in peace, by severity. What is held back is told afterwards, if it is still so."""

    warning: Window | None = Field(None, examples=["22:00-07:00"])
    """Hours without news of warnings."""
    critical: Window | None = Field(None, examples=["sat,sun 00:00-24:00"])
    """Hours without news of anything critical."""

    def hold(self, severity: str, moment: datetime.datetime) -> str | None:
        """Return the window that holds news of ``severity`` back at a moment of the operator's zone."""
        written = self.critical if severity == "critical" else self.warning
        return written if written is not None and weekly_window(written).contains(moment) else None


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _quiet(value: object) -> object:
    return {"warning": value} if isinstance(value, str) else value


class NotifySettings(Model):
    """One channel that alerts are told to."""

    name: Name = Field(examples=["ops"])
    """Unique name."""
    url: SecretText = Field(examples=["mailtos://user:${MAIL_PASSWORD}@mail.example.com?to=ops@example.com"])
    """Any Apprise URL; write secrets in it as ${VARIABLE}."""
    severities: list[Severity] = ["warning", "critical"]
    """Which alerts it is told; none for a channel that only stands in for others."""
    quiet_hours: Annotated[
        QuietHours | None, BeforeValidator(_quiet, json_schema_input_type=Window | QuietHours | None)
    ] = Field(None, examples=["22:00-07:00"])
    """When it is left in peace, in the daemon's time zone: a window holds warnings back and lets critical ones through;
    { critical = "..." } says otherwise. What is still so at the end is told then."""
    escalate_after: Duration = Field("0s", validate_default=True, examples=["30m"])
    """How long an alert has to fire, with nobody acknowledging it and nothing holding it back, before this channel
    hears of it. Of several such steps only the last one reached repeats."""
    at_most: str | None = Field(None, pattern=AT_MOST, examples=["20 per 1h"])
    """How many messages at most; what comes faster waits and becomes one digest."""
    fallback: Annotated[list[Name], BeforeValidator(_names, json_schema_input_type=Name | list[Name])] = []
    """The channels that are told instead while this one fails, such as "sms"."""
    fallback_after: Duration = Field("10m", validate_default=True)
    """How long it has to fail before that."""
    group_wait: Duration = Field("30s", validate_default=True)
    """How long the first message of a quiet channel waits for company."""
    group_interval: Duration = Field("5m", validate_default=True)
    """Least time between two messages after that."""
    repeat: Duration = Field("4h", validate_default=True)
    """When a firing alert that nobody acknowledged is told again."""

    @property
    def limit(self) -> tuple[int, datetime.timedelta] | None:
        """``at_most`` as numbers: messages, and the time in which they may be sent."""
        if self.at_most is None:
            return None
        count, _, period = self.at_most.partition(" per ")
        return int(count), parse_duration(period)


_MATCHER = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]*\s*(=~|!~|!=|=)(.*)", re.DOTALL)


def _matcher(text: str) -> str:
    if not (match := _MATCHER.fullmatch(text)):
        raise ValueError("not a matcher; write label=value or label=~regex, such as check=~disk.*")
    if match[1].endswith("~"):
        try:
            re.compile(match[2].strip())
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
    return text


class MaintenanceSettings(Model):
    """Planned work during which matching alerts are not told. Give `window`, or `schedule` and `lasting`, or
    `starts_at` and `ends_at`.
    """

    name: Name = Field(examples=["patch night"])
    """Unique name, shown as the reason."""
    matchers: list[Annotated[str, AfterValidator(_matcher)]] = Field([], examples=[["check=~web.*"]])
    """Which alerts: label=value, label!=value, label=~regex; all of them must match. Every alert when left out."""
    window: Window | None = Field(None, examples=["sun 02:00-04:00"])
    """Times of the week."""
    schedule: Schedule | None = Field(None, examples=["monthly 1 03:00"])
    """When it begins, as jobs write it, but not as 'every'."""
    lasting: Duration | None = Field(None, examples=["2h"])
    """How long it then lasts."""
    starts_at: datetime.datetime | None = Field(None, examples=[datetime.datetime(2030, 1, 31, 22, 0)])  # noqa: DTZ001
    """When it begins, once; without an offset in the time zone below."""
    ends_at: datetime.datetime | None = Field(None, examples=[datetime.datetime(2030, 2, 1, 2, 0)])  # noqa: DTZ001
    """When it ends."""
    timezone: ZoneName | None = Field(None, examples=["Europe/Berlin"])
    """Where its times are read; the daemon's time zone when left out."""

    @model_validator(mode="after")
    def _says_when(self) -> "MaintenanceSettings":
        if (self.schedule is None) != (self.lasting is None) or (self.starts_at is None) != (self.ends_at is None):
            raise ValueError("schedule needs lasting, and starts_at needs ends_at")
        if self.window is None and self.schedule is None and self.starts_at is None:
            raise ValueError("says not when; write window, schedule and lasting, or starts_at and ends_at")
        if self.schedule is not None and self.schedule.every is not None:
            raise ValueError("'every' has no time of day to begin at; write 'daily 02:00' or the like")
        return self

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "MaintenanceSettings":
        start, end = self.starts_at, self.ends_at
        if start and end and (start.tzinfo is None) == (end.tzinfo is None) and end <= start:
            raise ValueError("ends before it begins")
        return self
