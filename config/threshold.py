"""A bound on a reading as an operator writes it: ``> 85%``, ``< 10 GiB``, ``>= 5m``, ``!= 0``.

A threshold is a value: it can say whether a number is past it and where its default clear bound lies. It holds no
state; what has lasted how long is the alert engine's business. Percent become ratios, sizes bytes, durations seconds,
so a threshold always compares in the base unit of its reading.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from config.units import parse_duration, parse_size

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_FORM = re.compile(r"(>=|<=|==|!=|>|<)\s*(.+)")
_OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
Kind = Literal["number", "ratio", "bytes", "seconds"]
"""What the bound was written as; a plain number fits any reading."""
_CLEAR_DISTANCE = 0.10
"""How far back the default clear bound lies, as a share of the threshold: a value that hovers must not flap."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """``reading OP bound``; ``written`` keeps the operator's own words for messages."""

    op: str
    bound: float
    written: str
    kind: Kind = "number"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``"> 85%"``. Raises ValueError when there is no operator, or the value has no known form."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str) or not (match := _FORM.fullmatch(text.strip())):
            raise ValueError("not a threshold; write an operator and a value, such as '> 85%', '< 10 GiB', '>= 5m'")
        bound, kind = _base_unit(match.group(2).strip())
        return cls(match.group(1), bound, text.strip(), kind)

    def is_past(self, value: float) -> bool:
        """Tell whether the reading is on the bad side."""
        return _HOLDS[self.op](value, self.bound)

    def opposite(self) -> "Threshold":
        """Return what holds exactly when this does not; ``written`` stays the operator's."""
        return replace(self, op=_OPPOSITE[self.op])

    def default_clear(self) -> "Threshold":
        """Return what holds until a breach of this counts as over: 10 % of the bound back. Equalities clear at once."""
        if self.op in ("==", "!="):
            return self
        back = abs(self.bound) * _CLEAR_DISTANCE
        bound = self.bound - back if self.op.startswith(">") else self.bound + back
        return replace(self, bound=bound, written=f"{self.op} {bound:g}")

    def __str__(self) -> str:
        return self.written

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^\s*(>=|<=|==|!=|>|<).+$", "examples": ["> 85%", "< 10 GiB", ">= 5m"]}


def _base_unit(text: str) -> tuple[float, Kind]:
    """Convert to the base unit. A bare ``m`` means minutes; sizes need their B, and may be meant a second."""
    readers: tuple[tuple[Kind, Callable[[str], float]], ...] = (
        ("number", float),
        ("ratio", lambda t: float(t.removesuffix("%")) / 100 if t.endswith("%") else math.nan),
        ("bytes", lambda t: parse_size(t.removesuffix("/s"))),
        ("seconds", lambda t: parse_duration(t).total_seconds()),
    )
    for kind, read in readers:
        try:
            bound = float(read(text))
        except ValueError:
            continue
        if math.isfinite(bound):
            return bound, kind
    raise ValueError(f"'{text}' is not a number, a percentage, a size (10 GiB) or a duration (5m)")
