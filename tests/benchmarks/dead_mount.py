"""A file system that does not answer: a FUSE mount whose server holds the line and never speaks.

The kernel's side of it is real: every question to the mount waits as it would for a dead NFS server, but can be killed,
so that the benchmark can clean up. mount(2) by ``ctypes`` keeps a FUSE library out of it. Needs root and /dev/fuse.
"""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2


@contextmanager
def dead_mount(wanted: bool = True) -> Iterator[Path]:
    """Yield the place of the mount; the mount goes away at the end. Raises OSError where it cannot be made."""
    with tempfile.TemporaryDirectory(prefix="keepwatch-dead-mount.") as name:
        if not wanted:
            yield Path(name)
            return
        libc = ctypes.CDLL(None, use_errno=True)
        line = os.open("/dev/fuse", os.O_RDWR)
        try:
            options = f"fd={line},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
            if libc.mount(b"dead", name.encode(), b"fuse", 0, options):
                code = ctypes.get_errno()
                raise OSError(code, f"mounting a FUSE file system: {os.strerror(code)}")
            try:
                yield Path(name)
            finally:
                libc.umount2(name.encode(), _MNT_DETACH)
        finally:
            os.close(line)  # whoever still waits for an answer gets an error now
