"""Asks the system how much of a file it has in its cache. Reading, even with RWF_NOWAIT, would change the answer."""

import ctypes
import mmap
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


def cached_pages(path: Path) -> int:
    """Count the pages of a file that are in the page cache (mincore(2))."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE) as mapped:
        answer = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
        memory = (ctypes.c_char * size).from_buffer(mapped)
        try:
            done = _LIBC.mincore(ctypes.c_void_p(ctypes.addressof(memory)), ctypes.c_size_t(size), answer)
        finally:
            del memory
    if done:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in answer)


def drop(path: Path) -> None:
    """Take a file out of the cache, as far as its file system keeps it anywhere else."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
