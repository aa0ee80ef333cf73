"""node_exporter's collector of systemd units, asked of ``systemctl`` now and then on a thread of its own.

``systemctl show`` asks for each unit by itself and takes a tenth of a second and more, so no scrape waits long for it:
each is given what was found last, and looking again starts when that is older than half a minute.
node_exporter leaves this collector off by default; here it is on wherever systemd runs (sd_booted(3)).
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from monitor.collecting import NothingToCollect
from monitor.exposition import Sample, family, label_text
from monitor.node.reading import Machine

COMMAND = (
    "systemctl", "show", "--all", "--property=Id,LoadState,ActiveState,Type,NRestarts", "--",
    "*.service", "*.socket", "*.target", "*.timer", "*.path", "*.swap",
)  # fmt: skip
"""All units but those that node_exporter's ``--collector.systemd.unit-exclude`` leaves out."""
_STATES = ("active", "activating", "deactivating", "inactive", "failed")
_FRESH_SECONDS = 30.0
_FIRST_SECONDS = 0.5
_TIMEOUT_SECONDS = 20.0


class Units:
    """Answers with what ``systemctl`` said last."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        booted: Callable[[], bool] = lambda: os.path.isdir("/run/systemd/system"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._booted = booted
        self._monotonic = monotonic
        self._looking = threading.Lock()
        self._first_look = threading.Event()
        self._looked_at = float("-inf")
        self._text = ""
        self._error: Exception | None = None

    def collect(self, _: Machine) -> Iterator[str]:
        """Return the units as of the last look; raises what went wrong then."""
        if not self._booted():
            raise NothingToCollect
        if self._monotonic() - self._looked_at > _FRESH_SECONDS and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look, name="systemd-units", daemon=True).start()
        if not self._first_look.wait(_FIRST_SECONDS):
            raise NothingToCollect
        if self._error is not None:
            raise self._error.with_traceback(None)  # or each scrape would add to the traceback of the last one
        yield self._text

    def _look(self) -> None:
        try:
            done = subprocess.run(self._command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True)
            self._text, self._error = units(done.stdout.decode("utf-8", "replace")), None
        except (OSError, subprocess.SubprocessError) as error:
            self._error = error
        finally:
            self._looked_at = self._monotonic()
            self._first_look.set()
            self._looking.release()


def units(text: str) -> str:
    """Turn what ``systemctl show`` says, a block for each unit, into families. Units must be loaded to count."""
    states: list[Sample] = []
    restarts: list[Sample] = []
    for block in text.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("LoadState") != "loaded":
            continue
        for state in _STATES:
            labels = label_text(("name", "state", "type"), (unit["Id"], state, unit.get("Type", "")))
            states.append((labels, int(unit["ActiveState"] == state)))
        if unit.get("NRestarts", "").isdigit():
            restarts.append((label_text(("name",), (unit["Id"],)), int(unit["NRestarts"])))
    return family("node_systemd_unit_state", "gauge", "Systemd unit", states) + family(
        "node_systemd_service_restart_total", "counter", "Service unit count of Restart triggers", restarts
    )
