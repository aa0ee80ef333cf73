"""/metrics: the view as Prometheus series, rendered once per view and then served from memory.

A scrape never waits for a probe, a lock of somebody else's or the disk. Each collector is guarded: one that raises
costs its own families, not the page, and says so in ``keepwatch_collector_success``. What is exported stands in
``metric_families``; about this process itself prometheus_client's own collectors are asked.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector as Theirs

from keepwatch.metric_families import COLLECTORS, Build
from keepwatch.view import View
from monitor.collecting import Collectors
from monitor.exposition import family, label_text


class MetricsPage:
    """The bytes of /metrics for whatever view is the latest. Safe to call from any thread."""

    def __init__(self, view: Callable[[], View], collectors: Sequence[tuple[str, Build]] = COLLECTORS) -> None:
        """``view`` returns the latest view at once; ``collectors`` makes the families from it."""
        self._latest = view
        self._rendering = threading.Lock()
        self._shown: View | None = None
        self._bytes = b""
        own = [(name, partial(self._of_view, build)) for name, build in collectors]
        self._collectors = Collectors("keepwatch", [*own, *_about_this_process()])

    def render(self) -> bytes:
        """Return the page in text format 0.0.4, rendered anew only when the view is another one than last time."""
        with self._rendering:
            view = self._latest()
            if view is not self._shown:
                self._shown = view
                self._bytes = self._collectors.render().encode()
            return self._bytes

    def _of_view(self, build: Build) -> Iterator[str]:
        assert self._shown is not None
        yield from build(self._shown)


def _about_this_process() -> list[tuple[str, Callable[[], Iterator[str]]]]:
    """prometheus_client's collectors about this process, kept off its global registry's page."""
    own = CollectorRegistry()
    return [
        ("process", partial(_as_text, ProcessCollector(registry=own))),
        ("platform", partial(_as_text, PlatformCollector(registry=own))),
        ("gc", partial(_as_text, GCCollector(registry=own))),
    ]


def _as_text(theirs: Theirs) -> Iterator[str]:
    for metric in theirs.collect():
        kind, suffix = ("counter", "_total") if metric.type == "counter" else ("gauge", "")
        yield family(
            metric.name + suffix, kind, metric.documentation,  # type: ignore[arg-type]
            [(label_text(tuple(s.labels), tuple(s.labels.values())), s.value) for s in metric.samples],
        )  # fmt: skip
