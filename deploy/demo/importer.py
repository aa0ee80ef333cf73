"""The office's importer: files what lies in the in-tray into the archive. A process of its own, so that it can die.

``importer.py OFFICE``; ends when its standard input closes, which happens at the latest when the office is gone.
"""

import os
import select
import sys
from pathlib import Path

LARGEST_BYTES = 2**20
"""Scans above this are left for a person."""


def file_scans(office: Path) -> None:
    """Move every scan that is not too large."""
    target = office / "archive" / "scans"
    target.mkdir(parents=True, exist_ok=True)
    for scan in sorted((office / "in-tray").glob("*.scan")):
        if scan.stat().st_size <= LARGEST_BYTES:
            scan.replace(target / scan.name)


def main() -> None:
    """File scans once a second until told to stop."""
    office = Path(sys.argv[1])
    while True:
        file_scans(office)
        readable, _, _ = select.select([sys.stdin], [], [], 1.0)
        if readable and not os.read(sys.stdin.fileno(), 1024):
            return


if __name__ == "__main__":
    main()
