"""Four Nagios plugins about the office: exit 0 ok, 1 warning, 2 critical, 3 unknown; one line, then performance data.

``check_office.py sync|documents|permissions|quota OFFICE``. Any monitoring system that runs plugins could use them.
"""

import argparse
import stat
import sys
import time
from pathlib import Path

from ledger import Books

SYNC_WARNING_SECONDS, SYNC_CRITICAL_SECONDS = 15, 30
QUOTA_BYTES = 8 * 2**20
STATUS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_SETTLED_SECONDS = 5
"""What is younger may be in the middle of being written."""


def sync(books: Books) -> tuple[int, str, str]:
    """How long ago the tax authority last took an invoice from us."""
    _, waiting, _, last = books.standing()
    if last is None:
        return 3, "never synchronised", f"waiting={waiting}"
    age = time.time() - last.timestamp()
    status = 2 if age > SYNC_CRITICAL_SECONDS else 1 if age > SYNC_WARNING_SECONDS else 0
    figures = f"age={age:.1f}s;{SYNC_WARNING_SECONDS};{SYNC_CRITICAL_SECONDS};0 waiting={waiting};;;0"
    return status, f"last sync {age:.0f} s ago, {waiting} invoices wait", figures


def documents(books: Books) -> tuple[int, str, str]:
    """Whether each invoice of the ledger has its document."""
    every = books.documents()
    missing = [number for number, path in every if not path.exists()]
    figures = f"documents={len(every) - len(missing)};;;0 missing={len(missing)};;0;0"
    if missing:
        return 2, f"{len(missing)} of {len(every)} documents are missing: {', '.join(missing[:3])}", figures
    return 0, f"all {len(every)} documents are there", figures


def permissions(books: Books) -> tuple[int, str, str]:
    """Whether each document can be read by the office and by nobody else."""
    wrong = []
    for path in books.archive.rglob("*.xml"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode != 0o640 and time.time() - status.st_ctime > _SETTLED_SECONDS:
            wrong.append(f"{path.name} has {mode:04o}")
    figures = f"wrong={len(wrong)};0;;0"
    if wrong:
        return 1, f"{len(wrong)} documents not 0640: {', '.join(wrong[:3])}", figures
    return 0, "all documents are 0640", figures


def quota(books: Books) -> tuple[int, str, str]:
    """How full the in-tray for scans is."""
    used = sum(path.stat().st_size for path in (books.archive.parent / "in-tray").iterdir())
    share = used / QUOTA_BYTES
    status = 2 if share > 0.95 else 1 if share > 0.8 else 0
    figures = f"used={used}B;{QUOTA_BYTES * 8 // 10};{QUOTA_BYTES * 95 // 100};0;{QUOTA_BYTES}"
    return status, f"in-tray at {share:.0%} of {QUOTA_BYTES >> 20} MiB", figures


CHECKS = {"sync": sync, "documents": documents, "permissions": permissions, "quota": quota}


def main() -> int:
    """Run one plugin and answer as the protocol wants it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=CHECKS)
    parser.add_argument("office", type=Path)
    arguments = parser.parse_args()
    try:
        status, text, figures = CHECKS[arguments.what](Books(arguments.office))
    except Exception as error:  # noqa: BLE001 - the protocol has a status for it
        status, text, figures = 3, f"{type(error).__name__}: {error}", ""
    line = f"{arguments.what.upper()} {STATUS[status]} - {text}"
    sys.stdout.write(f"{line} | {figures}\n" if figures else f"{line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
