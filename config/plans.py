"""Settings of emergency plans, and the front matter of one: who, for which risk, how fast, in what order.

Models only; reading the files, with every problem at its line, is for :mod:`config.plan_files`.
"""

import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

from config.model import AbsolutePath, Identifier, Model, Name
from config.units import Duration

RiskKind = Literal["hardware", "software", "network", "human error", "attack", "disaster"]
RISK_KINDS: tuple[RiskKind, ...] = get_args(RiskKind)


class PlansSettings(Model):
    """Emergency plans: where they lie and how they are kept alive."""

    folder: AbsolutePath | None = Field(None, examples=["/etc/keepwatch/plans"])
    """Folder with the plans, a Markdown file each; `plans` beside keepwatch.toml when left out."""
    exercise_within: Duration = Field("180d", validate_default=True)
    """How old the last exercise of a plan that brought everything back may get before somebody is told."""
    risks: list[RiskKind] | None = Field(None, examples=[["hardware", "human error", "attack", "disaster"]])
    """Kinds of risk that need a plan; all of them, as soon as there is any plan, when left out."""


class Risk(Model):
    """What the plan is for."""

    kind: RiskKind
    """What kind of thing goes wrong."""
    likelihood: Literal["rare", "unlikely", "possible", "likely", "almost certain"]
    """How likely it is within a year or so."""
    impact: Literal["negligible", "minor", "moderate", "major", "severe"]
    """How bad it is when it happens."""
    prevention: list[str] = Field(min_length=1)
    """What is done so that it does not happen."""


class Contact(Model):
    """Somebody outside of the plan's steps who has to be called."""

    name: str = Field(min_length=1)
    """Who."""
    role: str = Field(min_length=1)
    """What for."""
    reach: str = Field(min_length=1)
    """Telephone number or address that works while this machine does not."""


class Restore(Model):
    """A job that has to come back. An exercise drills it."""

    job: Identifier
    """Which job."""
    after: list[Identifier] = []
    """Jobs of this plan that have to be back first."""
    repository: Identifier | None = None
    """From which of the job's repositories; the one that its drills use when left out."""


class PlanHead(Model):
    """The front matter of a plan."""

    title: str = Field(min_length=1)
    """What it is called."""
    owner: str = ""
    """The person who answers for it."""
    deputies: list[Name] = []
    """Who stands in for the owner."""
    contacts: list[Contact] = []
    """Whom to call."""
    scope: Literal["single", "several"]
    """Whether one thing fails or several at once."""
    rto: Duration
    """Time within which everything has to be back."""
    rpo: Duration
    """Age of the data that is tolerable then."""
    alerts: list[Annotated[str, Field(min_length=1)]] = []
    """Checks, also with their entity, and alerts of jobs and repositories that call for this plan."""
    review_by: datetime.date
    """Day until which somebody has to read it again."""
    risk: Risk
    """What it is for."""
    restore: list[Restore] = []
    """The jobs that come back, which is what an exercise does."""
