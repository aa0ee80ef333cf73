"""What must hold of restored data: values against bounds of their own kind."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from backup.drills.assertions import Assertion, misfit

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (5, {"min": 1}),
        (1, {"min": 1, "max": 1}),
        (Decimal("0.10"), {"equals": 0.1}),
        ("42", {"min": 40}),
        (timedelta(minutes=59), {"max": HOUR}),
        (NOW - timedelta(minutes=59), {"max": HOUR}),
        (datetime(2026, 3, 1, 11, 30), {"max": HOUR}),  # noqa: DTZ001 - a column without a zone is taken for UTC
        (date(2026, 3, 1), {"max": timedelta(days=1)}),
        ("2026-03-01 11:30:00", {"max": HOUR}),  # SQLite has no other moments
        ("2026-03-01T12:30:00+01:00", {"max": HOUR, "min": timedelta(minutes=10)}),
        ("INV-7", {"equals": "INV-7"}),
        (True, {}),
        (3, {}),
        ("t", {}),
    ],
)
def test_what_holds_is_silent(value: object, bounds: dict[str, Any]) -> None:
    assert misfit(Assertion(sql="select it", **bounds), value, NOW) == ""


@pytest.mark.parametrize(
    ("value", "bounds", "told"),
    [
        (0, {"min": 1}, "select it is at least 1: gave 0"),
        (2, {"min": 0, "max": 1}, "select it is at least 0 and at most 1: gave 2"),
        (NOW - timedelta(hours=2), {"max": HOUR}, "select it is at most 1h: gave 2h"),
        (None, {"min": 1}, "gave nothing, which cannot be compared so"),
        ("many", {"min": 1}, "gave many, which cannot be compared so"),
        (float("nan"), {"min": 1}, "cannot be compared so"),
        ("2026-03-01 09:30:00", {"max": HOUR}, "select it is at most 1h: gave 2h 30m"),
        ("yesterday", {"max": HOUR}, "gave yesterday, which cannot be compared so"),
        (5, {"max": HOUR}, "gave 5, which cannot be compared so"),
        ("INV-8", {"equals": "INV-7"}, "select it is exactly INV-7: gave INV-8"),
        (None, {}, "select it: gave nothing"),
        (False, {}, "select it: gave False"),
        (0, {}, "select it: gave 0"),
    ],
)
def test_what_does_not_hold_is_told_with_its_value(value: object, bounds: dict[str, Any], told: str) -> None:
    assert told in misfit(Assertion(sql="select it", **bounds), value, NOW)
