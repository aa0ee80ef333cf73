"""Reads what was written to systemd's journal since the last look, by journalctl and its cursor.

The journal's files have no stable format but through its library; its program is on every machine that has one.
Format: https://systemd.io/JOURNAL_EXPORT_FORMATS/, "Journal JSON Format".
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from monitor.probes.program import NotInstalled, Program
from monitor.result import NoData, ProbeError

_MOST_BYTES = 8 << 20
"""How much is taken at one look; what is left is read at the next one."""
_FIELDS = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_COMM"
_LONGEST_LINE = 64 * 1024


class Journal:
    """Follows entries that have ``fields`` (as journalctl takes them) from ``cursor`` on.

    ``where`` are further arguments, such as a folder of journal files.
    """

    def __init__(
        self, fields: Sequence[str], timeout_seconds: float, cursor: str | None = None, where: Sequence[str] = ()
    ) -> None:
        self._fields = fields
        self._timeout_seconds = timeout_seconds
        self._where = where
        self.cursor = cursor
        """The last entry that was read; None before the first look."""

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Yield who wrote and what, of every entry since the last look; the first look only takes the place.

        Raises NoData on a machine without a journal, ProbeError when it cannot be read.
        """
        if self.cursor is None:
            self.cursor = self._end()
            return
        after = [f"--after-cursor={self.cursor}"] if self.cursor else []
        for line in self._ask("--output=json", _FIELDS, *after, *self._fields).splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                return  # cut off at the cap: from here on it is read at the next look
            self.cursor = str(entry["__CURSOR"])
            who = entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM") or "journal"
            yield str(who), _message(entry.get("MESSAGE"))

    def _end(self) -> str:
        """Return the cursor of the last entry of all; empty when there is none."""
        said = self._ask("--output=json", "--output-fields=__CURSOR", "--lines=1").splitlines()
        return str(json.loads(said[-1])["__CURSOR"]) if said else ""

    def _ask(self, *arguments: str) -> bytes:
        program = Program(
            ["journalctl", "--quiet", "--no-pager", *self._where, *arguments],
            self._timeout_seconds,
            shown="journalctl",
            output_limit_bytes=_MOST_BYTES,
        )
        try:
            ended = program.run()
        except NotInstalled as error:
            raise NoData("this machine has no systemd journal") from error
        if ended.code and not ended.output:
            said = ended.complaint or "it says nothing"
            if "No journal files were found" in said:
                raise NoData("this machine has no systemd journal")
            hint = "members of the group systemd-journal may read it"
            raise ProbeError(f"reading the journal: {said}", hint=hint)
        return ended.output


def _message(value: Any) -> bytes:
    """Return a message as bytes: JSON has text, a list of bytes where it is no UTF-8, null where it is too large."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")[:_LONGEST_LINE]
    if isinstance(value, list):
        return bytes(byte for byte in value[:_LONGEST_LINE] if isinstance(byte, int) and 0 <= byte < 256)
    return b""
