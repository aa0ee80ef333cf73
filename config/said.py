"""A text that can be said in another language later: English now, and what it was made of beside it.

What is judged is put into words where it is judged, and shown where nobody knows of judging: on the page, in a message,
in a report a month later. So a text carries its template and values along. Knows no other language; those are
keepwatch/languages/.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Self


class Said(str):
    """A text with values in it: English to whoever takes it for a string, and any language can say it anew.

    ``text`` has ``%(name)s`` where values go, and is the key under which languages find their own; values are numbers,
    plain strings, which no language touches, and again texts of this kind.
    """

    __slots__ = ("text", "values")
    text: str
    values: Mapping[str, Any]

    def __new__(cls, text: str, /, **values: Any) -> Self:
        """Put the values in."""
        made = super().__new__(cls, text % values if values else text)
        made.text, made.values = text, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Let copies and pickles be made anew."""
        return (self.text,), dict(self.values)


Say = Callable[..., str]
"""Says a text, with values by name, in some language; ``Said`` says it in English."""


def listed(texts: Sequence[str]) -> str:
    """Join texts by commas so that each is still said in its own right; no texts are an empty one."""
    return _joined("%(first)s, %(second)s", texts)


def chained(texts: Sequence[str]) -> str:
    """Join texts by semicolons so that each is still said in its own right; no texts are an empty one."""
    return _joined("%(first)s; %(second)s", texts)


def numbered(number: int, one: str, many: str) -> Said:
    """Say a number with its noun: ``one`` and ``many`` have ``%(count)s`` where the number goes."""
    return Said(one if number == 1 else many, count=number)


def packed(text: str) -> str | None:
    """Return as JSON what ``text`` was made of, to be kept beside it; None for a plain string."""
    return json.dumps(_plain(text), ensure_ascii=False, default=str) if isinstance(text, Said) else None


def unpacked(text: str, kept: str | None) -> str:
    """Return the text that was kept with what :func:`packed` gave for it."""
    return text if kept is None else _said(json.loads(kept))


def _joined(text: str, texts: Sequence[str]) -> str:
    return reduce(lambda first, second: Said(text, first=first, second=second), texts or ("",))


def _plain(value: Any) -> Any:
    if not isinstance(value, Said):
        return value
    return [value.text, {name: _plain(inner) for name, inner in value.values.items()}]


def _said(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    text, values = value
    return Said(text, **{name: _said(inner) for name, inner in values.items()})
