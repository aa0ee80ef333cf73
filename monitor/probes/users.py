"""Who is logged in, from the system's record of sessions (utmp), by psutil."""

from collections.abc import Callable, Sequence
from typing import Any

import psutil

from config.said import Said, listed
from monitor.result import Measurement, Reading

_HERE = (":", "localhost", "127.", "::1", "tmux(", "mosh ")
"""How the hosts of sessions begin: none, a display, or a terminal multiplexer."""


class UsersProbe:
    """Sessions. ``read`` returns psutil's ``suser`` rows."""

    def __init__(self, read: Callable[[], Sequence[Any]] = psutil.users) -> None:
        self._read = read

    def measure(self) -> Measurement:
        """Return ``count``, ``users``, ``remote`` and ``root``; a note says who."""
        sessions = self._read()
        remote = [session for session in sessions if _is_remote(session.host or "")]
        names = sorted({session.name for session in sessions})
        readings = [
            Reading("count", len(sessions), "count"),
            Reading("users", len(names), "count"),
            Reading("remote", len(remote), "count"),
            Reading("root", sum(session.name == "root" for session in sessions), "count"),
        ]
        afar = {Said("%(name)s from %(host)s", name=one.name, host=one.host) for one in remote}
        told = sorted(afar | {one.name for one in sessions if one not in remote})
        return Measurement(readings, notes={"": listed(told)} if told else {})


def _is_remote(host: str) -> bool:
    return bool(host) and not host.startswith(_HERE)
