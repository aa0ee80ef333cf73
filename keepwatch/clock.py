"""The only place that reads the wall clock; everybody else is handed ``now`` or this function."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return this moment as an aware UTC datetime."""
    return datetime.now(UTC)


def local_time() -> datetime:
    """Return this moment as the ``schedule`` library sees it: naive, in the machine's zone. For its ticks only."""
    return datetime.now()  # noqa: DTZ005
