"""Room on the disk that is kept for the moment when there is none left.

A monitor that cannot record cannot tell, and a full disk is what it is there to tell of. So a file of a few megabytes
lies beside its database; the first write that finds the disk full gives it up, and it is made again when there is
plenty of room. Holds nothing, is never read, and may be deleted by anybody at any time.
"""

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 4 * 2**20
"""Enough for the write-ahead log at its usual size and thousands of alerts."""
_PLENTY = 16
"""How many times its size must be free before it is made."""
_BLOCK = bytes(2**16)


class Reserve:
    """The file. Never raises: to have no reserve is no reason to stop."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self.path, self._size_bytes = path, size_bytes
        self._held = False

    def keep(self) -> None:
        """Make the file if it is not there and there is plenty of room. Cheap when it is."""
        if self._held:
            return
        with suppress(OSError):
            free = os.statvfs(self.path.parent)
            if free.f_bavail * free.f_frsize < _PLENTY * self._size_bytes:
                return
            try:
                # Real blocks: a hole in a file would reserve nothing.
                with open(self.path, "wb", opener=_privately) as file:
                    file.writelines(_BLOCK for _ in range(self._size_bytes // len(_BLOCK)))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                self.path.unlink(missing_ok=True)
                raise
            self._held = True

    def give_up(self) -> None:
        """Delete the file, so that its room is free."""
        self._held = False
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
