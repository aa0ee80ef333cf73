"""A clock, a memory and restic, from the tests of the engine."""

from tests.backup.conftest import clock, memory, restic

__all__ = ["clock", "memory", "restic"]
