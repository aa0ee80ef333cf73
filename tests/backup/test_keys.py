"""Key files: which passwords open a repository, and what a damaged or foreign one does."""

import hashlib
from datetime import UTC, datetime

import orjson
import pytest

from backup.crypto import MasterKey
from backup.errors import BackupError, CorruptData, FileMissing, RepositoryMissing, WrongPassword
from backup.keys import (
    KdfParameters,
    add_key,
    calibrate,
    change_password,
    list_keys,
    load_key_file,
    open_master_key,
    remove_key,
)
from backup.storage.base import FileKind
from tests.backup.repositories import CHEAP
from tests.backup.storages import MemoryStorage, names

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MASTER = MasterKey(b"e" * 32, b"k" * 16, b"r" * 16)


def add(storage: MemoryStorage, password: str) -> str:
    return add_key(storage, MASTER, password, now=NOW, username="root", hostname="erp-1", kdf=CHEAP)


def test_each_of_several_passwords_opens_the_same_master_key(memory: MemoryStorage) -> None:
    first, second = add(memory, "one"), add(memory, "zwei €")
    assert open_master_key(memory, "one").id == first
    assert open_master_key(memory, "zwei €").id == second
    assert open_master_key(memory, "zwei €").master == MASTER


def test_a_wrong_password_is_told_from_a_missing_repository(memory: MemoryStorage) -> None:
    with pytest.raises(RepositoryMissing) as missing:
        open_master_key(memory, "one")
    add(memory, "one")
    with pytest.raises(WrongPassword) as wrong:
        open_master_key(memory, "two")
    assert (missing.value.exit_code, wrong.value.exit_code) == (10, 12)


def test_the_file_has_restics_fields_in_restics_order(memory: MemoryStorage) -> None:
    name = add(memory, "one")
    content = memory.files[FileKind.KEY, name]
    assert hashlib.sha256(content).hexdigest() == name
    document = orjson.loads(content)
    assert list(document) == ["created", "username", "hostname", "kdf", "N", "r", "p", "salt", "data"]
    assert document["created"] == "2026-03-01T12:00:00.25Z"


def test_two_keys_of_one_password_share_no_salt(memory: MemoryStorage) -> None:
    one, other = (load_key_file(memory, add(memory, "same")) for _ in range(2))
    assert one.salt != other.salt
    assert one.sealed != other.sealed


def test_an_empty_password_is_refused(memory: MemoryStorage) -> None:
    with pytest.raises(BackupError, match="empty"):
        add(memory, "")
    assert not memory.files


def test_keys_are_listed_with_their_makers(memory: MemoryStorage) -> None:
    name = add(memory, "one")
    (key,) = list_keys(memory)
    assert (key.id, key.username, key.hostname, key.created_at, key.kdf) == (name, "root", "erp-1", NOW, CHEAP)


def test_a_removed_key_opens_nothing_and_the_one_in_use_cannot_be_removed(memory: MemoryStorage) -> None:
    mine, other = add(memory, "mine"), add(memory, "other")
    with pytest.raises(BackupError, match="refused to remove"):
        remove_key(memory, mine, current=mine)
    remove_key(memory, other, current=mine)
    with pytest.raises(WrongPassword):
        open_master_key(memory, "other")
    with pytest.raises(FileMissing):
        remove_key(memory, other, current=mine)


def test_a_changed_password_replaces_the_old_one(memory: MemoryStorage) -> None:
    add(memory, "old")
    opened = change_password(
        memory, open_master_key(memory, "old"), "new", now=NOW, username="root", hostname="erp-1", kdf=CHEAP
    )
    assert opened == open_master_key(memory, "new")
    assert names(memory, FileKind.KEY) == [opened.id]
    with pytest.raises(WrongPassword):
        open_master_key(memory, "old")


@pytest.mark.parametrize("position", range(0, 480, 40))
def test_a_flipped_bit_anywhere_in_a_key_file_is_found_and_named(memory: MemoryStorage, position: int) -> None:
    name = add(memory, "one")
    content = bytearray(memory.files[FileKind.KEY, name])
    content[position % len(content)] ^= 1
    memory.files[FileKind.KEY, name] = bytes(content)
    with pytest.raises(CorruptData) as damaged:
        open_master_key(memory, "one")
    assert damaged.value.name == name


def test_a_damaged_key_file_does_not_keep_others_from_opening(memory: MemoryStorage) -> None:
    memory.files[FileKind.KEY, "00" * 32] = b"{}"
    name = add(memory, "one")
    assert open_master_key(memory, "one").id == name


@pytest.mark.parametrize(
    "changed",
    [
        {"kdf": "argon2"},
        {"N": 3},
        {"N": 1},
        {"N": 2**31},
        {"r": 2**20, "N": 2**20},
        {"p": 0},
        {"salt": "c2hvcnQ="},
        {"data": "%%%"},
        {"created": "yesterday"},
    ],
)
def test_parameters_that_are_dangerous_or_nonsense_are_refused(
    memory: MemoryStorage, changed: dict[str, object]
) -> None:
    document = orjson.loads(memory.files[FileKind.KEY, add(memory, "one")])
    content = orjson.dumps(document | changed)
    memory.files.clear()
    memory.put(FileKind.KEY, hashlib.sha256(content).hexdigest(), content)
    with pytest.raises(CorruptData):
        open_master_key(memory, "one")


def test_calibration_stays_within_restics_bounds() -> None:
    found = calibrate()
    assert found.n * found.r * 128 == 32 * 2**20
    assert 1 <= found.p <= 16


@pytest.mark.parametrize("parameters", [(0, 8, 1), (1000, 8, 1), (1024, 0, 1), (1024, 2**29, 2)])
def test_impossible_costs_are_no_parameters(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="scrypt"):
        KdfParameters(*parameters)
