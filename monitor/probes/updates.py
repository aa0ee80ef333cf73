"""Updates that wait to be installed, as apt would install them: simulated, so that nothing is locked or changed."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from monitor.probes.tool import Tool
from monitor.result import Measurement, ProbeError, Reading

_SIMULATE = [
    "apt-get", "--simulate", "-q", "-o", "Debug::NoLocking=true", "-o", "APT::Get::Show-User-Simulation-Note=false",
    "dist-upgrade",
]  # fmt: skip
_INSTALL = re.compile(r"^Inst (?P<name>\S+)(?: \[[^]]*\])? \((?P<version>\S+)(?P<origins>[^)]*)\)", re.MULTILINE)
_SECURITY = re.compile(r"-security\b|Debian-Security|UbuntuESM", re.IGNORECASE)
"""In the origins of a package: ``Debian-Security:12/stable-security``, ``Ubuntu:24.04/noble-security``."""
_STAMPS = ("var/lib/apt/periodic/update-success-stamp", "var/lib/apt/lists")
_MOST_TOLD = 8


class UpdatesProbe:
    """``root`` is the folder in which apt's lists are; ``path`` where apt-get is looked for."""

    def __init__(
        self,
        timeout_seconds: float,
        clock: Callable[[], datetime],
        root: Path = Path("/"),
        path: str | None = None,
    ) -> None:
        self._apt = Tool(_SIMULATE, timeout_seconds, hint="does `apt-get check` find something?", path=path)
        self._clock = clock
        self._root = root

    def measure(self) -> Measurement:
        """Return ``security`` and ``pending`` (counts), and ``age`` of the lists (seconds); a note names packages.

        Raises NoData where there is no apt.
        """
        text = self._apt.text()
        if "upgraded" not in text and not _INSTALL.search(text):
            raise ProbeError(f"simulating an upgrade: apt-get printed no summary: {text.strip()[:100]!r}")
        waiting = {match["name"]: bool(_SECURITY.search(match["origins"])) for match in _INSTALL.finditer(text)}
        security = [name for name, urgent in waiting.items() if urgent]
        readings = [Reading("security", len(security), "count"), Reading("pending", len(waiting), "count")]
        fetched = [path.stat().st_mtime for name in _STAMPS if (path := self._root / name).exists()]
        if fetched:
            readings.append(Reading("age", max(0.0, self._clock().timestamp() - max(fetched)), "seconds"))
        told = (security or list(waiting))[:_MOST_TOLD]
        return Measurement(readings, notes={"": ", ".join(told)} if told else {})
