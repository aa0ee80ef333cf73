"""How the readings of each check type are told: the sentence of the one that matters, and what stands beside it."""

from collections.abc import Mapping

PHRASES: Mapping[tuple[str, str], str] = {
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

BESIDE: Mapping[str, tuple[tuple[str, str], ...]] = {
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
