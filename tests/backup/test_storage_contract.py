"""What every storage promises, run by each of them."""

import pickle
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backup.errors import FileMissing, StorageError
from backup.storage.base import CONFIG_NAME, FileKind, Storage, StoredFile, delete_all
from backup.storage.limited import Bandwidth, Limit, Limited
from backup.storage.local import LocalStorage
from backup.storage.reading_ahead import ReadingAhead
from backup.storage.retrying import Retrying
from backup.storage.s3 import S3Storage
from tests.backup.storages import Faulty, MemoryStorage

NAME, OTHER = "ab" * 32, "cd" * 32


MAKERS: dict[str, Callable[[Path, pytest.FixtureRequest], Storage]] = {
    "memory": lambda *_: MemoryStorage(),
    "local": lambda folder, _: LocalStorage(folder / "repository"),
    "faulty": lambda *_: Faulty(MemoryStorage()),
    "s3": lambda _, request: on_s3(request),
    "retrying": lambda folder, _: Retrying(LocalStorage(folder / "repository")),
    "reading ahead": lambda folder, _: ReadingAhead(LocalStorage(folder / "repository")),
    "limited": lambda folder, _: Limited(LocalStorage(folder / "repository"), fast_line(folder)),
    "paced-s3": lambda folder, request: Retrying(on_s3(request, pace=fast_line(folder))),
}


def on_s3(request: pytest.FixtureRequest, **more: Any) -> S3Storage:
    return request.getfixturevalue("rclone").storage(secrets.token_hex(8), **more)


def fast_line(folder: Path) -> Bandwidth:
    limit = Limit(1e9)
    return Bandwidth("line", partial(datetime.now, UTC), upload=limit, download=limit, folder=folder)


@pytest.fixture(params=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    storage = MAKERS[request.param](tmp_path, request)
    storage.create()
    return storage


ALL_KINDS = pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.CONFIG])


@ALL_KINDS
def test_what_is_put_is_got_listed_and_found(storage: Storage, kind: FileKind) -> None:
    storage.put(kind, NAME, b"content")
    assert storage.get(kind, NAME) == b"content"
    assert list(storage.list(kind)) == [StoredFile(NAME, 7)] == [storage.stat(kind, NAME)]


@ALL_KINDS
def test_a_deleted_file_is_gone(storage: Storage, kind: FileKind) -> None:
    storage.put(kind, NAME, b"content")
    storage.delete(kind, NAME)
    assert list(storage.list(kind)) == []
    with pytest.raises(FileMissing):
        storage.get(kind, NAME)


@ALL_KINDS
def test_many_files_are_deleted_together_and_those_that_are_missing_do_not_matter(
    storage: Storage, kind: FileKind
) -> None:
    for number in range(5):
        storage.put(kind, f"{number:064x}", b"content")
    delete_all(storage, kind, [f"{number:064x}" for number in (3, 7, 1, 0, 9)])
    assert {file.name for file in storage.list(kind)} == {f"{number:064x}" for number in (2, 4)}


def test_kinds_do_not_see_each_other(storage: Storage) -> None:
    storage.put(FileKind.KEY, NAME, b"key")
    storage.put(FileKind.LOCK, NAME, b"lock")
    assert storage.get(FileKind.KEY, NAME) == b"key"
    assert list(storage.list(FileKind.SNAPSHOT)) == []


def test_the_config_is_a_file_of_its_own(storage: Storage) -> None:
    assert list(storage.list(FileKind.CONFIG)) == []
    storage.put(FileKind.CONFIG, CONFIG_NAME, b"config")
    assert list(storage.list(FileKind.CONFIG)) == [StoredFile(CONFIG_NAME, 6)]


def test_buffers_are_joined(storage: Storage) -> None:
    buffers = [b"one", b"", bytearray(b"two"), memoryview(b"three")] + [b"x"] * 3000
    storage.put(FileKind.DATA, NAME, buffers)
    assert storage.get(FileKind.DATA, NAME) == b"onetwothree" + b"x" * 3000


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    storage.put(FileKind.LOCK, NAME, b"")
    assert storage.get(FileKind.LOCK, NAME) == b""
    assert storage.stat(FileKind.LOCK, NAME).size == 0


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 3, b"012"), (4, 2, b"45"), (7, None, b"789"), (8, 10, b"89"), (10, 5, b""), (0, 0, b"")],
)
def test_a_range_is_exact_and_ends_where_the_file_ends(
    storage: Storage, offset: int, length: int | None, expected: bytes
) -> None:
    storage.put(FileKind.DATA, NAME, b"0123456789")
    assert storage.get(FileKind.DATA, NAME, offset, length) == expected


def test_the_same_name_with_the_same_bytes_is_fine(storage: Storage) -> None:
    storage.put(FileKind.DATA, NAME, b"content")
    storage.put(FileKind.DATA, NAME, [b"con", b"tent"])
    assert storage.get(FileKind.DATA, NAME) == b"content"


@pytest.mark.parametrize("other", [b"CONTENT", b"content and more", b"cont", b""])
def test_the_same_name_with_other_bytes_is_refused(storage: Storage, other: bytes) -> None:
    storage.put(FileKind.DATA, NAME, b"content")
    with pytest.raises(StorageError) as refused:
        storage.put(FileKind.DATA, NAME, other)
    assert refused.value.permanent
    assert storage.get(FileKind.DATA, NAME) == b"content"


def test_what_is_missing_is_said_to_be_missing_for_good(storage: Storage) -> None:
    for ask in (storage.get, storage.stat, storage.delete):
        with pytest.raises(FileMissing) as missing:
            ask(FileKind.SNAPSHOT, OTHER)
        assert missing.value.permanent


@pytest.mark.parametrize("name", ["", "../config", "AB" * 32, "ab" * 31, "config"])
def test_a_name_that_is_no_hash_is_a_bug_of_the_caller(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="does not name"):
        storage.put(FileKind.DATA, name, b"content")


def test_its_place_can_be_told_to_people(storage: Storage) -> None:
    assert storage.properties.location


@pytest.mark.parametrize("storage", [name for name in MAKERS if name != "faulty"], indirect=True)
def test_it_can_be_sent_to_a_worker(storage: Storage) -> None:
    storage.put(FileKind.DATA, NAME, b"content")
    assert pickle.loads(pickle.dumps(storage)).get(FileKind.DATA, NAME) == b"content"
