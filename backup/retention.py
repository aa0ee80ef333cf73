"""Retention: which snapshots to keep, as arithmetic on values, each with its reasons.

The rules are those of current restic (internal/data/snapshot_policy.go): walking from the newest, each hour, day, week,
month or year that has a snapshot keeps the newest of it, until the rule's count is used up; a rule with counts left
also keeps the oldest snapshot of all, so that history reaches as far back as it can; ``within`` is measured from the
newest snapshot and not from now, so that a backup that stopped months ago is not forgotten to the last file. Two rules
are our own: the newest snapshot and the newest that a drill has proven are always kept; and one that is dated in the
future, where a clock was wrong, is kept and never counts, since it would push honest ones out. Nothing here reads a
repository or deletes anything.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from backup.snapshot import Snapshot
from config.jobs import KeepSettings
from config.units import duration_text

_SKEW: Final = timedelta(minutes=5)
"""Clocks of two hosts may differ by this much without anything being wrong."""

_Bucket = Callable[[datetime], tuple[int, ...]]

_CALENDAR: Final[tuple[tuple[str, _Bucket], ...]] = (
    ("hourly", lambda at: (at.year, at.month, at.day, at.hour)),
    ("daily", lambda at: (at.year, at.month, at.day)),
    ("weekly", lambda at: at.isocalendar()[:2]),
    ("monthly", lambda at: (at.year, at.month)),
    ("yearly", lambda at: (at.year,)),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one snapshot; without a reason to keep it, it goes."""

    snapshot: Snapshot
    reasons: tuple[str, ...]

    @property
    def keep(self) -> bool:
        """Whether there is a reason to keep it."""
        return bool(self.reasons)


def decide(
    snapshots: Iterable[Snapshot],
    keep: KeepSettings | None,
    now: datetime,
    *,
    proven: Collection[str] = (),
    zone: tzinfo = UTC,
) -> list[Decision]:
    """Judge one group of snapshots (one job, one host), newest first in the answer.

    ``keep`` None keeps everything. ``proven`` are ids of snapshots that a drill restored well. Hours, days and weeks
    are those of ``zone``.
    """
    ordered = sorted(snapshots, key=lambda item: (item.time, item.id), reverse=True)
    if keep is None:
        return [Decision(item, ("no keep policy",)) for item in ordered]
    reasons: dict[str, list[str]] = {item.id: [] for item in ordered}
    honest = [item for item in ordered if item.time <= now + _SKEW]
    for item in ordered[: len(ordered) - len(honest)]:
        reasons[item.id].append("dated in the future")
    if honest:
        reasons[honest[0].id].append("newest")
    if newest_proven := next((item for item in honest if item.id in proven), None):
        reasons[newest_proven.id].append("newest that a drill has proven")
    for item in honest[: keep.last]:
        reasons[item.id].append("last")
    for name, bucket in _CALENDAR:
        for item in _one_each(honest, bucket, getattr(keep, name), zone):
            reasons[item.id].append(name)
    for item in honest:
        if keep.within is not None and item.time > honest[0].time - keep.within:
            reasons[item.id].append(f"within {duration_text(keep.within)}")
        reasons[item.id] += [f"tag {tag}" for tag in keep.tags if tag in item.tags]
    return [Decision(item, tuple(reasons[item.id])) for item in ordered]


def _one_each(ordered: list[Snapshot], bucket: _Bucket, count: int, zone: tzinfo) -> list[Snapshot]:
    """Give the newest of each of the last ``count`` buckets, and the oldest of all while counts are left."""
    kept: list[Snapshot] = []
    last: tuple[int, ...] | None = None
    for item in ordered:
        if len(kept) == count:
            break
        value = bucket(item.time.astimezone(zone))
        if value != last or item is ordered[-1]:
            kept.append(item)
            last = value
    return kept
