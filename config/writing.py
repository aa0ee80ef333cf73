"""Settings as TOML text: tables under headers, everything smaller on one line, a remark behind a line that has one.

Takes plain data (what ``model_dump(mode="json")`` gives) and knows nothing of settings. Scalars and keys are written
by tomli_w, so that quoting is its business.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tomli_w

from config.positions import Path as Keys


def to_toml(data: Mapping[str, Any], remark: Callable[[Keys], str | None]) -> str:
    """Write tables, two levels of them and arrays of tables under headers. ``remark`` may add a comment to a path."""
    return "\n".join(_table((), (), data, remark)).strip() + "\n"


def assignment(key: str, value: object) -> str:
    """Write ``key = value`` on one line."""
    return f"{_key(key)} = {inline(value)}"


def inline(value: object) -> str:
    """Write a value on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(assignment(key, item) for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return tomli_w.dumps({"_": value}).removeprefix("_ = ").rstrip("\n")


def header(names: tuple[str, ...], *, item: bool = False) -> str:
    """Write the header of a table, or of an array's next table."""
    name = ".".join(map(_key, names))
    return f"[[{name}]]" if item else f"[{name}]"


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")


def _table(
    keys: Keys, names: tuple[str, ...], data: Mapping[str, Any], remark: Callable[[Keys], str | None]
) -> Iterator[str]:
    for key, value in data.items():
        if not _has_headers(keys, value):
            comment = remark((*keys, key))
            yield assignment(key, value) + (f"  # {comment}" if comment else "")
    for key, value in data.items():
        if not _has_headers(keys, value):
            continue
        here = (*names, key)
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from ("", header(here, item=True))
                yield from _table((*keys, key, index), here, item, remark)
        else:
            if not value or not all(_has_headers((*keys, key), item) for item in value.values()):
                yield from ("", header(here))
            yield from _table((*keys, key), here, value, remark)


def _has_headers(keys: Keys, value: object) -> bool:
    """Tables have headers everywhere but in arrays; arrays of tables only at the top."""
    if any(isinstance(key, int) for key in keys):
        return False
    in_array = isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping) or (in_array and not keys)
