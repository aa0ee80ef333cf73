"""Judged readings in words: one line for people, the value against its bound, in units that they read.

Pure text: it neither judges nor measures. ``subject`` is what the check is about (a path, an address, a program).
"""

from collections.abc import Mapping, Sequence

from config.units import format_duration, format_size
from monitor.judge import Breach, held_by
from monitor.result import Reading

_PHRASES: Mapping[tuple[str, str], str] = {
    ("cpu", "used"): "CPU is {value} busy",
    ("cpu", "iowait"): "CPU waits for disks {value} of the time",
    ("cpu", "steal"): "CPU is taken away by the hypervisor {value} of the time",
    ("load", "load5_per_core"): "load over 5 minutes is {value} per core",
    ("memory", "used"): "memory is {value} in use",
    ("swap", "used"): "swap is {value} in use",
    ("disk", "used"): "{subject} is {value} full",
    ("disk", "inodes_used"): "{subject} has used {value} of its inodes",
    ("disk_io", "busy"): "{subject} is {value} busy",
    ("network", "errors"): "{subject} loses {value} of its packets to errors",
    ("temperature", "celsius"): "{subject} is at {value}",
    ("temperature", "share_of_critical"): "{subject} is at {value} of its critical temperature",
    ("fans", "rpm"): "{subject} turns at {value}",
    ("uptime", "uptime"): "up for {value}",
    ("processes", "count"): "{value} processes",
    ("processes", "zombies"): "{value} zombie processes",
    ("processes", "uninterruptible"): "{value} processes stuck waiting for a device",
    ("file_descriptors", "used"): "{value} of all file handles are open",
    ("process", "count"): "{value} running: {subject}",
    ("process", "cpu"): "{subject} uses {value} cores",
    ("process", "memory_bytes"): "{subject} uses {value} of memory",
    ("process", "open_files"): "{subject} has {value} open files",
    ("process", "oldest"): "{subject} has been up for {value}",
    ("tcp", "connect_time"): "{subject} answered in {value}",
    ("http", "response_time"): "{subject} answered in {value}",
    ("http", "status_code"): "{subject} answered {value}",
    ("http", "certificate_expires_in"): "the certificate of {subject} expires in {value}",
}
"""Check type and reading -> words; a reading without an entry is called by its name."""

_BESIDE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "cpu": (("iowait", "{value} waiting for disks"), ("steal", "{value} stolen")),
    "memory": (("available_bytes", "{value} available"), ("total_bytes", " of {value}")),
    "swap": (("used_bytes", "{value} in swap"),),
    "disk": (("free_bytes", "{value} free"), ("total_bytes", " of {value}")),
    "disk_io": (("read_bytes_per_second", "reads {value}"), ("write_bytes_per_second", "writes {value}")),
    "network": (("receive_bytes_per_second", "receives {value}"), ("transmit_bytes_per_second", "sends {value}")),
    "load": (("load1", "1 minute {value}"), ("load15", "15 minutes {value}")),
    "processes": (("zombies", "{value} zombies"), ("uninterruptible", "{value} waiting for a device")),
    "process": (("cpu", "{value} cores"), ("memory_bytes", "{value} of memory")),
    "file_descriptors": (("open", "{value} open"),),
    "http": (("status_code", "status {value}"), ("certificate_expires_in", "certificate good for {value}")),
}
"""Check type -> readings told beside the one that matters."""


def describe(check_type: str, subject: str, readings: Sequence[Reading], breach: Breach | None) -> str:
    """Return one line: the reading that matters (the main one when all is well), its bound, what stands beside it."""
    if not readings:
        return f"{subject}: nothing measured" if subject else "nothing measured"
    about = breach.reading if breach else readings[0]
    phrase = _PHRASES.get((check_type, about.name), "{name} is {value}")
    line = phrase.format(subject=subject or check_type, value=format_value(about.value, about.unit), name=about.name)
    if breach:
        line += f", {_against_bound(breach)}"
    by_name = {reading.name: reading for reading in readings if reading.name != about.name}
    for name, words in _BESIDE.get(check_type, ()):
        if name in by_name and (by_name[name].value or name == "free_bytes"):
            line += "" if words.startswith(" ") else ", "
            line += words.format(value=format_value(by_name[name].value, by_name[name].unit))
    return line


def format_value(value: float, unit: str) -> str:
    """Write a number of a base unit (see :class:`Reading`) for people: ``91 %``, ``12.3 GiB``, ``2h 5m``, ``48 °C``."""
    if unit == "ratio":
        return f"{value * 100:.3g} %" if abs(value) < 0.995 else f"{value * 100:.0f} %"
    if unit == "bytes":
        return format_size(value)
    if unit == "bytes_per_second":
        return f"{format_size(value)}/s"
    if unit == "seconds":
        return format_duration(value)
    number = f"{value:.0f}" if value == int(value) else f"{value:.3g}"
    return number + {"celsius": " °C", "rpm": " rpm", "per_second": "/s"}.get(unit, "")


def one_line(text: str, limit: int = 500) -> str:
    """Return ``text`` without line breaks and control characters, cut to ``limit`` characters."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _against_bound(breach: Breach) -> str:
    if not breach.held:
        return f"{breach.status.label} at {breach.bound.raise_.written}"
    fine = held_by(breach.bound, breach.reading).opposite()
    return f"{breach.status.label} until {fine.op} {format_value(fine.bound, breach.reading.unit)}"
