"""What changed since an earlier base backup, made into a whole one again: PostgreSQL 17's incremental base backup.

A server that summarizes its WAL sends a file ``INCREMENTAL.NAME`` with the changed blocks in place of a relation's
file. Pieces of the earlier snapshot without a changed block are taken over unread, the others are read, patched and
saved. So the snapshot is as complete as any: nobody who restores it needs a second one, and the server read and sent
only what changed. Which file is sent how is the server's choice. What cannot be gone by is refused before anything is
saved, with the reason.

The format is that of ``basebackup_incremental.c`` in PostgreSQL: little-endian words of 32 bits (magic number, number
of blocks, least length in blocks, the blocks' numbers, rising), zeros up to a whole block if there are any, the blocks.
What lies below the least length and in neither file are zeros. Servers on big-endian machines are not followed.
"""

import struct
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psycopg
from google_crc32c import extend, value

from backup.applications.manifest import FILE_NAME, Manifest
from backup.crc32c import padded, shifted
from backup.errors import CorruptData, SourceError, StorageError
from backup.sources.base import Earlier, Kept, SavedFile
from backup.sources.postgres_basebackup import Flow, NoIncrementError
from backup.sources.postgres_manifest import BackupManifest, Listed

_PREFIX = "INCREMENTAL."
_MAGIC = 0xD3AE1F0D
_WORDS = struct.Struct("<3I")
_LOT_PIECES = 64
_SETTINGS = "select name, setting from pg_settings where name in ('block_size', 'summarize_wal')"
_LABEL, _LABEL_SINCE = "backup_label", (b"INCREMENTAL FROM LSN: ", b"INCREMENTAL FROM TLI: ")


@dataclass(frozen=True, slots=True)
class _Header:
    """What a file of changes begins with."""

    blocks: tuple[int, ...]
    """Numbers of the blocks that follow, within the file, rising."""
    count: int
    """Blocks of the whole file."""

    @classmethod
    def read(cls, flow: Flow, block_bytes: int, path: str) -> "_Header":
        magic, sent, least = _WORDS.unpack(flow.exactly(_WORDS.size))
        if magic != _MAGIC:
            raise SourceError(f"could not read the changes of {path}: they begin with {magic:#x}")
        numbers = struct.unpack(f"<{sent}I", flow.exactly(4 * sent))
        if any(a >= b for a, b in pairwise(numbers)):
            raise SourceError(f"could not read the changes of {path}: their blocks are out of order")
        if sent:
            flow.exactly(-(_WORDS.size + 4 * sent) % block_bytes)
        return cls(numbers, max([least, *(number + 1 for number in numbers[-1:])]))


