"""Files and folders that allow more than they should, or belong to somebody else. Looks, and changes nothing."""

import grp
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from monitor.result import Measurement, ProbeError, Reading

_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Expected:
    """What is right: at most these bits, and these owners where they are named."""

    at_most: int
    owner: str | None = None
    group: str | None = None


class PermissionsProbe:
    """Compares each path, and with ``recursive`` what lies below it on the same file system."""

    def __init__(
        self, paths: Sequence[str], expected: Expected, timeout_seconds: float, *, recursive: bool = False
    ) -> None:
        self._paths = paths
        self._expected = expected
        self._timeout_seconds = timeout_seconds
        self._recursive = recursive

    def measure(self) -> Measurement:
        """Return ``wrong``, by path; notes name the first ones. Raises ProbeError when it takes too long."""
        owner = _id("user", self._expected.owner, lambda name: pwd.getpwnam(name).pw_uid)
        group = _id("group", self._expected.group, lambda name: grp.getgrnam(name).gr_gid)
        deadline = time.monotonic() + self._timeout_seconds
        readings: list[Reading] = []
        missing: list[str] = []
        notes: dict[str, str] = {}
        for path in self._paths:
            if not os.path.lexists(path):
                missing.append(path)
                continue
            wrong = 0
            told: list[str] = []
            for found, status in self._entries(path):
                if time.monotonic() > deadline:
                    raise ProbeError(
                        f"looking at permissions below {path}: not done within {self._timeout_seconds:g} s",
                        hint="raise the check's timeout, or name fewer folders",
                    )
                faults = [fault for fault in (_mode_fault(status, self._expected.at_most),) if fault]
                if owner is not None and status.st_uid != owner:
                    faults.append(f"belongs to {_name_of_user(status.st_uid)}")
                if group is not None and status.st_gid != group:
                    faults.append(f"belongs to group {_name_of_group(status.st_gid)}")
                if faults:
                    wrong += 1
                    if len(told) < _MOST_TOLD:
                        told.append(f"{found} {' and '.join(faults)}")
            readings.append(Reading("wrong", wrong, "count", path))
            if told:
                notes[path] = "; ".join(told)
        return Measurement(readings, missing=missing, notes=notes)

    def _entries(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        status = os.stat(path)  # the path itself may be a link: what it leads to counts
        yield path, status
        if not self._recursive or not stat.S_ISDIR(status.st_mode):
            return

        def give_up(error: OSError) -> None:
            raise ProbeError(
                f"looking at permissions below {path}: {error.strerror}: {error.filename}",
                hint="the daemon's user must be able to search the folder",
            )

        for folder, folders, files in os.walk(path, onerror=give_up):
            entries = []
            for name in (*folders, *files):
                full = os.path.join(folder, name)
                try:
                    entries.append((name, full, os.lstat(full)))
                except FileNotFoundError:
                    continue
            folders[:] = [
                name for name, _, found in entries if stat.S_ISDIR(found.st_mode) and found.st_dev == status.st_dev
            ]
            yield from (
                (full, found)
                for _, full, found in entries
                if not stat.S_ISLNK(found.st_mode) and found.st_dev == status.st_dev
            )


def _mode_fault(status: os.stat_result, at_most: int) -> str | None:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        at_most |= (at_most & 0o444) >> 2
        if mode & stat.S_ISVTX:
            at_most |= stat.S_IWOTH
    return f"has mode {mode:04o}" if mode & 0o777 & ~at_most else None


def _id(kind: str, name: str | None, find: Callable[[str], int]) -> int | None:
    try:
        return None if name is None else find(name)
    except KeyError as error:
        raise ProbeError(f"looking at permissions: there is no {kind} named {name}") from error


def _name_of_user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _name_of_group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
