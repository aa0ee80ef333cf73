"""Files and folders of this machine, as found one after the other.

Walks in the order of raw names with one directory open at a time, so that neither depth nor the limit of open files
matters. Follows no symbolic link below the given paths, skips sockets, and leaves content to the archiver.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from backup.errors import SourceError
from backup.sources.base import Enter, Files, Leaf, Leave, Problem, Step, Xattrs
from config.sources import FilesSource as FilesSettings

CACHE_TAG = "CACHEDIR.TAG"
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""From https://bford.info/cachedir/."""
_NO_XATTRS = {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODATA, errno.ENOENT, errno.EPERM, errno.EACCES, errno.EINVAL}
_NONE: Xattrs = ()
_LONGEST_PATH = 4000
"""Bytes that one system call takes, with some room."""


@dataclass(frozen=True, slots=True)
class FilesSource:
    """Folders and files below absolute ``paths``.

    ``exclude`` holds gitignore patterns: those that begin with a slash are absolute, the others are read as if they
    stood in a .gitignore at each of the paths. Of a folder with a CACHEDIR.TAG only the tag is kept, of a mount point
    on another file system only the empty folder. With ``skip_unreadable`` what this user may not read is left out and
    only counted; otherwise it is a problem.
    """

    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    exclude_caches: bool = True
    exclude_larger_than_bytes: int | None = None
    one_file_system: bool = False
    skip_unreadable: bool = False

    @classmethod
    def from_settings(cls, settings: FilesSettings) -> "FilesSource":
        """Make the source that a job's settings describe."""
        return cls(
            tuple(sorted({os.path.normpath(path) for path in settings.paths})),
            tuple(settings.exclude),
            settings.exclude_caches,
            settings.exclude_larger_than,
            settings.one_file_system,
            settings.skip_unreadable,
        )

    @property
    def live_paths(self) -> tuple[str, ...]:
        """All of them."""
        return self.paths

    @property
    def excludes(self) -> tuple[str, ...]:
        """The patterns left out."""
        return self.exclude

    @property
    def consistency(self) -> str:
        """Files are read one after the other."""
        return "crash"

    @contextmanager
    def capture(self) -> Iterator["FilesCapture"]:
        """Look at the paths as they are; raises SourceError when none of them is there."""
        missing = [path for path in self.paths if not os.path.lexists(path)]
        if len(missing) == len(self.paths):
            raise SourceError(
                f"could not back up {', '.join(missing)}: no such file or folder",
                hint="is a disk not mounted? correct the job's source paths otherwise",
            )
        yield FilesCapture(self)


