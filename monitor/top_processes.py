"""Who is using it: the processes that take most of a resource at the moment an alert fires.

By the time a person looks, the culprit is often gone. Reads /proc through psutil, takes about a tenth of a second for
processor use (two looks are needed), and returns what it could see: processes of others may hide their numbers.
"""

import time
from collections.abc import Callable, Sequence
from typing import Literal

import psutil

from config.units import format_size
from monitor.wording import one_line

Resource = Literal["cpu", "memory", "io"]

RESOURCE_OF_CHECK: dict[str, Resource] = {
    "cpu": "cpu",
    "load": "cpu",
    "memory": "memory",
    "swap": "memory",
    "disk_io": "io",
    "pressure": "memory",
    "oom_kills": "memory",
}
"""Check type -> what to look for. Other types have no culprit among processes."""

_LOOK_SECONDS = 0.1


def top_processes(resource: Resource, count: int = 5, pause: Callable[[float], None] = time.sleep) -> Sequence[str]:
    """Return up to ``count`` lines such as ``postgres (4711): 93 % of a core``, biggest first."""
    if resource == "memory":
        seen = [p for p in psutil.process_iter(["memory_info", "name"]) if p.info["memory_info"]]
        held = [(float(process.info["memory_info"].rss), process) for process in seen]
        return [_line(process, format_size(value)) for value, process in _largest(held, count)]
    read = _cpu_seconds if resource == "cpu" else _io_bytes
    before = {process.pid: value for process in psutil.process_iter(["name"]) if (value := read(process)) is not None}
    began = time.monotonic()
    pause(_LOOK_SECONDS)
    rates = []
    for process in psutil.process_iter(["name"]):
        value = read(process)
        if value is not None and process.pid in before:
            rates.append(((value - before[process.pid]) / (time.monotonic() - began), process))
    return [
        _line(process, f"{rate:.0%} of a core" if resource == "cpu" else f"{format_size(rate)}/s")
        for rate, process in _largest(rates, count)
        if rate > 0
    ]


def _cpu_seconds(process: psutil.Process) -> float | None:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _io_bytes(process: psutil.Process) -> float | None:
    try:
        counters = process.io_counters()
    except (psutil.Error, AttributeError):
        return None
    return float(counters.read_bytes + counters.write_bytes)


def _largest(rows: list[tuple[float, psutil.Process]], count: int) -> list[tuple[float, psutil.Process]]:
    return sorted(rows, key=lambda row: row[0], reverse=True)[:count]


def _line(process: psutil.Process, value: str) -> str:
    return f"{one_line(process.info['name'] or 'unnamed')} ({process.pid}): {value}"
