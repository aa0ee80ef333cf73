"""What an HTTP answer must hold besides its status: JSON values at paths, headers, a pattern in the body. Pure."""

import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_COMPARISON = re.compile(r"\s*(==|!=|<=|>=|<|>|~)\s*(.*)", re.DOTALL)
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_NOTHING = object()


class NotThere(ValueError):  # noqa: N818 - says which part of a path leads nowhere
    """A path leads nowhere in a document."""


def at_path(document: Any, path: str) -> Any:
    """Return what stands at ``path``: names apart by dots, places in lists as ``[0]``, ``.length`` for how many there
    are. The empty path is the document. Raises NotThere.
    """
    found, done = document, 0
    while done < len(path):
        step = _STEP.match(path, done)
        if step is None:
            raise NotThere(f"{path} is no path; write names apart by dots and places as [0]")
        found = _below(found, step)
        if found is _NOTHING:
            raise NotThere(f"there is no {path[: step.end()]}")
        done = step.end()
    return found


def json_faults(body: str, expected: Mapping[str, str | int | float | bool]) -> list[str]:
    """Return what is wrong with a JSON body, a short phrase each; empty when all of ``expected`` holds."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        return [f"the answer is no JSON ({error})"]
    faults = []
    for path, wanted in expected.items():
        try:
            found = at_path(document, path)
        except NotThere as reason:
            faults.append(str(reason))
            continue
        if not _holds(found, wanted):
            faults.append(f"{path} is {_short(found)}, expected {wanted}")
    return faults


def header_faults(headers: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return what is wrong with headers (names in lower case), by regular expressions."""
    faults = []
    for name, pattern in expected.items():
        value = headers.get(name.lower())
        if value is None:
            faults.append(f"the header {name} is missing")
        elif not re.search(pattern, value):
            faults.append(f"the header {name} is {_short(value)}, expected {pattern!r}")
    return faults


def _below(found: Any, step: re.Match[str]) -> Any:
    name, place = step[1], step[2]
    if place is not None:
        return found[int(place)] if isinstance(found, list) and int(place) < len(found) else _NOTHING
    if isinstance(found, dict) and name in found:
        return found[name]
    return len(found) if name == "length" and isinstance(found, list | dict | str) else _NOTHING


def _holds(found: Any, wanted: str | float | bool) -> bool:
    if not isinstance(wanted, str):
        return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)
    comparison = _COMPARISON.fullmatch(wanted)
    if comparison is None:
        return _text(found) == wanted
    sign, bound = comparison.groups()
    if sign == "~":
        return re.search(bound, _text(found)) is not None
    if sign in ("==", "!="):
        return (_text(found) == bound) == (sign == "==")
    try:
        return not isinstance(found, bool) and _ORDER[sign](float(found), float(bound))
    except (TypeError, ValueError):
        return False


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 60 else text[:59] + "…"
