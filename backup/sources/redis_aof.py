"""The append-only files of Redis 7 as they were at one moment: the manifest, the base and the increments it names.

A rewrite replaces these files while the server runs. So all files of a manifest are opened first, and the manifest is
read once more: when it still says the same, the open files are one state, and stay it although they may be deleted.
The last increment grows at its end; it is taken up to the last whole command, or transaction, that was in it.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backup.errors import SourceError
from backup.sources.streams import PART_BYTES

_ATTEMPTS = 20
_PAUSE_SECONDS = 0.1
_HISTORY = "h"


@dataclass(frozen=True, slots=True)
class AofFile:
    """One file of the set, open."""

    name: str
    kind: str
    """``b`` the base, ``i`` an increment."""
    content: BinaryIO
    size: int

    def parts(self) -> Iterator[bytes]:
        """Read what was in it when the set was opened. Raises SourceError when it has become shorter."""
        left = self.size
        while left:
            part = self.content.read(min(PART_BYTES, left))
            if not part:
                raise SourceError(f"could not read {self.name}: it was cut off while it was read")
            left -= len(part)
            yield part


@dataclass(frozen=True, slots=True)
class AofSet:
    """Files that belong together."""

    manifest_name: str
    files: tuple[AofFile, ...]

    @property
    def manifest(self) -> bytes:
        """The manifest that names these files and no others."""
        lines = (f"file {file.name} seq {_sequence(file.name)} type {file.kind}\n" for file in self.files)
        return "".join(lines).encode()

    def parts(self, file: AofFile) -> Iterator[bytes]:
        """Read a file; of the last one only whole commands."""
        whole = file is not self.files[-1] or file.kind != "i"
        return file.parts() if whole else whole_commands(file.parts())


@contextmanager
def open_set(folder: Path, manifest_name: str) -> Iterator[AofSet]:
    """Open the files of one state. Raises SourceError when there are none, or none stay for long enough."""
    for _ in range(_ATTEMPTS):
        with ExitStack() as stack:
            try:
                text = (folder / manifest_name).read_text(encoding="utf-8")
                opened = [_open(folder, name, kind, stack) for name, kind in _entries(text)]
                same = text == (folder / manifest_name).read_text(encoding="utf-8")
            except FileNotFoundError as error:
                if not (folder / manifest_name).exists():
                    raise SourceError(
                        f"could not find the append-only files of Redis: {error.filename}: no such file",
                        hint="is `appendonly` on, and the server's version 7 or newer? method = 'rdb' works with all",
                    ) from None
                same, opened = False, []
            except OSError as error:
                raise SourceError(
                    f"could not read the append-only files of Redis: {error.filename}: {(error.strerror or '').lower()}"
                ) from None
            if same:
                yield AofSet(manifest_name, tuple(opened))
                return
        time.sleep(_PAUSE_SECONDS)
    raise SourceError(f"could not read the append-only files in {folder}: the server rewrites them all the time")


def whole_commands(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Give the content of an increment up to its last whole command; a transaction is whole with its EXEC.

    Raises SourceError for what is no append-only file. Its format is that of the protocol, and lines with ``#``
    (https://redis.io/docs/reference/protocol-spec/, aof.c).
    """
    rest = b""
    within = False
    for part in parts:
        data = rest + part
        at = good = 0
        while (found := _command(data, at)) is not None:
            at, word = found
            within = word == b"MULTI" or (within and word != b"EXEC")
            if not within:
                good = at
        # what belongs to an open transaction is read once more with the next part, from its MULTI
        within = False
        if good:
            yield data[:good]
        rest = data[good:]


def _command(data: bytes, at: int) -> tuple[int, bytes] | None:
    """Return where the command at ``at`` ends and its first word; None when it is not all there."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    mark = data[at]
    if mark == 0x23:  # '#'
        return end + 2, b""
    if mark != 0x2A:  # '*'
        raise SourceError(f"could not read an append-only file: no command at {data[at : at + 20]!r}")
    word = b""
    count = int(data[at + 1 : end])
    at = end + 2
    for number in range(count):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        length = int(data[at + 1 : end])
        at = end + 4 + length
        if at > len(data):
            return None
        if number == 0:
            word = data[end + 2 : at - 2].upper()
    return at, word


def _entries(manifest: str) -> Iterator[tuple[str, str]]:
    for line in manifest.splitlines():
        words = line.split(" ")
        if line.startswith("#") or len(words) < 6 or words[0] != "file":
            continue
        name, kind = words[1], words[5]
        if os.path.basename(name) != name or '"' in name:
            raise SourceError(f"could not understand the manifest of the append-only files: {line}")
        if kind != _HISTORY:
            yield name, kind


def _open(folder: Path, name: str, kind: str, stack: ExitStack) -> AofFile:
    content = stack.enter_context((folder / name).open("rb"))
    return AofFile(name, kind, content, os.fstat(content.fileno()).st_size)


def _sequence(name: str) -> str:
    """Return the number in ``appendonly.aof.12.incr.aof``."""
    return name.split(".")[-3]
