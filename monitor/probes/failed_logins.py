"""Logins that were refused, from the system's own record of them, /var/log/btmp (utmp(5); what lastb(1) prints).

Rotation is a file that became smaller: then what is in the new one counts from its beginning.
"""

import struct
from collections import Counter
from pathlib import Path

from config.said import Said, listed
from monitor.probes.recent import Recent
from monitor.result import Measurement, NoData, ProbeError, Reading

BTMP = Path("/var/log/btmp")
_RECORD = struct.Struct("=hxxi32s4s32s256shhiii4i20s")
"""struct utmp of glibc on 64-bit Linux: type, pid, line, id, user, host, exit status, session, seconds, microseconds,
address, and padding. 384 bytes."""
_USER, _HOST = 4, 5
_MOST_READ = 2000
_MOST_TOLD = 3


class FailedLoginsProbe:
    """Counts the records that were added ``recent``ly."""

    def __init__(self, recent: Recent, path: Path = BTMP) -> None:
        self._recent = recent
        self._path = path

    def measure(self) -> Measurement:
        """Return ``failed``, how many lately; a note says by whom most. Raises NoData where there is no record."""
        try:
            with self._path.open("rb") as file:
                records = file.seek(0, 2) // _RECORD.size
                failed = int(self._recent.see(records))
                newest = min(failed, records, _MOST_READ)
                file.seek((records - newest) * _RECORD.size)
                content = file.read(newest * _RECORD.size)
        except FileNotFoundError as error:
            raise NoData(f"this machine keeps no record of refused logins ({self._path})") from error
        except OSError as error:
            raise ProbeError(
                f"reading {self._path}: {error.strerror}", hint="the daemon's user must be in the group utmp"
            ) from error
        rows = list(_RECORD.iter_unpack(content[: len(content) // _RECORD.size * _RECORD.size]))
        told = [Said("%(count)s from %(host)s", count=count, host=host) for host, count in _most(rows, _HOST) if host]
        told += [Said("%(count)s as %(user)s", count=count, user=user) for user, count in _most(rows, _USER) if user]
        return Measurement([Reading("failed", failed, "count")], notes={"": listed(told)} if told else {})


def _most(rows: list[tuple[bytes, ...]], field: int) -> list[tuple[str, int]]:
    texts = Counter(row[field].split(b"\0", 1)[0].decode("utf-8", "replace") for row in rows)
    return texts.most_common(_MOST_TOLD)
