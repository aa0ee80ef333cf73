"""When a duty falls due, as an operator writes it: ``every 1h``, ``daily 02:00``, ``sunday 02:00``,
``monthly 1 03:00``, ``cron 15 2 * * *``.

A schedule is a value that can say what comes after a moment, nothing more: whether a run was missed, overlaps or is
late is decided from the run ledger. Calendar forms are read in the operator's time zone with cron's daylight-saving
rules (a time that does not exist runs at the change, one that exists twice runs once); ``every`` counts elapsed time.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

from cronsim import CronSim, CronSimError
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from config.units import parse_duration

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_FORMS = "'every 1h', 'daily 02:00', 'sunday 02:00', 'monthly 1 03:00' or 'cron 15 2 * * *'"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Either ``every`` (elapsed time) or ``cron`` (five fields); ``written`` keeps the operator's words."""

    written: str
    every: timedelta | None = None
    cron: str | None = None

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read one of the five forms. Raises ValueError that lists them."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise ValueError(f"not a schedule; write {_FORMS}")
        written = " ".join(text.split())
        word, _, rest = written.lower().partition(" ")
        if word == "every":
            every = parse_duration(rest)
            if every < timedelta(seconds=1):
                raise ValueError("a schedule cannot be tighter than every 1s")
            return cls(written, every=every)
        return cls(written, cron=_as_cron(word, rest))

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due time after ``moment`` (aware), in UTC. ``zone`` is where calendar forms are read."""
        if self.every is not None:
            return moment.astimezone(UTC) + self.every
        return next(CronSim(str(self.cron), moment.astimezone(zone))).astimezone(UTC)

    def spacing(self, moment: datetime, zone: tzinfo) -> timedelta:
        """Return the time between the next two due times after ``moment``: how old a success may grow between runs."""
        first = self.next_after(moment, zone)
        return self.next_after(first, zone) - first

    def __str__(self) -> str:
        return self.written

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "examples": ["every 1h", "daily 02:00", "sunday 02:00", "cron 15 2 * * *"]}


def _as_cron(word: str, rest: str) -> str:
    if word == "cron":
        fields = rest
    elif word == "daily" and (clock := _CLOCK.fullmatch(rest)):
        fields = f"{int(clock[2])} {int(clock[1])} * * *"
    elif word in _DAYS and (clock := _CLOCK.fullmatch(rest)):
        fields = f"{int(clock[2])} {int(clock[1])} * * {_DAYS.index(word)}"
    elif word == "monthly" and (parts := rest.split()) and len(parts) == 2 and (clock := _CLOCK.fullmatch(parts[1])):
        fields = f"{int(clock[2])} {int(clock[1])} {parts[0]} * *"
    else:
        raise ValueError(f"not a schedule; write {_FORMS}")
    if len(fields.split()) != 5:
        raise ValueError("not a schedule: cron takes five fields: minute, hour, day of month, month, day of week")
    try:
        comes = next(CronSim(fields, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ValueError(f"not a schedule: {str(error).lower()}; write {_FORMS}") from None
    if comes is None:
        raise ValueError("no such day ever comes")
    return fields
