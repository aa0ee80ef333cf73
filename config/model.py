"""The base of every settings model: unknown keys are errors, values never change after loading."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[
    str, Field(pattern=r"^[^\s/\x00-\x1f][^/\x00-\x1f]{0,99}$", description="1 to 100 characters, no slash")
]
Identifier = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="letters, digits, dot, dash, underscore")
]


class Model(BaseModel):
    """Frozen and strict about names, so that a typing error is found before it costs a backup."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True)
