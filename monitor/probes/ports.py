"""Ports that answer, against those that may: from the kernel's own tables, so that nothing is sent to anybody.

Formats: proc_net_tcp.rst of the kernel; addresses are hexadecimal words in the machine's byte order.
"""

import ipaddress
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.probes import procfs
from monitor.probes.system import PROC
from monitor.result import Measurement, ProbeError, Reading

_TABLES = (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"))
"""Table, and the state of a socket that waits for anybody: TCP_LISTEN, and for UDP an unconnected one (TCP_CLOSE)."""
_MOST_TOLD = 8


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """One socket that waits."""

    protocol: str
    port: int
    address: str
    inode: str


class ListeningPortsProbe:
    """``allowed``: '22/tcp', '8000-8100/tcp'. ``loopback``: whether what only this machine reaches counts."""

    def __init__(self, allowed: Sequence[str], *, loopback: bool = False, proc: Path = PROC) -> None:
        self._allowed = {(protocol, port) for text in allowed for protocol, ports in [_parsed(text)] for port in ports}
        self._loopback = loopback
        self._proc = proc

    def measure(self) -> Measurement:
        """Return ``unexpected`` and ``open``, counts of ports; a note names the unexpected ones."""
        listeners = sorted(self._listeners())
        open_ports = {(one.protocol, one.port) for one in listeners}
        unexpected = [one for one in listeners if (one.protocol, one.port) not in self._allowed]
        ports = {(one.protocol, one.port): one for one in reversed(unexpected)}
        owners = self._owners({one.inode for one in ports.values()}) if ports else {}
        told = [
            f"{port}/{protocol} on {one.address}" + (f" by {owners[one.inode]}" if one.inode in owners else "")
            for (protocol, port), one in sorted(ports.items())
        ]
        readings = [Reading("unexpected", len(ports), "count"), Reading("open", len(open_ports), "count")]
        return Measurement(readings, notes={"": ", ".join(told[:_MOST_TOLD])} if told else {})

    def _listeners(self) -> Iterator[Listener]:
        for table, state in _TABLES:
            path = self._proc / "net" / table
            try:
                lines = path.read_text(encoding="ascii", errors="replace").splitlines()[1:]
            except FileNotFoundError:
                continue  # a machine without version 6
            except OSError as error:
                raise ProbeError(f"reading {path}: {error.strerror}") from error
            for line in lines:
                fields = line.split()
                if len(fields) < 10 or fields[3] != state:
                    continue
                address, _, port = fields[1].partition(":")
                where = _address(address)
                if self._loopback or not where.is_loopback:
                    yield Listener(table[:3], int(port, 16), str(where), fields[9])

    def _owners(self, inodes: set[str]) -> dict[str, str]:
        """Return the programs behind sockets, as far as this user may know."""
        found: dict[str, str] = {}
        wanted = {f"socket:[{inode}]": inode for inode in inodes}
        for pid, line in procfs.stat_lines(self._proc):
            for target in wanted.keys() & _open_targets(f"{os.fspath(self._proc)}/{pid}/fd"):
                found[wanted[target]] = procfs.name_of(line).decode("utf-8", "replace")
        return found


def _open_targets(folder: str) -> set[str]:
    """Return what a process has open; nothing where this user may not look, and without what it closes meanwhile."""
    targets = set()
    with suppress(OSError):
        for number in os.listdir(folder):
            with suppress(FileNotFoundError):
                targets.add(os.readlink(f"{folder}/{number}"))
    return targets


def _parsed(text: str) -> tuple[str, range]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?/(tcp|udp)", text)
    if match is None:
        raise ValueError(f"{text} is no port")
    return match[3], range(int(match[1]), int(match[2] or match[1]) + 1)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return ipaddress.IPv4Address(packed) if len(packed) == 4 else ipaddress.IPv6Address(packed)
