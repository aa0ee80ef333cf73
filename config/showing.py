"""The settings in force, fit to be seen: secrets masked, and what the operator left out marked as default.

A URL is shown as it was written, with ``${NAME}`` unexpanded, and without what stands where passwords stand.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from config.documents import Document, dotted
from config.fields import look_up, may_be_shown
from config.positions import Path as Keys
from config.settings import Settings
from config.writing import to_toml

MASK = str(SecretStr("anything"))
_USER_INFO = re.compile(r"//[^/@\s]*@")
_QUERY_VALUE = re.compile(r"([?&;][^=&;#]*=)[^&;#]*")


@dataclass(frozen=True, slots=True)
class Shown:
    """Plain data without secrets, and the paths in it that nobody wrote."""

    data: dict[str, Any]
    defaults: frozenset[Keys]

    def as_toml(self) -> str:
        """Write it as a keepwatch.toml whose masked values need filling in."""
        return to_toml(self.data, lambda keys: "default" if keys in self.defaults else None)

    def default_names(self) -> list[str]:
        """Name the paths that nobody wrote, as problems do."""
        return sorted(dotted(keys, self.data) for keys in self.defaults)


def show(settings: Settings, document: Document) -> Shown:
    """Make settings and the document they were loaded from showable."""
    data = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    defaults = set()
    for keys, value in list(_leaves((), data)):
        if keys not in document.places:
            defaults.add(keys)
        if isinstance(value, str) and value != MASK and not may_be_shown(look_up(_location(keys, data)).field):
            _put(data, keys, masked_url(str(_written(keys, document.data) or value)))
    return Shown(data, frozenset(defaults))


def masked_url(url: str) -> str:
    """Hide user, password and query values of a URL; ``${NAME}`` hides itself."""
    return _QUERY_VALUE.sub(rf"\g<1>{MASK}", _USER_INFO.sub(f"//{MASK}@", url))


def _leaves(keys: Keys, value: Any) -> Iterator[tuple[Keys, Any]]:
    """Yield what is written on one line: scalars, lists of scalars, and everything small inside an array's tables."""
    if isinstance(value, dict) and value and not any(isinstance(key, int) for key in keys[:-1]):
        for key, item in value.items():
            yield from _leaves((*keys, key), item)
    elif isinstance(value, list) and len(keys) == 1 and value:
        for index, item in enumerate(value):
            yield from _leaves((*keys, index), item)
    else:
        yield keys, value


def _location(keys: Keys, data: Any) -> list[str | int]:
    """Return keys with the tags of unions between, as pydantic's locations have them."""
    location: list[str | int] = []
    for key in keys:
        location.append(key)
        data = data[key]
        if isinstance(key, int) and isinstance(data, dict) and "type" in data:
            location.append(data["type"])
    return location


def _written(keys: Keys, data: Any) -> object:
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _put(data: Any, keys: Keys, value: str) -> None:
    for key in keys[:-1]:
        data = data[key]
    data[keys[-1]] = value
