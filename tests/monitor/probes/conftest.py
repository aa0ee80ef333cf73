"""Edges for probes: time that passes when told, and a /proc that holds what is written into it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from monitor.probes.sampling import Timing
from monitor.result import Measurement


@dataclass
class FakeTime:
    """A monotonic clock that moves when a probe pauses or a test says so."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)
    while_pausing: Callable[[], None] = lambda: None

    @property
    def timing(self) -> Timing:
        return Timing(lambda: self.now, self.pause)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.while_pausing()


@dataclass
class FakeProc:
    """A folder shaped like /proc."""

    path: Path

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def process(
        self, pid: int, name: str, *, state: str = "S", arguments: str = "", cpu_ticks: int = 0, pages: int = 100,
        started_ticks: int = 0, files: int = 0,
    ) -> None:  # fmt: skip
        """A process; the ``stat`` line is one of Linux 6.1 with the given fields put in."""
        numbers = f"1 {pid} {pid} 0 -1 4194560 1200 0 3 0 {cpu_ticks} 0 0 0 20 0 1 0 {started_ticks} 3133440 {pages}"
        rest = "18446744073709551615 1 1 0 0 0 0 0 16781312 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0"
        self.write(f"{pid}/stat", f"{pid} ({name}) {state} {numbers} {rest}\n")
        self.write(f"{pid}/cmdline", "".join(f"{word}\0" for word in arguments.split()))
        (self.path / str(pid) / "fd").mkdir(exist_ok=True)
        for number in range(files):
            self.write(f"{pid}/fd/{number}", "")


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def psutil_proc(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    """The same, where psutil looks."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc.path))
    return proc


@pytest.fixture
def values() -> Callable[[Measurement], dict[str, float]]:
    """Readings as a dictionary: ``name``, or ``entity/name`` where there are entities."""

    def by_name(measurement: Measurement) -> dict[str, float]:
        return {
            f"{reading.entity}/{reading.name}" if reading.entity else reading.name: reading.value
            for reading in measurement.readings
        }

    return by_name