class FilesCapture:
    """One walk over the paths of a :class:`FilesSource`."""

    def __init__(self, source: FilesSource) -> None:
        self.problems: list[Problem] = []
        self.manifest: Mapping[str, object] = {}
        self.left_out = 0
        self.admission = FilesAdmission(
            source.exclude_larger_than_bytes, asks_rights=source.skip_unreadable and os.geteuid() != 0
        )
        self._source = source

    def walk(self) -> Iterator[Step]:
        """Give the components of the given paths as directories of their own, then all that lies below the paths."""
        yield from self._components("/", _fork(self._source.paths))

    def _components(self, path: str, branch: "_Branch") -> Iterator[Step]:
        if not branch:
            yield from self._target(path)
            return
        for name in sorted(branch, key=os.fsencode):
            child = os.path.join(path, name)
            if not branch[name]:
                yield from self._target(child)
                continue
            try:
                # a component may be a symbolic link that the operator wrote as part of the path
                status, xattrs = os.stat(child), _list_xattrs(child)
            except OSError as error:
                self._missed(child, error)
                continue
            yield Enter(child, name, status, xattrs)
            yield from self._components(child, branch[name])
            yield Leave()

    def _target(self, path: str) -> Iterator[Step]:
        excludes = Excludes(self._source.exclude, path)
        try:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                folder, name = os.path.split(path)
                if stat.S_ISREG(status.st_mode):
                    yield Files(folder, [name])
                    return
                descriptor = open_path(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    yield from self._leaf(descriptor, folder, name)
                finally:
                    os.close(descriptor)
                return
        except OSError as error:
            self._missed(path, error)
            return
        todo: list[str | None] = [path]
        while todo:
            current = todo.pop()
            if current is None:
                yield Leave()
                continue
            below: list[str] = []
            for step in self._folder(current, status.st_dev, excludes, below):
                if isinstance(step, Enter):
                    todo.append(None)
                yield step
            todo.extend(reversed(below))

    def _folder(self, path: str, device: int, excludes: "Excludes", below: list[str]) -> Iterator[Step]:
        is_root = path == "/"  # which has no node of its own in a snapshot
        try:
            descriptor = open_path(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            self._missed(path, error)
            return
        try:
            status = os.fstat(descriptor)
            if not is_root:
                yield Enter(path, os.path.basename(path), status, _list_xattrs(descriptor))
            if self._source.one_file_system and status.st_dev != device:
                return
            files, others, folders = self._list(descriptor, path, excludes)
            if files:
                yield Files(path, files)
            for name in others:
                yield from self._leaf(descriptor, path, name)
            below += folders
        except OSError as error:
            self._missed(path, error)
        finally:
            os.close(descriptor)

    def _list(self, folder: int, path: str, excludes: "Excludes") -> tuple[list[str], list[str], list[str]]:
        """Sort what a folder holds into names of regular files, names of other leaves, and paths of folders.

        The listing tells the types, so that nothing is looked at here: what costs is one look at each file.
        """
        prefix = path.rstrip("/") + "/"
        with os.scandir(folder) as found:
            entries = list(found)
        has_tag = any(entry.name == CACHE_TAG for entry in entries)
        files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        folders: list[str] = []
        others: list[str] = []
        for entry in entries if len(files) < len(entries) else ():
            if not entry.is_file(follow_symlinks=False):
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        if excludes:
            files = [name for name in files if not excludes.match(prefix + name, is_folder=False)]
            others = [name for name in others if not excludes.match(prefix + name, is_folder=False)]
            folders = [name for name in folders if not excludes.match(prefix + name, is_folder=True)]
        if has_tag and self._source.exclude_caches and _is_cache(folder):
            return [name for name in files if name == CACHE_TAG], [], []
        for names in (files, others, folders):
            _sort_by_bytes(names)
        return files, others, [prefix + name for name in folders]

    def _leaf(self, descriptor: int, folder: str, name: str) -> Iterator[Step]:
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISSOCK(status.st_mode):
                return
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                raise OSError(errno.ESTALE, "it became something else while its folder was read")
            target = os.fsencode(os.readlink(name, dir_fd=descriptor)) if stat.S_ISLNK(status.st_mode) else b""
            # no call takes a directory descriptor for these; the proc path does, however long the real one is
            yield Leaf(folder, name, status, target, _list_xattrs(f"/proc/self/fd/{descriptor}/{name}"))
        except OSError as error:
            self._missed(os.path.join(folder, name), error)

    def _missed(self, path: str, error: OSError) -> None:
        if self.admission.forgives(error):
            self.left_out += 1
            return
        self.problems.append(Problem(path, describe(error)))


@dataclass(frozen=True, slots=True)
class FilesAdmission:
    """Leaves out what is too large and, where rights are asked for, what this user may not read."""

    larger_than_bytes: int | None
    asks_rights: bool

    def takes(self, name: str, folder: int, status: os.stat_result) -> bool:
        """Judge one file."""
        if self.asks_rights and not _may_read(name, folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return self.larger_than_bytes is None or status.st_size <= self.larger_than_bytes

    def forgives(self, error: OSError) -> bool:
        """Forgive missing rights, where they are asked for."""
        return self.asks_rights and error.errno in (errno.EACCES, errno.EPERM)


class Excludes:
    """The patterns of a source, as they apply below one of its paths. False when there are none."""

    def __init__(self, patterns: Sequence[str], top: str) -> None:
        self._start = len(top.rstrip("/")) + 1
        self._rules: list[tuple[re.Pattern[str], bool, bool]] = []
        if not patterns:
            return
        from pathspec import GitIgnoreSpec

        for line in patterns:
            absolute = line.removeprefix("!").startswith("/")
            for pattern in GitIgnoreSpec.from_lines([line]).patterns:
                if pattern.include is not None and pattern.regex is not None:  # blank lines and comments
                    self._rules.append((pattern.regex, pattern.include, absolute))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether an absolute path is left out: the last pattern that matches decides, as git has it."""
        whole = path[1:] + "/" if is_folder else path[1:]
        below = whole[self._start - 1 :]
        excluded = False
        for regex, include, absolute in self._rules:
            if excluded is not include and regex.search(whole if absolute else below):
                excluded = include
        return excluded


def open_path(path: str, flags: int) -> int:
    """Open a path of any length: the kernel takes 4 KiB at once, trees may be deeper. Raises OSError."""
    flags |= os.O_CLOEXEC
    if len(path) < _LONGEST_PATH // 4 or len(os.fsencode(path)) < _LONGEST_PATH:
        return os.open(path, flags)
    folder, parts = None, path.split("/")
    try:
        while True:
            piece, parts = _first_part(parts)
            if not parts:
                return os.open(piece, flags, dir_fd=folder)
            deeper = os.open(piece, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            if folder is not None:
                os.close(folder)
            folder = deeper
    finally:
        if folder is not None:
            os.close(folder)


def _first_part(parts: list[str]) -> tuple[str, list[str]]:
    size = 0
    for count, part in enumerate(parts):
        size += len(os.fsencode(part)) + 1
        if size > _LONGEST_PATH:
            return "/".join(parts[:count]) or "/", parts[count:]
    return "/".join(parts), []


def read_xattrs(descriptor: int) -> Xattrs:
    """Extended attributes of an open file, in the order the file system lists them; none where it has none."""
    return _list_xattrs(descriptor)


def describe(error: OSError) -> str:
    """Why a system call failed, in lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _may_read(name: str, folder: int) -> bool:
    """Whether this process may read the file; what access control lists say is counted in."""
    return os.access(name, os.R_OK, dir_fd=folder, effective_ids=os.access in os.supports_effective_ids)


def _list_xattrs(where: int | str) -> Xattrs:
    follow = isinstance(where, int)
    try:
        names = os.listxattr(where, follow_symlinks=follow)
        return tuple((name, os.getxattr(where, name, follow_symlinks=follow)) for name in names) if names else ()
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise


def _sort_by_bytes(names: list[str]) -> None:
    """Sort as the raw bytes do: code points of UTF-8 have that order already, escaped bytes have not."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        names.sort(key=os.fsencode)
    else:
        names.sort()  # seven times as fast as with a key


def _is_cache(folder: int) -> bool:
    try:
        descriptor = os.open(CACHE_TAG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and file.read(len(CACHE_SIGNATURE)) == CACHE_SIGNATURE


class _Branch(dict[str, "_Branch"]):
    """Path components by name; an empty branch is a path itself."""


def _fork(paths: Sequence[str]) -> _Branch:
    """Nest the paths by component; a path below another one is covered by it and dropped."""
    root = _Branch()
    kept: list[list[str]] = []
    for parts in sorted([part for part in path.split("/") if part] for path in paths):
        if any(parts[: len(other)] == other for other in kept):
            continue
        kept.append(parts)
        branch = root
        for part in parts:
            branch = branch.setdefault(part, _Branch())
    return root
