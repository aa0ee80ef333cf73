"""Where files of the log wait while a repository is away: durable on this machine, in the order in which they came.

It never grows past its limit and never fills the disk it lies on: then it refuses, and the server keeps its segments
itself, which is noticed long before.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backup.errors import StorageFull
from config.units import format_size

_KEPT_FREE_BYTES = 512 << 20
_KEPT_FREE_SHARE = 0.05
MEANWHILE = "the server keeps it meanwhile, so mind its disk"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that waits."""

    path: Path
    name: str
    at: datetime
    """When it was complete."""
    size: int


class Spool:
    """The files that wait for one repository."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Make the folder."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in folder.glob(".*"):
            draft.unlink()

    def __iter__(self) -> Iterator[Waiting]:
        """Give what waits, the oldest first."""
        for name in sorted(os.listdir(self._folder)):
            number, _, own = name.partition("-")
            if number.isdigit() and own:
                path = self._folder / name
                status = path.stat()
                yield Waiting(path, own, datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC), status.st_size)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(waiting.size for waiting in self)

    def put(self, name: str, content: memoryview, at: datetime) -> None:
        """Take a file in; it survives a power cut when this returns. The same again is fine.

        Raises StorageFull when there is no more room for it, and ValueError when other bytes of that name wait.
        """
        waiting = list(self)
        for other in waiting:
            if other.name == name and not name.endswith(".partial"):
                if other.path.read_bytes() == content:
                    return
                raise ValueError(f"a file of that name with other bytes waits in {self._folder}")
        self._require_room(len(content), sum(other.size for other in waiting))
        number = int(waiting[-1].path.name.partition("-")[0]) + 1 if waiting else 1
        draft = self._folder / f".{name}"
        with draft.open("wb") as file:
            file.write(content)
            os.utime(file.fileno(), (at.timestamp(), at.timestamp()))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._folder / f"{number:012}-{name}")
        self._sync()
        for other in waiting:
            if other.name == name:  # an earlier state of a partial one
                self.remove(other)

    def remove(self, waiting: Waiting) -> None:
        """Let go of a file that has arrived."""
        waiting.path.unlink(missing_ok=True)

    @property
    def room(self) -> int:
        """Bytes that may still come before the disk is as full as it may be; less than 0 when it is fuller."""
        disk = shutil.disk_usage(self._folder)
        return disk.free - min(max(_KEPT_FREE_BYTES, int(disk.total * _KEPT_FREE_SHARE)), disk.total // 2)

    def _require_room(self, size: int, used: int) -> None:
        if used + size > self._limit_bytes:
            reason = f"{format_size(used)} wait, and {format_size(self._limit_bytes)} may"
        elif size > self.room:
            reason = f"only {format_size(shutil.disk_usage(self._folder).free)} are free there"
        else:
            return
        raise StorageFull(
            f"could not spool WAL in {self._folder}: {reason}; {MEANWHILE}", hint="bring the repository back"
        )

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
