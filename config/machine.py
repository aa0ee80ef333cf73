"""What settings take from the machine where the operator left them out: its name, time zone and state directory.

Found once, before loading, and handed down as a value, so that loading stays a function of its arguments.
"""

import logging
import os
import socket
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal

log = logging.getLogger(__name__)

STATE_DIR_VARIABLE = "KEEPWATCH_STATE_DIR"


@dataclass(frozen=True, slots=True)
class Machine:
    """The defaults that differ from machine to machine."""

    host: str
    timezone: str
    """IANA name, such as Europe/Berlin."""
    state_dir: Path

    @classmethod
    def here(cls, environ: Mapping[str, str], *, uid: int | None = None) -> "Machine":
        """Look at this machine. ``uid`` is the process's own unless given."""
        root = (os.geteuid() if uid is None else uid) == 0
        return cls(socket.gethostname() or "localhost", _timezone(), default_state_dir(environ, root=root))


def default_state_dir(environ: Mapping[str, str], *, root: bool) -> Path:
    """Return /var/lib/keepwatch for root, below the user's state home (XDG Base Directory) otherwise."""
    if root:
        return Path("/var/lib/keepwatch")
    home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "state")
    return Path(home) / "keepwatch"


def _timezone() -> str:
    """Return the machine's zone by name; UTC, said in the log, where it has none that everybody knows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # tzlocal warns where it has to guess
            name = str(tzlocal.get_localzone_name())
        ZoneInfo(name)
    except (LookupError, ValueError, OSError, ZoneInfoNotFoundError, UserWarning) as error:
        log.warning("time zone unknown", extra={"using": "UTC", "reason": error, "hint": "set timezone in [daemon]"})
        return "UTC"
    return name
