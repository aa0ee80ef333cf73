"""What the collectors of host metrics share: where the machine's files are, and how they are read and written.

A scrape reads some forty small files; ``pathlib`` and buffered files would cost more than the kernel does.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from monitor.exposition import Kind, Sample, family, label_text

_PIECE_BYTES = 65_536
_ATTRIBUTE_BYTES = 4096
"""An attribute of sysfs is a page at most, and one read gives it all."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this machine tells about itself; tests give captured copies."""

    proc: str = "/proc"
    sys: str = "/sys"


def read(path: str) -> str:
    """Return a whole small file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, _PIECE_BYTES):
            pieces.append(piece)
    finally:
        os.close(descriptor)
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def read_or(path: str, otherwise: str = "") -> str:
    """Return an attribute of sysfs without white space around it, or ``otherwise`` where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return otherwise
    try:
        return os.read(descriptor, _ATTRIBUTE_BYTES).decode("utf-8", "surrogateescape").strip()
    except OSError:
        return otherwise
    finally:
        os.close(descriptor)


def names_in(path: str) -> list[str]:
    """Return what a folder holds, sorted; nothing where there is no such folder."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def one(name: str, kind: Kind, documentation: str, value: float) -> str:
    """Write a family of a single sample without labels."""
    return family(name, kind, documentation, [("", value)])


def by_label(label: str, values: Iterable[tuple[str, float]]) -> Iterator[Sample]:
    """Give each value its label."""
    names = (label,)
    return ((label_text(names, (value,)), number) for value, number in values)
