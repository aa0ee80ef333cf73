"""The view as JSON, for scripts and for `keepwatch status --json`.

Shape: an object with the fields of :class:`keepwatch.view.View`, each value as the dataclass of that name in
``keepwatch/view.py``: moments as ISO 8601 in UTC (``2026-03-01T13:32:05.123456Z``), durations in seconds, sizes in
bytes, a check's ``status`` as its word, what is not known as null. Three fields that are bare tuples there are objects
here: ``silences`` (id, matchers, author, comment, ends_at), ``notifications`` (channel, sent, failed), ``suppressed``
(reason, count). ``/api/v1/NAME`` answers ``{"host", "made_at", NAME: [...]}``. New fields may be added, none renamed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from keepwatch.view import View
from monitor.result import Status

LISTS = ("checks", "alerts", "jobs", "runs", "drills", "snapshots")
"""Parts of the view that have an address of their own."""

_TUPLES = {
    "silences": ("id", "matchers", "author", "comment", "ends_at"),
    "notifications": ("channel", "sent", "failed"),
    "suppressed": ("reason", "count"),
}


def as_json(view: View) -> dict[str, Any]:
    """Return the whole view as values that :mod:`json` can write."""
    whole = _plain(view)
    for name, columns in _TUPLES.items():
        whole[name] = [dict(zip(columns, row, strict=True)) for row in whole[name]]
    return dict(whole)


def part_as_json(view: View, name: str) -> dict[str, Any]:
    """Return one of ``LISTS``, with the host and the moment it speaks of."""
    return {"host": view.host, "made_at": _plain(view.made_at), name: _plain(getattr(view, name))}


def dump(value: Any) -> bytes:
    """Write JSON as UTF-8; what UTF-8 cannot carry (odd bytes in file names) becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if isinstance(value, Status):
        return value.label
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
