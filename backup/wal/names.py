"""Names and positions of PostgreSQL's write-ahead log, as arithmetic; and how the log of any database is called.

A segment's name is its timeline, and its number in two parts, in eight hexadecimal digits each (XLogFileName in
src/include/access/xlog_internal.h). Beside segments a server archives the history of each timeline, the first part of
a segment that a promotion cut off, and labels of base backups.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

SEGMENT_BYTES = 16 << 20
"""The size unless ``initdb --wal-segsize`` said otherwise."""
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_NAME = re.compile(r"[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history")
PARTIAL = ".partial"


def log_name(job: str, member: str = "") -> str:
    """Call the log of a job, or of one member of a group; no job can have such a name."""
    return f"{job}:{member}" if member else job


def job_of_log(name: str) -> str:
    """Tell whose backups a log leads on."""
    return name.partition(":")[0]


class Segment(NamedTuple):
    """One segment. Sorts by timeline, then by number."""

    timeline: int
    number: int
    """Counted from the beginning of the log in segments."""


def is_wal_name(name: str) -> bool:
    """Whether a server could archive a file of this name."""
    return _NAME.fullmatch(name) is not None


def parse_segment(name: str, segment_bytes: int = SEGMENT_BYTES) -> Segment | None:
    """Read a segment's name; None for whatever is none, ``.partial`` ones included."""
    found = _SEGMENT.fullmatch(name)
    if found is None:
        return None
    timeline, high, low = (int(part, 16) for part in found.groups())
    return Segment(timeline, high * _a_file(segment_bytes) + low)


def segment_name(segment: Segment, segment_bytes: int = SEGMENT_BYTES) -> str:
    """Write a segment's name."""
    high, low = divmod(segment.number, _a_file(segment_bytes))
    return f"{segment.timeline:08X}{high:08X}{low:08X}"


def parse_position(text: str) -> int:
    """Read a position such as ``0/3000028`` as a number of bytes. Raises ValueError."""
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is no WAL position such as 0/3000028")
    return (int(high, 16) << 32) + int(low, 16)


def timeline_of_history(name: str) -> int | None:
    """Tell which timeline a history file is of; None for another file."""
    found = _HISTORY.fullmatch(name)
    return int(found[1], 16) if found else None


@dataclass(frozen=True, slots=True)
class Switch:
    """Where a timeline was left for the next one."""

    timeline: int
    position: int


def parse_history(text: str) -> list[Switch]:
    """Read a history file: the timelines before it, oldest first, and where each was left. Raises ValueError."""
    rows = (line.split("#", 1)[0].split() for line in text.splitlines())
    return [Switch(int(row[0]), parse_position(row[1])) for row in rows if row]


def path_of(start: Segment, last: int, timeline: int, switches: list[Switch], segment_bytes: int) -> Iterator[Segment]:
    """Yield the segments from ``start`` to number ``last`` on the way to ``timeline``.

    The segment in which a switch lies is read from the new timeline, which begins with a copy of what was before.
    """
    left = {switch.timeline: switch.position // segment_bytes for switch in switches}
    order = [switch.timeline for switch in switches] + [timeline]
    number = start.number
    for current in order[order.index(start.timeline) :]:
        end = min(left[current], last + 1) if current != timeline else last + 1
        for at in range(number, end):
            yield Segment(current, at)
        number = max(number, end)


def _a_file(segment_bytes: int) -> int:
    return (1 << 32) // segment_bytes
