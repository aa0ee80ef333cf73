"""How far a drill goes. Imports nothing, since the daemon and its page ask, too."""

from enum import StrEnum


class Level(StrEnum):
    """How far a drill goes; each later one proves more."""

    METADATA = "metadata"
    """The snapshot opens, every tree reads, and each file's blobs are there and add up to it."""
    READ = "read"
    """Besides, packs are read and every byte in them is proven."""
    SAMPLE = "sample"
    """A seeded sample of the files is restored and compared, also with the live source."""
    RESTORE = "restore"
    """Everything is restored under the clock, and every byte and field compared."""
    APPLICATION = "application"
    """Besides, the application runs on it, and answers as it did when it was saved."""
    POINT_IN_TIME = "point-in-time"
    """The same, replayed to a moment after the snapshot."""


WHOLE = (Level.RESTORE, Level.APPLICATION, Level.POINT_IN_TIME)
"""Levels at which all of a snapshot came back: only they prove one, and measure how long it takes."""
RUNS_APPLICATION = (Level.APPLICATION, Level.POINT_IN_TIME)
