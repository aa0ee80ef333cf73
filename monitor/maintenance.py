"""Planned work as a value: is a maintenance window open at a moment, and which alerts does it mean?

Windows of the week are read on the wall clock of their time zone, so "sunday 02:00-04:00" ends at four on the night of
a clock change, too; a scheduled one begins by cron's rules for such nights and lasts its elapsed time. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from config.notify import MaintenanceSettings, weekly_window
from config.schedule import Schedule
from monitor.matching import Matcher


@dataclass(frozen=True, slots=True)
class Maintenance:
    """One configured window."""

    name: str
    matchers: tuple[Matcher, ...]
    zone: tzinfo
    window: str | None = None
    schedule: Schedule | None = None
    lasting: timedelta = timedelta(0)
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Tell whether ``now`` (aware) lies in it."""
        if self.window is not None and weekly_window(self.window).contains(now.astimezone(self.zone)):
            return True
        # Strictly after the moment at which a window that ends now would have begun.
        if self.schedule is not None and self.schedule.next_after(now - self.lasting, self.zone) <= now:
            return True
        return self.starts_at is not None and self.ends_at is not None and self.starts_at <= now < self.ends_at

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an alert with these labels is meant; all are when no matcher says otherwise."""
        return all(matcher.matches(labels) for matcher in self.matchers)


def maintenance_of(settings: Iterable[MaintenanceSettings], zone: tzinfo) -> tuple[Maintenance, ...]:
    """Return the windows that the settings describe; ``zone`` is where those without a zone of their own are read."""
    found = []
    for one in settings:
        its_zone = zone if one.timezone is None else UTC if one.timezone == "UTC" else ZoneInfo(one.timezone)
        found.append(
            Maintenance(
                one.name, tuple(Matcher.parse(text) for text in one.matchers), its_zone, one.window, one.schedule,
                one.lasting or timedelta(0), _aware(one.starts_at, its_zone), _aware(one.ends_at, its_zone),
            )
        )  # fmt: skip
    return tuple(found)


def _aware(moment: datetime | None, zone: tzinfo) -> datetime | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
