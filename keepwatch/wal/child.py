"""The receiver of one log in a process of its own, under the daemon; not a command for people.

What it needs comes down the pipe of its standard input, so that no secret stands in a process list; the pipe stays open
as a lifeline.
"""

import logging
import os
import pickle
import select
import sys
from pathlib import Path

from config.databases import MariaDbSource
from config.settings import Settings
from keepwatch import logs
from keepwatch.clock import now
from keepwatch.state import StateDirectory
from keepwatch.wal import binlogs, receiver
from keepwatch.wal.kept import kept_logs


def main() -> int:
    """Serve until told to stop, or until the daemon is gone."""
    size = int.from_bytes(_read(4), "big")
    name, settings, state = pickle.loads(_read(size))  # noqa: S301 - written by the parent process
    assert isinstance(settings, Settings)
    logs.configure(settings.daemon.log_format)
    directory = StateDirectory(Path(state))
    with directory.lock(f"wal-{name}", what=f"the receiver of job {name}'s log"):
        run = binlogs.run if isinstance(kept_logs(settings)[name].source, MariaDbSource) else receiver.run
        run(settings, directory.path, name, now, _daemon_is_gone)
    logging.getLogger(__name__).info("receiver ended", extra={"job": name})
    return 0


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(0, size - len(data))):
        data += more
    return data


def _daemon_is_gone() -> bool:
    return bool(select.select([0], [], [], 0)[0]) and os.read(0, 1) == b""


if __name__ == "__main__":
    sys.exit(main())
