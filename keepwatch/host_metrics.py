"""Whether this daemon shows the host's metrics at /metrics/node: by settings, or because nobody else here does.

Beside a real node_exporter the same series from two places would be summed up by dashboards, so ``auto`` stands back
where something listens on its port. Knows nothing of what is shown.
"""

import socket
import threading
import time
from collections.abc import Callable

from config.exporting import MetricsSettings

NODE_EXPORTER = ("127.0.0.1", 9100)
_LOOK_AGAIN_SECONDS = 60.0
_CONNECT_SECONDS = 0.25


class HostMetricsOff(Exception):  # noqa: N818 - no error: somebody decided so
    """They are not shown; the text says why and how they would be."""


class HostMetrics:
    """Renders what ``page`` makes, unless it is off. Safe to call from any thread."""

    def __init__(
        self,
        settings: MetricsSettings,
        page: Callable[[], bytes],
        node_exporter: tuple[str, int] = NODE_EXPORTER,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = settings.node
        self._page = page
        self._node_exporter = node_exporter
        self._monotonic = monotonic
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._has_node_exporter = False

    def render(self) -> bytes:
        """Return the page. Raises HostMetricsOff."""
        if self._mode == "off":
            raise HostMetricsOff('host metrics are switched off; [metrics] node = "on" switches them on')
        if self._mode == "auto" and self._beside_node_exporter():
            raise HostMetricsOff(
                f"something listens on port {self._node_exporter[1]}, so a node_exporter exports this host already;"
                ' [metrics] node = "on" exports it here, too'
            )
        return self._page()

    def _beside_node_exporter(self) -> bool:
        with self._looking:
            if self._monotonic() - self._looked_at > _LOOK_AGAIN_SECONDS:
                try:
                    socket.create_connection(self._node_exporter, _CONNECT_SECONDS).close()
                except OSError:
                    self._has_node_exporter = False
                else:
                    self._has_node_exporter = True
                self._looked_at = self._monotonic()
            return self._has_node_exporter
