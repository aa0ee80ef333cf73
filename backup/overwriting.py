"""What a restore does to a file that is in its target already: four rules, in restic's words, and the judgement.

The rules are those of ``restic restore --overwrite`` since 0.17. This module decides and compares; it writes nothing.
"""

import hashlib
import os
import stat
from enum import Enum, StrEnum, auto
from typing import Final

from backup.tree import Node

_READ_BYTES: Final = 1 << 20


class Overwrite(StrEnum):
    """When a file that exists is written."""

    ALWAYS = "always"
    """Where its content differs, found by reading it; metadata in any case."""
    IF_CHANGED = "if-changed"
    """As always, but a file of the same size and modification time is taken for unchanged without reading it."""
    IF_NEWER = "if-newer"
    """Only when the snapshot's has the later modification time."""
    NEVER = "never"
    """What exists stays as it is."""


class Verdict(Enum):
    """What is to be done with one leaf."""

    CREATE = auto()
    """Made anew, in place of whatever has its name."""
    COMPARE = auto()
    """Read, and written where it differs."""
    TRUST = auto()
    """Its content is right; only metadata are set."""
    LEAVE = auto()
    """Not touched."""


def judge(rule: Overwrite, node: Node, status: os.stat_result | None) -> Verdict:
    """Decide by what is there, which was not looked at through a link; None when nothing is.

    A file with a second name is never written into, since that name may be outside the target: it is made anew, or
    left as it is when it looks the same in everything.
    """
    if status is None:
        return Verdict.CREATE
    if rule is Overwrite.NEVER or (rule is Overwrite.IF_NEWER and node.mtime_ns <= status.st_mtime_ns):
        return Verdict.LEAVE
    if node.type != "file" or not stat.S_ISREG(status.st_mode):
        return Verdict.CREATE
    same = rule is Overwrite.IF_CHANGED and (status.st_size, status.st_mtime_ns) == (node.size, node.mtime_ns)
    if status.st_nlink == 1:
        return Verdict.TRUST if same else Verdict.COMPARE
    metadata = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return Verdict.LEAVE if same and metadata == (node.permissions, node.uid, node.gid) else Verdict.CREATE


def matches_blob(descriptor: int, offset: int, length: int, name: bytes) -> bool:
    """Whether an open file has this blob at this offset. Raises OSError."""
    hashed = hashlib.sha256()
    while length and (part := os.pread(descriptor, min(length, _READ_BYTES), offset)):
        hashed.update(part)
        length, offset = length - len(part), offset + len(part)
    return not length and hashed.digest() == name
