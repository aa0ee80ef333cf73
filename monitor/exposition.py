"""Prometheus' text format, version 0.0.4: families of samples to the lines that a scraper reads. Pure.

``prometheus_client`` builds an object for each sample before it writes a line; at five hundred series that was nine
tenths of a scrape. Here a family is its text from the start, and a set of labels is written once and remembered. The
format: https://prometheus.io/docs/instrumenting/exposition_formats/. Refuses sample timestamps, and families without
samples: a heading alone says nothing.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What the answer to a scrape calls itself."""

Kind = Literal["counter", "gauge", "untyped"]
Sample = tuple[str, float]
"""Labels as ``label_text`` writes them (empty for none), and a value."""

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def family(name: str, kind: Kind, documentation: str, samples: Iterable[Sample]) -> str:
    """Write a family; empty without samples. The caller sees to it that no two samples have the same labels."""
    lines = [f"{name}{labels} {number(value)}\n" for labels, value in samples]
    if not lines:
        return ""
    return f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n{''.join(lines)}"


def histogram(name: str, documentation: str, counts: Sequence[tuple[float, int]], total: float) -> str:
    """Write a histogram without labels: how many observations were at most each bound, the last of them infinite."""
    if not counts:
        return ""
    lines = [f'{name}_bucket{{le="{number(bound)}"}} {count}\n' for bound, count in counts]
    lines += [f"{name}_sum {number(total)}\n", f"{name}_count {counts[-1][1]}\n"]
    return f"# HELP {name} {documentation}\n# TYPE {name} histogram\n{''.join(lines)}"


def number(value: float) -> str:
    """Write a value: whole numbers as they are, others with the digits that tell them apart."""
    if isinstance(value, int):
        return str(int(value))
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


@lru_cache(maxsize=65_536)
def label_text(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Write labels, ``{device="sda",mode="idle"}``. Names of files hold any byte: what UTF-8 cannot carry becomes a
    question mark.
    """
    pairs = ",".join(
        f'{name}="{value.encode("utf-8", "replace").decode().translate(_ESCAPES)}"'
        for name, value in zip(names, values, strict=True)
    )
    return f"{{{pairs}}}" if pairs else ""
