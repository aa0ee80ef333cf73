"""Has the small files of the next job come from the disk while a process works on the one before.

A process reads one file after the other, and a file that is in no cache costs it a disk's whole answer time: ten times
what it costs to save it. Whether files come from a disk is seen by the blocks that this process has read; where all is
in memory already, nothing is done, since asking costs a tenth of the saving. Wrong guesses cost time and nothing else.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from resource import RUSAGE_SELF, getrusage
from typing import Final

from backup.portions import Portion, open_to_read
from backup.sources.files import open_path

_AHEAD_BYTES: Final = 1 << 20
"""Of one file; further on, the system notices that it is read in order."""
_COLD_BLOCKS: Final = 64
"""Blocks of 512 bytes read from a disk during one job, from which the next files are taken to be there, too."""


class Warming:
    """Looks back at each job, and looks ahead at the next. One for each process."""

    def __init__(self, *, trusts_parent: bool) -> None:
        self._trusts_parent = trusts_parent
        self._blocks = _blocks_read()
        self._cold = False

    def looked_back(self) -> None:
        """Note whether the job that has ended read from a disk."""
        blocks = _blocks_read()
        self._cold, self._blocks = blocks - self._blocks >= _COLD_BLOCKS, blocks

    def expect(self, portions: Sequence[Portion]) -> None:
        """Let the system begin to read files that will be read; in another thread than the work. Raises nothing."""
        for portion in portions if self._cold else ():
            if self._trusts_parent and portion.old_tree is not None:
                continue  # most of them will not be read
            with suppress(OSError):
                folder = open_path(portion.path, os.O_PATH | os.O_DIRECTORY)
                try:
                    for name in portion.names:
                        _begin(name, folder)
                finally:
                    os.close(folder)


def _begin(name: str, folder: int) -> None:
    with suppress(OSError):
        descriptor = open_to_read(name, folder)
        try:
            os.posix_fadvise(descriptor, 0, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _blocks_read() -> int:
    return getrusage(RUSAGE_SELF).ru_inblock
