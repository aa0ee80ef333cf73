"""What problems say of names and values: the nearest known name, a value as it was written, a number with its noun.

Refuses to guess whether a value may be shown: whoever calls knows whether a secret may stand in it.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

_LONGEST = 60


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as an ending, or all of them when none is near."""
    options = list(known)
    return nearest(name, options) or (f"; known are {', '.join(options)}" if options else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or nothing when no known name is near."""
    import difflib  # only for those who mistyped

    options = list(known)
    close = difflib.get_close_matches(name, options, n=1) or [o for o in options if o.lower() == name.lower()]
    return f"; did you mean '{close[0]}'?" if close else ""


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 file``, ``3 files``, ``2 repositories``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"


def shown(value: object) -> str | None:
    """Write a value for ``(got ...)``: scalars as TOML does, the rest by kind, long text shortened."""
    kinds: tuple[tuple[type, Callable[[Any], str]], ...] = (
        (dict, lambda _: "a table"),
        (list, lambda _: "a list"),
        (str, lambda text: json.dumps(text if len(text) <= _LONGEST else text[:_LONGEST] + "…", ensure_ascii=False)),
        (bool, lambda flag: str(flag).lower()),
        (object, str),
    )
    return None if value is None else next(write(value) for kind, write in kinds if isinstance(value, kind))
