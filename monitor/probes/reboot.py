"""Whether a restart is due: an update asked for it, or a newer kernel than the one that runs is installed."""

import os
import re
from pathlib import Path

from config.said import Said, listed
from monitor.node.reading import names_in, read_or
from monitor.result import Measurement, Reading

_ASKED = ("run/reboot-required", "var/run/reboot-required")
"""Written by update-notifier-common and unattended-upgrades on Debian and Ubuntu."""
_IMAGE = re.compile(r"vmlinu[xz]-(.+)")
_MOST_TOLD = 5


class RebootProbe:
    """``root`` is the folder in which /boot and /run are; ``running`` the release of the kernel that runs."""

    def __init__(self, root: Path = Path("/"), running: str | None = None) -> None:
        self._root = root
        self._running = running or os.uname().release

    def measure(self) -> Measurement:
        """Return ``required``; a note says why."""
        reasons: list[str] = []
        asked = [path for path in _ASKED if (self._root / path).exists()]
        if asked:
            packages = read_or(f"{self._root / asked[0]}.pkgs").split()
            told = ", ".join(dict.fromkeys(packages[:_MOST_TOLD]))
            plain = Said("an update asked for it")
            reasons.append(Said("an update asked for it (%(packages)s)", packages=told) if told else plain)
        newest = self._newest_kernel()
        if newest:
            kernels = {"newest": newest, "running": self._running}
            reasons.append(Said("kernel %(newest)s is installed, %(running)s runs", **kernels))
        return Measurement(
            [Reading("required", int(bool(reasons)), "count")], notes={"": listed(reasons)} if reasons else {}
        )

    def _newest_kernel(self) -> str | None:
        """Return the newest installed kernel of the flavour that runs, where it is newer than that one.

        Only where the running one is installed, too: in a container /boot says nothing of the kernel.
        """
        installed = [match[1] for name in names_in(f"{self._root}/boot") if (match := _IMAGE.fullmatch(name))]
        flavour = _flavour(self._running)
        rivals = [release for release in installed if _flavour(release) == flavour]
        if self._running not in installed:
            modules = set(names_in(f"{self._root}/lib/modules"))
            rivals = [release for release in rivals if self._running in modules]
        newest = max(rivals, key=_version, default=self._running)
        return newest if _version(newest) > _version(self._running) else None


def _flavour(release: str) -> str:
    """Return what stands behind the last number: ``amd64``, ``generic``, ``rt-amd64``."""
    match = re.search(r"[-.+]([A-Za-z][\w.-]*)$", release)
    return match[1] if match else ""


def _version(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release.removesuffix(_flavour(release)))))
