"""Settings of what the monitor remembers of readings: how long, in which detail, and how much at most."""

from pydantic import Field

from config.model import Model
from config.units import ByteSize, Duration


class HistorySettings(Model):
    """Readings over time, in monitor.db: every one at first, then what they were in 5 minutes, then in an hour."""

    raw: Duration = Field("48h", validate_default=True)
    """How long every reading is kept."""
    five_minutes: Duration = Field("30d", validate_default=True)
    """How long least, mean, greatest and 95th percentile of each 5 minutes are kept."""
    hours: Duration = Field("2y", validate_default=True)
    """How long those of each hour are kept."""
    max_size: ByteSize = Field("512 MiB", validate_default=True)
    """How big monitor.db may grow; beyond it the finest and oldest goes first."""
