"""The folder that a restore writes into, and how an entry of it gets its content and metadata.

Nothing is ever written or removed outside it, whatever a tree says: folders are opened one component at a time from the
target's own descriptor without following a link, what has a second name elsewhere is replaced and never written into,
and names that are no plain names were refused before.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backup.around_cache import write_through
from backup.sources.files import describe
from backup.tree import Node, as_text

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
HOLE = bytes(64 << 10)
"""Runs of zeros of at least this size, at multiples of it, become holes."""
_ROOT_ONLY = ("security.", "trusted.", "system.")
"""Extended attributes that only root may set; for anybody else their loss is a matter of course."""
_MACHINE_POLICY = ("security.selinux", "security.apparmor", "security.ima", "security.evm")
"""Attributes that belong to this machine and not to the file."""


class Target:
    """The folder that everything is written below."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Let go of it."""
        self._forget()
        os.close(self._root)

    @contextmanager
    def folder(self, path: bytes) -> Iterator[int]:
        """Lend the descriptor of a folder below; it is kept for the next call. Raises OSError, also at any link."""
        if self._last is None or self._last[0] != path:
            self._forget()
            self._last = (path, self._open(path))
        yield self._last[1]

    def status(self, folder: bytes, name: bytes) -> os.stat_result | None:
        """Look at an entry, not through a link; None when there is none. Raises OSError."""
        try:
            with self.folder(folder) as descriptor:
                return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self, folder: bytes) -> list[bytes]:
        """List a folder. Raises OSError."""
        with self.folder(folder) as descriptor:
            return [os.fsencode(name) for name in os.listdir(descriptor)]

    def make_folder(self, path: bytes) -> bool:
        """Make a folder whose parent is there; False when it exists. Anything else of that name is an OSError."""
        above, name = os.path.split(path)
        with self.folder(above) as descriptor:
            try:
                os.mkdir(name, 0o700, dir_fd=descriptor)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    raise
                return False
        return True

    def create(self, folder: bytes, name: bytes) -> int:
        """Make an empty file in place of whatever but a folder has the name. Raises OSError."""
        with self.folder(folder) as descriptor:
            try:
                return os.open(name, _NEW, 0o600, dir_fd=descriptor)
            except FileExistsError:
                os.unlink(name, dir_fd=descriptor)
                return os.open(name, _NEW, 0o600, dir_fd=descriptor)

    def reopen(self, path: bytes, *, to_read: bool = False) -> int:
        """Open a file that :meth:`create` made, or :meth:`open_there` found good, to be written. Raises OSError."""
        folder, name = os.path.split(path)
        with self.folder(folder) as descriptor:
            return os.open(name, _THERE | (os.O_RDWR if to_read else os.O_WRONLY), dir_fd=descriptor)

    def open_there(self, folder: bytes, name: bytes, *, to_write: bool) -> int:
        """Open a file as it is, to be read and, with ``to_write``, written in place. Raises OSError.

        A file that has a second name is refused: that name may be outside the target.
        """
        with self.folder(folder) as above:
            descriptor = os.open(name, _THERE | (os.O_RDWR if to_write else os.O_RDONLY), dir_fd=above)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(descriptor)
            raise OSError(errno.EMLINK, "it has a second name")
        return descriptor

    def remove_tree(self, path: bytes) -> None:
        """Remove whatever has a name, with all below. Raises OSError, also at a file system that is mounted there."""
        self._forget()
        folder, name = os.path.split(path)
        with self.folder(folder) as descriptor:
            _remove(descriptor, name, os.fstat(descriptor).st_dev)

    def remove(self, folder: bytes, name: bytes) -> None:
        """Remove a file that came out wrong."""
        with suppress(OSError), self.folder(folder) as descriptor:
            os.unlink(name, dir_fd=descriptor)

    def link(self, first: bytes, other: bytes) -> None:
        """Make ``other`` a hard link to ``first``. Raises OSError."""
        above, name = os.path.split(first)
        descriptor = self._open(above)
        try:
            folder, other_name = os.path.split(other)
            with self.folder(folder) as beside:
                with suppress(FileNotFoundError):
                    there = os.stat(other_name, dir_fd=beside, follow_symlinks=False)
                    if os.path.samestat(there, os.stat(name, dir_fd=descriptor, follow_symlinks=False)):
                        return
                    os.unlink(other_name, dir_fd=beside)
                os.link(name, other_name, src_dir_fd=descriptor, dst_dir_fd=beside, follow_symlinks=False)
        finally:
            os.close(descriptor)

    def finish_folder(self, path: bytes, node: Node) -> str:
        """Give a folder its metadata; returns what could not be set. Raises OSError."""
        with self.folder(path) as descriptor:
            problem = apply_metadata(descriptor, node)
        self._forget()
        return problem

    def _open(self, path: bytes) -> int:
        descriptor = os.dup(self._root)
        for part in path.split(b"/") if path else ():
            above = descriptor
            try:
                descriptor = os.open(part, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
        return descriptor

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None


def write_at(descriptor: int, content: bytes, offset: int, *, sparse: bool) -> None:
    """Write all of ``content``; where it is zeros for long enough, leave a hole. Raises OSError."""
    for start, part in parts(content, sparse=sparse):
        write_through(descriptor, part, offset + start)


def parts(content: bytes, *, sparse: bool) -> Iterator[tuple[int, memoryview]]:
    """Give what is to be written of ``content``, and where in it: with ``sparse`` not what is zeros for long enough."""
    view, start = memoryview(content), 0
    if len(content) < len(HOLE):  # as most files are
        sparse = False
    for position in range(0, len(content), len(HOLE)) if sparse else ():
        # looking at one byte first is what makes this cheap for content that is none
        if not content[position] and content[position : position + len(HOLE)] == HOLE:
            yield start, view[start:position]
            start = position + len(HOLE)
    yield start, view[start:]


def apply_metadata(where: int | str, node: Node) -> str:
    """Set owner, attributes, mode and times of an open file or of a path; returns what could not be set.

    Order matters: a change of owner clears setuid and capabilities, a mode can take the right to set attributes away,
    and the times come last. Raises OSError.
    """
    failed = []
    if os.geteuid() == 0:
        os.chown(where, node.uid, node.gid)
    else:
        with suppress(PermissionError):
            os.chown(where, -1, node.gid)
    for name, value in node.xattrs:
        try:
            os.setxattr(where, name, value)
        except OSError as error:
            if os.geteuid() == 0 or not name.startswith(_ROOT_ONLY):
                failed.append(f"its attribute {name} could not be set: {describe(error)}")
    os.chmod(where, node.permissions)
    os.utime(where, ns=(node.atime_ns, node.mtime_ns))
    return "; ".join(failed)


def drop_other_xattrs(descriptor: int, node: Node) -> None:
    """Remove the attributes that an existing file has and its node has not, as far as we may. Raises OSError."""
    wanted = {name for name, _ in node.xattrs}
    for name in os.listxattr(descriptor):
        if name not in wanted and name not in _MACHINE_POLICY:
            with suppress(PermissionError):
                os.removexattr(descriptor, name)


def make_special(folder: int, node: Node) -> str:
    """Make a symbolic link, FIFO or device; returns what could not be set. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(node.name, dir_fd=folder)
    if node.type == "symlink":
        os.symlink(node.linktarget, node.name, dir_fd=folder)
        return _finish_link(folder, node)
    if node.type == "fifo":
        os.mkfifo(node.name, 0o600, dir_fd=folder)
    elif node.type in ("dev", "chardev"):
        kind = stat.S_IFBLK if node.type == "dev" else stat.S_IFCHR
        os.mknod(node.name, kind | 0o600, node.device, dir_fd=folder)
    else:
        raise OSError(errno.EINVAL, f"it is of type {node.type}, which cannot be restored")
    # only a descriptor that names and does not open it can be trusted to be what was just made
    descriptor = os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return apply_metadata(f"/proc/self/fd/{descriptor}", node)
    finally:
        os.close(descriptor)


def _finish_link(folder: int, node: Node) -> str:
    failed = []
    if os.geteuid() == 0:
        os.chown(node.name, node.uid, node.gid, dir_fd=folder, follow_symlinks=False)
    for name, value in node.xattrs:
        try:
            os.setxattr(f"/proc/self/fd/{folder}/{as_text(node.name)}", name, value, follow_symlinks=False)
        except OSError as error:
            if os.geteuid() == 0:
                failed.append(f"its attribute {name} could not be set: {describe(error)}")
    os.utime(node.name, ns=(node.atime_ns, node.mtime_ns), dir_fd=folder, follow_symlinks=False)
    return "; ".join(failed)


def _remove(folder: int, name: bytes, device: int) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    if status.st_dev != device:
        raise OSError(errno.EBUSY, "a file system is mounted there")
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        for child in os.listdir(inner):
            _remove(inner, os.fsencode(child), device)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
