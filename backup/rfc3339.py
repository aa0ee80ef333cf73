"""Moments as restic's JSON writes them: RFC 3339 with up to nine digits of a second.

Written in UTC with ``Z`` and microseconds at most; read with any offset, digits beyond microseconds dropped. Times of
file system entries, whose nanoseconds matter, are not read here but in tree.py.
"""

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """Write an aware moment: ``2026-03-01T10:30:00.25Z``."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    moment = moment.astimezone(UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}Z"


def parse_time(text: str) -> datetime:
    """Read a moment into aware UTC. Raises ValueError when it is none, or carries no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a moment without an offset: {text}")
    return moment.astimezone(UTC)
