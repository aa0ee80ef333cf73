"""/metrics: the view as Prometheus series, rendered once per view and then served from memory.

A scrape never waits for a probe, a lock of somebody else's or the disk. Each collector is guarded: one that raises
costs its own families, not the page, and says so in ``keepwatch_collector_success``. What is exported stands in
``metric_families``.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from keepwatch.metric_families import COLLECTORS, Build, gauge
from keepwatch.view import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, in the version that every scraper reads."""

_log = logging.getLogger(__name__)


class MetricsPage:
    """The bytes of /metrics for whatever view is the latest. Owns its registry; safe to call from any thread."""

    def __init__(self, view: Callable[[], View], collectors: Sequence[tuple[str, Build]] = COLLECTORS) -> None:
        """``view`` returns the latest view at once; ``collectors`` makes the families from it."""
        self._latest = view
        self._rendering = threading.Lock()
        self._shown: View | None = None
        self._bytes = b""
        self.registry = CollectorRegistry()
        guards = [_Guarded(name, self._of_view(build)) for name, build in collectors]
        guards += [_Guarded(name, theirs.collect) for name, theirs in _self_collectors()]
        for guard in guards:
            self.registry.register(guard)
        self.registry.register(_Outcomes(guards))

    def render(self) -> bytes:
        """Return the page in text format 0.0.4, rendered anew only when the view is another one than last time."""
        with self._rendering:
            view = self._latest()
            if view is not self._shown:
                self._shown = view
                self._bytes = generate_latest(self.registry)
            return self._bytes

    def _of_view(self, build: Build) -> Callable[[], Iterable[Metric]]:
        return lambda: build(self._shown if self._shown is not None else self._latest())


class _Guarded(Collector):
    """Runs one collector to its end, so that a failure half-way leaves no half family behind."""

    def __init__(self, name: str, build: Callable[[], Iterable[Metric]]) -> None:
        self.name = name
        self.succeeded = True
        self.took_seconds = 0.0
        self._build = build

    def collect(self) -> Iterator[Metric]:
        """Yield the families, or none when building them failed; the first failure in a row is logged."""
        started = time.perf_counter()
        families: list[Metric] = []
        try:
            families = list(self._build())
        except Exception:  # noqa: BLE001 - one collector must not cost the page; the failure is exported and logged
            if self.succeeded:
                _log.exception("metrics collector failed", extra={"collector": self.name})
            self.succeeded = False
        else:
            self.succeeded = True
        self.took_seconds = time.perf_counter() - started
        yield from families

    def describe(self) -> Iterable[Metric]:
        """Names are known only once there is a view; nothing else is registered that they could clash with."""
        return ()


class _Outcomes(Collector):
    """How the guarded collectors fared. Registered last: collectors run in the order of registration."""

    def __init__(self, guards: Sequence[_Guarded]) -> None:
        self._guards = guards

    def collect(self) -> Iterator[Metric]:
        """Yield success and duration of every collector of this very rendering."""
        success = [((guard.name,), float(guard.succeeded)) for guard in self._guards]
        duration = [((guard.name,), guard.took_seconds) for guard in self._guards]
        label = ("collector",)
        yield gauge("keepwatch_collector_success", "Whether this part of the page could be built.", label, success)
        yield gauge("keepwatch_collector_duration_seconds", "Time to build this part of the page.", label, duration)

    def describe(self) -> Iterable[Metric]:
        """See :meth:`_Guarded.describe`."""
        return ()


def _self_collectors() -> list[tuple[str, Collector]]:
    """prometheus_client's own collectors about this process, kept off its global registry's page."""
    own = CollectorRegistry()
    return [
        ("process", ProcessCollector(registry=own)),
        ("platform", PlatformCollector(registry=own)),
        ("gc", GCCollector(registry=own)),
    ]
