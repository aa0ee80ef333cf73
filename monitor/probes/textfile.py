"""A folder of ``*.prom`` files in the text format, as node_exporter's textfile collector reads them.

One file at a time, capped; one that cannot be understood says so and leaves the others alone. Judged by one metric.
"""

import glob
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.said import Said
from config.units import format_duration
from monitor.result import Finding, Measurement, NoData, ProbeError, Reading, Status

MOST_BYTES = 4 << 20
_MOST_SERIES = 500


class TextfileProbe:
    """Reads the files in ``directory``; ``metric`` is the one whose series become readings."""

    def __init__(
        self, directory: Path, metric: str | None, stale_after: timedelta | None, clock: Callable[[], datetime]
    ) -> None:
        self._directory = directory
        self._metric = metric
        self._stale_after = stale_after
        self._clock = clock

    def measure(self) -> Measurement:
        """Return ``value`` of each series of the metric; CRITICAL, an entity a file, for one that is stale or bad.

        Raises NoData without the folder, ProbeError when no file has the metric.
        """
        if not self._directory.is_dir():
            raise NoData(f"there is no folder {self._directory}")
        readings: list[Reading] = []
        findings: dict[str, Finding] = {}
        files = sorted(glob.glob(f"{glob.escape(str(self._directory))}/*.prom"))
        for path in files:
            try:
                fault = self._staleness(path)
                readings += self._series(path)
            except (OSError, ValueError) as error:
                fault = Said("cannot be understood: %(why)s", why=str(getattr(error, "strerror", None) or error))
            if fault:
                message = Said("%(path)s %(fault)s", path=path, fault=fault)
                findings[os.path.basename(path)] = Finding(Status.CRITICAL, message)
        if self._metric and not readings and not findings:
            raise ProbeError(f"looking for {self._metric} in {self._directory}: no file has it")
        if not self._metric and not findings:
            message = Said(
                "files in %(folder)s that are well: %(count)s", folder=str(self._directory), count=len(files)
            )
            return Measurement([], Finding(Status.OK, message))
        return Measurement(readings[:_MOST_SERIES], findings=findings)

    def _staleness(self, path: str) -> str | None:
        if self._stale_after is None:
            return None
        age = self._clock() - datetime.fromtimestamp(os.stat(path).st_mtime, UTC)
        return Said("was not written for %(time)s", time=format_duration(age)) if age > self._stale_after else None

    def _series(self, path: str) -> Iterator[Reading]:
        for name, labels, value in samples(Path(path)):
            if name == self._metric:
                entity = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
                yield Reading("value", value, "number", entity)


def samples(path: Path) -> list[tuple[str, dict[str, str], float]]:
    """Return name, labels and value of every sample of a file. Raises OSError, ValueError when it is no text format.

    Checked whole before anything of it counts.
    """
    from prometheus_client.parser import text_string_to_metric_families  # two megabytes, for those who have such files

    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    families = text_string_to_metric_families(content.decode("utf-8"))
    return [(sample.name, sample.labels, float(sample.value)) for family in families for sample in family.samples]
