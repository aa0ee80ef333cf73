"""Unpacked files: both ways in which they are written, and every way in which they are damaged."""

import hashlib

import pytest
import zstandard

from backup.crypto import MasterKey, Sealer
from backup.errors import CorruptData, FileMissing
from backup.storage.base import FileKind
from backup.unpacked import UnpackedFiles
from tests.backup.storages import MemoryStorage

KEY = MasterKey.generate()


def put(memory: MemoryStorage, plain: bytes) -> str:
    sealed = Sealer(KEY).seal(plain)
    name = hashlib.sha256(sealed).hexdigest()
    memory.put(FileKind.INDEX, name, sealed)
    return name


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("document", [b'{"packs":[]}', b"[1,2,3]"])
def test_a_document_reads_as_it_was_written(memory: MemoryStorage, document: bytes, compress: bool) -> None:
    name = UnpackedFiles(memory, KEY, compress=compress).save(FileKind.INDEX, document)
    assert UnpackedFiles(memory, KEY).load(FileKind.INDEX, name) == document
    plain = Sealer(KEY).open(memory.files[FileKind.INDEX, name])
    assert plain[:1] == (b"\x02" if compress else document[:1])


def test_a_frame_that_leaves_its_size_out_is_read(memory: MemoryStorage) -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b'{"packs":[]}')
    assert UnpackedFiles(memory, KEY).load(FileKind.INDEX, put(memory, b"\x02" + frame)) == b'{"packs":[]}'


@pytest.mark.parametrize(
    "plain", [b"", b"\x03{}", b"null", b"\x02", b"\x02not zstd", b"\x02\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff"]
)
def test_other_encodings_are_refused_by_name(memory: MemoryStorage, plain: bytes) -> None:
    name = put(memory, plain)
    with pytest.raises(CorruptData) as found:
        UnpackedFiles(memory, KEY).load(FileKind.INDEX, name)
    assert found.value.name == name


def test_a_flipped_bit_is_found_and_a_missing_file_is_missing(memory: MemoryStorage) -> None:
    files = UnpackedFiles(memory, KEY)
    name = files.save(FileKind.INDEX, b'{"packs":[]}')
    with pytest.raises(FileMissing):
        files.load(FileKind.SNAPSHOT, name)
    content = bytearray(memory.files[FileKind.INDEX, name])
    content[20] ^= 4
    memory.files[FileKind.INDEX, name] = bytes(content)
    with pytest.raises(CorruptData, match="does not match the name"):
        files.load(FileKind.INDEX, name)


def test_only_json_is_written(memory: MemoryStorage) -> None:
    with pytest.raises(ValueError, match="JSON"):
        UnpackedFiles(memory, KEY).save(FileKind.INDEX, b"\x02 binary")
    assert not memory.files
