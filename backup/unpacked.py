"""Unpacked files: the index, snapshot and lock files of a repository, each one sealed JSON document under its hash.

The format is restic's (doc/design.rst, "Unpacked Data Format"): the plaintext is ``0x02`` and a zstd frame, or the JSON
itself when its first byte is ``{`` or ``[``, which is how version 1 wrote and what every reader must accept. What a
document means is not this module's business, nor is the config, which is never compressed.
"""

import hashlib
from typing import Final

import zstandard

from backup.crypto import MasterKey, Sealer
from backup.errors import CorruptData
from backup.storage.base import FileKind, Storage

_COMPRESSED: Final = 0x02
_MOST_BYTES: Final = 2**31
"""More than this in one document is an attack or damage: 50,000 blobs take about 10 MiB."""


class UnpackedFiles:
    """Reads and writes the unpacked files of one storage. Keeps cipher contexts, so each thread needs its own."""

    def __init__(self, storage: Storage, key: MasterKey, *, compress: bool = True) -> None:
        self._storage = storage
        self._sealer = Sealer(key)
        self._compressor = zstandard.ZstdCompressor(level=3) if compress else None
        self._decompressor = zstandard.ZstdDecompressor()

    def save(self, kind: FileKind, document: bytes) -> str:
        """Store a JSON document durably and give the file's name. Raises StorageError."""
        if document[:1] not in {b"{", b"["}:
            raise ValueError(f"a {kind} document must be a JSON object or array")
        plain = bytes((_COMPRESSED,)) + self._compressor.compress(document) if self._compressor else document
        sealed = self._sealer.seal(plain)
        if self._decode(self._sealer.open(sealed)) != document:
            raise CorruptData(f"could not write a {kind} file: what was just sealed does not open as it was")
        name = hashlib.sha256(sealed).hexdigest()
        self._storage.put(kind, name, sealed)
        return name

    def load(self, kind: FileKind, name: str) -> bytes:
        """Read a document. Raises CorruptData when it is not what was written, FileMissing, StorageError."""
        sealed = self._storage.get(kind, name)
        if hashlib.sha256(sealed).hexdigest() != name:
            raise CorruptData(f"could not read {kind} {name[:8]}: the content does not match the name", name=name)
        try:
            return self._decode(self._sealer.open(sealed))
        except (CorruptData, zstandard.ZstdError) as error:
            raise CorruptData(f"could not read {kind} {name[:8]}: {error}", name=name) from error

    def _decode(self, plain: bytes) -> bytes:
        if plain[:1] in {b"{", b"["}:
            return plain
        if plain[:1] != bytes((_COMPRESSED,)):
            raise CorruptData(f"unknown encoding {plain[:1].hex() or 'of an empty document'}")
        size = zstandard.frame_content_size(plain[1:])
        if size > _MOST_BYTES:
            raise CorruptData(f"the document claims {size} bytes")
        if size >= 0:
            return self._decompressor.decompress(plain[1:])
        return self._decompressor.decompressobj().decompress(plain[1:])  # a frame may leave its size out
