"""Forecasts as an operator writes them: what a reading will reach, and how soon is too soon.

    forecast = { reaches = "100%", warning = { within = "24h", when = "> 60%" }, critical = "4h" }

Settings only; the slope and its doubts are the monitor's business (monitor/forecast.py).
"""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from config.model import SHARED, Model
from config.threshold import Threshold
from config.units import Duration


def _quantity(text: str) -> str:
    quantity(text)
    return text


def quantity(text: str) -> Threshold:
    """Return the value that a text means, in base units, as a bound. Raises ValueError."""
    return Threshold.parse(f"== {text}")


class ForecastLevel(Model):
    """When a forecast becomes a status."""

    model_config = SHARED

    within: Duration = Field(examples=["24h"])
    """How soon it has to be."""
    when: Threshold | None = Field(None, examples=["> 60%"])
    """Only while the reading itself is there, so that a burst on an empty disk wakes nobody."""


def _as_level(value: object) -> object:
    return {"within": value} if isinstance(value, str | timedelta) else value


Level = Annotated[ForecastLevel | None, BeforeValidator(_as_level, json_schema_input_type=str | ForecastLevel | None)]


class ForecastSettings(Model):
    """What a reading will reach, should it go on like this."""

    model_config = SHARED

    reading: str | None = Field(None, examples=["used"])
    """Name of the reading; the check's main one when left out."""
    reaches: Annotated[str, AfterValidator(_quantity)] = Field(examples=["100%"])
    """What it must not reach: 100%, 0, 10 GiB."""
    warning: Level = Field(None, examples=["24h"])
    """How soon is a warning: a duration, or { within, when }."""
    critical: Level = Field(None, examples=["4h"])
    """How soon is critical."""
    over: Duration = Field("6h", validate_default=True)
    """How far back it looks; the last sixth of that has to agree."""
    agreed_for: Duration = Field("1h", validate_default=True)
    """For how long the forecast has to have been the same before it counts."""

    @model_validator(mode="after")
    def _becomes_something(self) -> "ForecastSettings":
        if self.warning is None and self.critical is None:
            raise ValueError("says neither when it is a warning nor when it is critical")
        if self.over < timedelta(hours=1):
            raise ValueError("looks back less than 1h: that is noise, not a trend")
        return self


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Forecasts = Annotated[
    list[ForecastSettings],
    BeforeValidator(_as_list, json_schema_input_type=ForecastSettings | list[ForecastSettings]),
]
