"""Writes of large files that go around the system's page cache.

What a backup writes, this machine will not read again soon; taking pages for it pushes out what the services of the
machine have there, and costs more processor time than compressing (a fifth of a first backup, more where the memory
has to be taken from a hypervisor first). Where a file system does not know ``O_DIRECT``, or the memory does not lie as
the device wants it, the cache is used as ever; nobody sees a difference but in time.
"""

import errno
import fcntl
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Final

ALIGNMENT: Final = 4096
"""Of offsets, lengths and memory: no device that Linux knows wants more for a file."""
WORTH_BYTES: Final = 1 << 20
"""Below this, waiting for the device costs more than the copy."""
_GATHERED_BYTES: Final = 4 << 20
_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_DIRECT: Final = getattr(os, "O_DIRECT", 0)
_NOT_HERE: Final = {errno.EINVAL, errno.ENOTSUP}


def aligned_memory(size: int, *, filled: int) -> memoryview:
    """Give fresh memory that lies as `write_around` wants it; it counts only once it is written.

    What will surely be ``filled`` of it comes in huge pages, where the system has them: taking it page by page was a
    twentieth of a first backup.
    """
    made = mmap.mmap(-1, size, flags=_PRIVATE)
    with suppress(OSError, ValueError, AttributeError):
        made.madvise(mmap.MADV_HUGEPAGE, 0, min(filled, size))
    return memoryview(made)


def write_around(descriptor: int, content: memoryview, offset: int) -> int:
    """Write what of ``content`` can go around the cache, from its beginning; gives how many bytes, perhaps 0.

    ``offset`` is a multiple of `ALIGNMENT`, and ``content`` lies at one, as an ``mmap`` does. The rest, and all of it
    where this cannot be done, is for the caller to write. Raises OSError.
    """
    aligned = len(content) - len(content) % ALIGNMENT
    if not _DIRECT or aligned < WORTH_BYTES:
        return 0
    written = 0
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | _DIRECT)
        while written < aligned:
            written += os.pwrite(descriptor, content[written:aligned], offset + written)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return written


def write_through(descriptor: int, content: memoryview, offset: int) -> None:
    """Write all of ``content`` by way of the cache. Raises OSError."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


class Gathering:
    """Memory in which what is written to a file piece by piece is gathered, for one file at a time.

    Pieces that follow one another in the file go out together in whole pages, around the cache where that can be done
    and unless the file is ``read_next``, from a thread of its own while more is gathered. What fails there is raised by
    a later call.
    """

    def __init__(self, *, read_next: bool = False) -> None:
        self._write_out = write_through if read_next else _write_out
        self._memory, self._spare = (aligned_memory(_GATHERED_BYTES, filled=_GATHERED_BYTES) for _ in range(2))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future[None] | None = None
        self.begin(-1)

    def begin(self, descriptor: int) -> None:
        """Forget what was not flushed, and write to another file from now on."""
        if self._writing is not None:
            wait([self._writing])  # whatever became of it
            self._writing = None
        self._descriptor = descriptor
        self._page = self._from = self._to = 0
        """Where in the file the memory begins, a whole page; from where to where it is filled."""

    def write(self, content: memoryview, offset: int) -> None:
        """Take a piece. Raises OSError, also for what was taken before."""
        if offset != self._page + self._to:
            self._hand_over()
            self._page = offset - offset % ALIGNMENT
            self._from = self._to = offset - self._page
        while content:
            taken = content[: len(self._memory) - self._to]
            self._memory[self._to : self._to + len(taken)] = taken
            self._to += len(taken)
            content = content[len(taken) :]
            if self._to == len(self._memory):
                self._hand_over()

    def flush(self) -> None:
        """Write what is there, and wait until it is written. Raises OSError."""
        self._hand_over()
        self._settle()

    def close(self) -> None:
        """End the thread."""
        self._writer.shutdown()

    def _hand_over(self) -> None:
        if self._from == self._to:
            return
        self._settle()
        filled = self._memory[self._from : self._to]
        self._writing = self._writer.submit(self._write_out, self._descriptor, filled, self._page + self._from)
        self._memory, self._spare = self._spare, self._memory
        end = self._page + self._to
        self._from = self._to = end % ALIGNMENT
        self._page = end - self._to

    def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _write_out(descriptor: int, content: memoryview, offset: int) -> None:
    if shared := -offset % ALIGNMENT:  # with what lies before, on one page
        write_through(descriptor, content[:shared], offset)
        content, offset = content[shared:], offset + shared
    written = write_around(descriptor, content, offset)
    write_through(descriptor, content[written:], offset + written)
