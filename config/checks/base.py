"""What every check's settings have: name, rhythm, thresholds, and what an alert of it carries.

The types themselves are in the modules beside, by what they look at; :data:`config.checks.CheckSettings` is all.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from config.checks.forecast import Forecasts
from config.model import AT_MOST, SHARED, Model, Name
from config.selection import Selection
from config.threshold import Threshold
from config.units import Duration

WEB_ADDRESS = r"^https?://"
_SEVERITIES = ("warning", "critical")

def _compiles(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
"""A regular expression as Python's ``re`` reads it, searched anywhere."""
Port = Annotated[int, Field(ge=1, le=65_535)]

Readings = Mapping[str, str]
"""Names of readings and their units (see :class:`monitor.result.Reading`), the main one first."""


class Bound(Model):
    """A threshold in its long form: which reading, where it raises, where it clears."""

    model_config = SHARED

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

    model_config = SHARED

    run: str = Field(min_length=1, examples=["/usr/local/sbin/clean-tmp"])
    """Shell command."""
    at_most: str = Field("1 per 1h", pattern=AT_MOST)
    """How often at most, such as '1 per 1h'."""
    cooldown: Duration = Field("0s", validate_default=True, examples=["10m"])
    """How long after it ended it is not run again."""


class CheckBase(Model):
    """What every check has. A type adds its ``type`` and its ``readings``."""

    if TYPE_CHECKING:
        type: str
    readings: ClassVar[Readings] = MappingProxyType({})
    """What one run gives; empty where only the thing looked at knows."""
    discovers: ClassVar[bool] = False
    """Whether it watches whatever the machine has: such an entity may go without harm."""
    defaults: ClassVar[Mapping[str, object]] = MappingProxyType({})
    """What its type sets where the operator does not, as an operator would write it. Its thresholds hold where neither
    `warning` nor `critical` is given: whoever wants none writes `warning = []`."""

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
    retry_interval: Duration | None = Field(None, examples=["5s"])
    """How often it runs while an alert is about to fire; a quarter of `every` when left out."""
    min_samples: int = Field(1, ge=1, le=100)
    """How many bad results it takes at least: in a row, or among the last `of_samples`."""
    of_samples: int | None = Field(None, ge=1, le=100, examples=[5])
    """Among how many results `min_samples` have to be bad, such as 3 of 5; in a row when left out."""
    warning: Bounds = Field([], examples=["> 85%"])
    """Thresholds of the status warning: one, or a list; a plain one is of the check's main reading."""
    critical: Bounds = Field([], examples=[{"reading": "used", "raise": "> 95%", "clear": "< 90%"}])
    """Thresholds of the status critical."""
    labels: dict[str, str] = Field({}, examples=[{"team": "office"}])
    """Labels added to the alert."""
    runbook: str | None = Field(None, examples=["disk-full"])
    """What to do: a name below deploy/runbooks/ or a URL."""
    depends_on: list[Name | Annotated[list[Name], Field(min_length=1)]] = []
    """Checks whose critical alert mutes this one's messages. A list among them is a redundancy group, such as
    [["line 1", "line 2"]], which is down only when all of it is."""
    on_critical: ActionSettings | None = Field(
        None, examples=[{"run": "/usr/local/sbin/clean-tmp", "at_most": "1 per 1h"}]
    )
    """Command run when the alert fires as critical."""
    forecast: Forecasts = Field([], examples=[{"reaches": "100%", "warning": {"within": "24h", "when": "> 60%"}}])
    """When a reading will reach something, should it go on like this: one, or a list."""

    @field_validator("of_samples", mode="after")
    @classmethod
    def _holds_min_samples(cls, of_samples: int | None, info: ValidationInfo) -> int | None:
        if of_samples is not None and of_samples < info.data.get("min_samples", 1):
            raise ValueError(f"{info.data['min_samples']} bad ones do not fit into it")
        return of_samples

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, written: Any) -> Any:
        if not cls.defaults or not isinstance(written, dict):
            return written
        judged = "warning" in written or "critical" in written
        left_out = {key: value for key, value in cls.defaults.items() if not (judged and key in _SEVERITIES)}
        if "for_" in written:
            left_out.pop("for", None)
        return left_out | written

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell editors the defaults of the type instead of everybody's."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for key, value in cls.defaults.items():
            properties[key] = properties[key] | {"default": value}
        return schema

    @property
    def named_entities(self) -> frozenset[str]:
        """Entities that the operator named, whose vanishing is an alert; the empty name is the check itself."""
        return frozenset() if self.discovers else frozenset({""})


class Discovering(CheckBase):
    """A check of whatever the machine has of a kind, an entity each."""

    discovers: ClassVar[bool] = True

    include: list[str] = Field([], examples=[["*"]])
    """Names, or patterns such as 'eth*'; what every machine is watched for when left out. It is an alert when one that
    is named in full is not there."""
    exclude: list[str] = Field([], examples=[["test*"]])
    """Names or patterns of what is left out."""

    @property
    def selection(self) -> Selection:
        """Both as a value."""
        return Selection(tuple(self.include), tuple(self.exclude))

    @property
    def named_entities(self) -> frozenset[str]:
        """What was named in full."""
        return frozenset(self.selection.named)
