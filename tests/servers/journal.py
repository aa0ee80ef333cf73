"""A journal of systemd for a test: real journal files, written by systemd's own program from its export format."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

_PROGRAM = "/lib/systemd/systemd-journal-remote"
_BOOT = "0" * 31 + "1"


def write_journal(path: Path, entries: Sequence[dict[str, str | bytes]], *, first: int = 1) -> None:
    """Write entries into the journal file ``path``; ``first`` numbers the first of them."""
    exported = b""
    for number, entry in enumerate(entries, first):
        micros = 1_700_000_000_000_000 + number * 1_000_000
        exported += f"__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={_BOOT}\n".encode()
        for name, value in entry.items():
            data = value.encode() if isinstance(value, str) else value
            # the long form: any bytes, with their number before them (Journal Export Format)
            exported += name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
        exported += b"\n"
    subprocess.run([_PROGRAM, f"--output={path}", "-"], input=exported, check=True, capture_output=True, timeout=30)
