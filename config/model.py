"""The base of every settings model: unknown keys are errors, values never change after loading."""

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from config.windows import WeeklyWindow

NAME = r"^[^\s/\x00-\x1f][^/\x00-\x1f]*$"
"""Without its length: a bounded repetition of nearly all of Unicode takes 70 KiB wherever it stands."""
IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
AT_MOST = r"^\d+ per \d+(ms|[smhdwy])$"
"""How often at most, such as ``1 per 1h``."""

Name = Annotated[str, Field(pattern=NAME, max_length=100)]
"""1 to 100 characters, no slash."""
Identifier = Annotated[str, Field(pattern=IDENTIFIER)]
"""1 to 63 letters, digits, dots, dashes and underscores, the first a letter or digit."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _absolute_or_bare(path: Path) -> Path:
    if not path.is_absolute() and len(path.parts) != 1:
        raise ValueError("must be an absolute path, or a bare name for a systemd credential")
    return path


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name != "UTC":  # known without the system's time zone files
            raise ValueError("not a known time zone; write a name such as Europe/Berlin") from None
    return name


def _window(text: str) -> str:
    WeeklyWindow.parse(text)
    return text


ZoneName = Annotated[str, AfterValidator(_known_zone)]
"""A time zone such as Europe/Berlin."""
Window = Annotated[str, AfterValidator(_window)]
"""Times of the week: ``22:00-07:00``, ``sat,sun 00:00-24:00`` (:mod:`config.windows`)."""
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
"""A path that means the same wherever keepwatch was started."""
SecretFile = Annotated[Path, Field(strict=False), AfterValidator(_absolute_or_bare)]
"""A file whose first line is a secret; a bare name is a systemd credential."""


SHARED = ConfigDict(defer_build=False)
"""Configuration of a model that many others hold: made ready once, and not anew within each of them."""


class Model(BaseModel):
    """Frozen and strict about names and types, so that a typing error is found before it costs a backup.

    A model is made ready when it is first used, and what stands under its fields is read when it is first asked for
    (:mod:`config.docstrings`): most commands need few models, and no help about them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, defer_build=True)
