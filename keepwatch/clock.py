"""The only place that reads the wall clock; everybody else is handed ``now`` or this function."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return this moment as an aware UTC datetime."""
    return datetime.now(UTC)