class Increment:
    """An earlier base backup, and the changes of it that come by; knows in the end what the manifest has to say."""

    def __init__(self, earlier: Earlier, folder: str, *, system: str, block_bytes: int, piece_bytes: int) -> None:
        """``folder`` is the job's in the snapshot, ``system`` the server's identifier.

        Raises NoIncrementError when what lies there cannot be gone by.
        """
        self._earlier = earlier
        self._folder = folder
        self._block_bytes = block_bytes
        self._piece_bytes = piece_bytes
        self._rebuilt: dict[str, tuple[str, Listed]] = {}
        try:
            self._refuse_strangers(system)
            self.manifest = self._small_file("data/backup_manifest")
            self._listed = BackupManifest.parse(self.manifest)
            if not earlier.is_whole(folder):
                raise NoIncrementError("parts of it are no longer in the repository")
        except (CorruptData, StorageError, SourceError, ValueError) as error:
            raise NoIncrementError(str(error)) from None
        version = self._listed.listed("PG_VERSION")
        if version is None or version.checksum != value(self._small_file("data/PG_VERSION")):
            raise NoIncrementError("its manifest has no checksums of the kind that is understood")

    def content(self, archive: str, name: str, content: Iterable[bytes]) -> Iterator[bytes | Kept]:
        """Give a whole file in pieces: ``name`` in the archive of a tablespace (its OID) or of the cluster (empty)."""
        if name == _LABEL:
            yield self._label(b"".join(content))
            return
        whole = whole_name(name)
        listed = f"pg_tblspc/{archive}/" if archive else ""
        place = f"tablespaces/{archive}" if archive else "data"
        path = f"{self._folder}/{place}/{whole}"
        flow = Flow(memoryview(part) for part in content)
        header = _Header.read(flow, self._block_bytes, path)
        old = self._earlier.find(path)
        if old is None or len(old.pieces) != -(-old.size // self._piece_bytes):
            raise SourceError(
                f"could not go by snapshot {self._earlier.name}: it has no {path} in pieces of the right size",
                hint="`keepwatch backup --full` reads everything",
            )
        size = header.count * self._block_bytes
        before = self._listed.listed(listed + whole)
        checksum = None
        if before is not None and before.checksum is not None and before.size == old.size <= size:
            checksum = padded(before.checksum, size - old.size)
        checksum = yield from self._patched(header, flow, old, size, checksum)
        self._rebuilt[listed + name] = (listed + whole, Listed(size, checksum))

    def takes(self, name: str) -> bool:
        """Whether a member of an archive is not what the whole base backup has."""
        return name == _LABEL or whole_name(name) != name

    def manifest_of(self, sent: bytes) -> bytes:
        """Make the whole base backup's manifest of the one that the server sent. Raises SourceError."""
        return BackupManifest.parse(sent).replacing(self._rebuilt)

    # ---- files

    def _patched(
        self, header: _Header, flow: Flow, old: SavedFile, size: int, checksum: int | None
    ) -> Generator[bytes | Kept, None, int]:
        """Give the pieces, and return the checksum of all of them together.

        ``checksum`` is that of the old file brought to the new size by zeros; when it is None, everything is read.
        """
        page, block = self._piece_bytes, self._block_bytes
        changed: dict[int, list[int]] = {}
        for number in header.blocks:
            changed.setdefault(number * block // page, []).append(number * block % page)
        lengths = [min(page, size - start) for start in range(0, size, page)]
        kept = [
            number not in changed and length == min(page, old.size - number * page)
            for number, length in enumerate(lengths)
        ]
        contents = self._contents(
            [piece for piece, is_kept in zip(old.pieces, kept, strict=False) if checksum is None or not is_kept]
        )
        whole, end = 0, 0
        for number, length in enumerate(lengths):
            end += length
            if kept[number] and checksum is not None:
                yield Kept(old.pieces[number], length)
                continue
            was = next(contents)[:length] if number < len(old.pieces) else b""
            piece = bytearray(was.ljust(length, b"\0"))
            earlier = value(bytes(piece))
            for at in changed.get(number, ()):
                piece[at : at + block] = flow.exactly(block)
            new = bytes(piece)
            if checksum is None:
                whole = extend(whole, new)
            else:
                checksum ^= shifted(earlier ^ value(new), size - end)
            yield Kept(old.pieces[number], length) if kept[number] else new
        return whole if checksum is None else checksum

    def _contents(self, pieces: Sequence[bytes]) -> Iterator[bytes]:
        """Read pieces of the earlier snapshot, many at a time, in their order."""
        for start in range(0, len(pieces), _LOT_PIECES):
            lot = pieces[start : start + _LOT_PIECES]
            read = dict(self._earlier.read(lot))
            yield from (read[piece] for piece in lot)

    def _label(self, label: bytes) -> bytes:
        lines = [line for line in label.splitlines(keepends=True) if not line.startswith(_LABEL_SINCE)]
        whole = b"".join(lines)
        self._rebuilt[_LABEL] = (_LABEL, Listed(len(whole), value(whole)))
        return whole

    # ---- the earlier snapshot

    def _refuse_strangers(self, system: str) -> None:
        details = Manifest.from_json(self._small_file(FILE_NAME)).details
        if details.get("method") != "physical":
            raise NoIncrementError("it is no base backup")
        if details.get("system_identifier") != system:
            raise NoIncrementError("it is of another cluster")
        if details.get("piece_bytes") != self._piece_bytes:
            raise NoIncrementError("its files are not known to lie in pieces of today's size")

    def _small_file(self, name: str) -> bytes:
        saved = self._earlier.find(f"{self._folder}/{name}")
        if saved is None:
            raise NoIncrementError(f"it has no {name}")
        return b"".join(self._contents(saved.pieces))


def whole_name(name: str) -> str:
    """Tell which file of a whole base backup a member of an archive belongs to."""
    above, slash, own = name.rpartition("/")
    return above + slash + own.removeprefix(_PREFIX)


def increment_since(
    earlier: Earlier, folder: str, connection: psycopg.Connection[Any], *, system: str, piece_bytes: int
) -> Increment:
    """Prepare to go by an earlier base backup of a server. Raises NoIncrementError."""
    if connection.info.server_version < 170000:
        raise NoIncrementError("servers before PostgreSQL 17 cannot tell what changed")
    settings = dict(connection.execute(_SETTINGS).fetchall())
    if settings["summarize_wal"] != "on":
        raise NoIncrementError("summarize_wal is off on the server")
    try:
        return Increment(
            earlier, folder, system=system, block_bytes=int(settings["block_size"]), piece_bytes=piece_bytes
        )
    except NoIncrementError as error:
        raise NoIncrementError(f"snapshot {earlier.name} cannot be gone by: {error}") from None
