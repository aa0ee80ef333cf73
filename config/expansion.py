"""Text that may name environment variables as ``${NAME}``, and text that is never shown.

Expansion happens once, while settings are validated, and only where the settings are loaded with an environment
(``context={"environ": ...}``); settings built in Python are taken as they are. ``$${`` writes a literal ``${``.
A variable that is not set is an error naming it, never an empty string.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo

_REFERENCE = re.compile(r"\$?\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace each ``${NAME}``. Raises ValueError naming the first variable that is not set."""

    def value(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        if match[1] not in environ:
            raise ValueError(f"the environment variable {match[1]} is not set")
        return environ[match[1]]

    return _REFERENCE.sub(value, text)


def _expanded(value: Any, info: ValidationInfo) -> Any:
    environ = (info.context or {}).get("environ")
    return expand(value, environ) if isinstance(value, str) and environ is not None else value


Expanded = Annotated[str, BeforeValidator(_expanded)]
Expandable = Annotated[Expanded, Field(repr=False)]
"""A string in which ``${NAME}`` is replaced; left out of its model's ``repr``, since a secret may stand in it."""

SecretText = Annotated[SecretStr, BeforeValidator(_expanded), Field(min_length=1)]
"""A secret string in which ``${NAME}`` is replaced; its ``repr`` is stars, ``get_secret_value()`` gives the text."""
