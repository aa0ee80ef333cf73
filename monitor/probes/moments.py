"""What databases, files and documents write where they mean a moment, as an aware moment. Pure.

Moments without a zone are taken to be UTC; a bare day is its beginning.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime

_MILLISECONDS_FROM = 1e11
"""A number of seconds this large lies in the year 5138: it counts milliseconds."""


def age_of(value: object, now: datetime) -> float:
    """Return how many seconds ago ``value`` was: a moment in any of its forms, or an age already (a timedelta).

    Raises ValueError when it is neither.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    return (now - moment_of(value)).total_seconds()


def moment_of(value: object) -> datetime:
    """Return a moment given as such, as a day, as a number since 1970, in ISO 8601 or as HTTP and mail write it.

    Raises ValueError.
    """
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return _written(value.strip())
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _counted(float(value))
    raise ValueError(f"{str(value)[:60]!r} is no moment")


def _written(text: str) -> datetime:
    try:
        return _counted(float(text))
    except ValueError:
        pass
    try:
        return moment_of(datetime.fromisoformat(text))
    except ValueError:
        pass
    try:
        return moment_of(parsedate_to_datetime(text))
    except (ValueError, TypeError):
        raise ValueError(f"{text[:60]!r} is no moment") from None


def _counted(number: float) -> datetime:
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) >= _MILLISECONDS_FROM else number, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{number:g} is no moment") from None
