"""Passwords: key files, each of which holds the repository's master key sealed under one password.

The format is restic's (doc/design.rst, "Keys, Encryption and MAC"): scrypt (RFC 7914) turns a password into a user key,
and the user key seals the JSON of the master key. Removing a key file takes a password away, but nothing from whoever
already read the master key with it; only copying into a new repository does.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from backup.crypto import MasterKey, Sealer
from backup.derivation import derive
from backup.errors import BackupError, CorruptData, FileMissing, RepositoryMissing, WrongPassword
from backup.rfc3339 import format_time, parse_time
from backup.storage.base import FileKind, Storage

_SALT_BYTES: Final = 64
_TARGET_SECONDS: Final = 0.5
_MOST_PARALLEL: Final = 16


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """scrypt's cost: ``n`` (a power of two) times ``r`` times 128 bytes of memory, done ``p`` times."""

    n: int = 32_768
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not (1 < self.n < 2**31 and self.n & (self.n - 1) == 0):
            raise ValueError(f"scrypt's N must be a power of two above 1, got {self.n}")
        if not (self.r > 0 and self.p > 0 and self.r * self.p < 2**30 and 128 * self.r * self.n < 2**31):
            raise ValueError(f"scrypt's r and p are out of range, got r={self.r}, p={self.p}")

    def derive(self, password: str, salt: bytes) -> MasterKey:
        """Turn a password into a user key."""
        secret = derive((password.encode(), salt, self.n, self.r, self.p))
        return MasterKey(secret[:32], secret[32:48], secret[48:])


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One password's file. ``sealed`` opens to the master key with the key that the password derives."""

    created_at: datetime
    username: str
    hostname: str
    kdf: KdfParameters
    salt: bytes
    sealed: bytes
    id: str

    def open(self, password: str) -> MasterKey | None:
        """Give the master key, or None when the password is another one. Raises CorruptData."""
        try:
            plain = Sealer(self.kdf.derive(password, self.salt)).open(self.sealed)
        except CorruptData:
            return None
        try:
            document = orjson.loads(plain)
            return MasterKey(
                _bytes(document["encrypt"]),
                _bytes(document["mac"]["k"]),
                _bytes(document["mac"]["r"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptData(f"could not read the master key in key {self.id[:8]}: {error}", name=self.id) from error


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """The master key, and the id of the key file that the password opened."""

    master: MasterKey
    id: str


def calibrate() -> KdfParameters:
    """Measure how often scrypt fits into half a second at 32 MiB; restic stays within 500 ms and 60 MiB too."""
    started = time.perf_counter()
    KdfParameters().derive("calibration", bytes(_SALT_BYTES))
    took = time.perf_counter() - started
    return KdfParameters(p=min(max(int(_TARGET_SECONDS / took), 1), _MOST_PARALLEL))


def add_key(
    storage: Storage,
    master: MasterKey,
    password: str,
    *,
    now: datetime,
    username: str,
    hostname: str,
    kdf: KdfParameters | None = None,
) -> str:
    """Store the master key under one more password and give the new key's id. ``kdf`` is measured when left out.

    Raises BackupError for an empty password, StorageError.
    """
    if not password:
        raise BackupError("could not add a key: the password is empty")
    kdf = kdf or calibrate()
    salt = secrets.token_bytes(_SALT_BYTES)
    plain = orjson.dumps(
        {
            "mac": {"k": _base64(master.mac_k), "r": _base64(master.mac_r)},
            "encrypt": _base64(master.encrypt),
        }
    )
    sealer = Sealer(kdf.derive(password, salt))
    sealed = sealer.seal(plain)
    if sealer.open(sealed) != plain:
        raise CorruptData("could not add a key: what was just sealed does not open; suspect this machine's memory")
    content = orjson.dumps(
        {
            "created": format_time(now),
            "username": username,
            "hostname": hostname,
            "kdf": "scrypt",
            "N": kdf.n,
            "r": kdf.r,
            "p": kdf.p,
            "salt": _base64(salt),
            "data": _base64(sealed),
        }
    )
    name = hashlib.sha256(content).hexdigest()
    storage.put(FileKind.KEY, name, content)
    return name


def load_key_file(storage: Storage, name: str) -> KeyFile:
    """Read one key file. Raises CorruptData when it is not what was written, FileMissing, StorageError."""
    content = storage.get(FileKind.KEY, name)
    if hashlib.sha256(content).hexdigest() != name:
        raise CorruptData(f"could not read key {name[:8]}: the content does not match the name", name=name)
    try:
        document = orjson.loads(content)
        return _key_file(document, name)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"could not read key {name[:8]}: {error}", name=name) from error


def _key_file(document: Mapping[str, object], name: str) -> KeyFile:
    if document["kdf"] != "scrypt":
        raise ValueError(f"unknown key derivation {document['kdf']!r}")
    salt = _bytes(document["salt"])
    if len(salt) != _SALT_BYTES:
        raise ValueError(f"the salt has {len(salt)} bytes instead of {_SALT_BYTES}")
    n, r, p = (int(str(document[part])) for part in ("N", "r", "p"))
    return KeyFile(
        created_at=parse_time(str(document["created"])),
        username=str(document.get("username", "")),
        hostname=str(document.get("hostname", "")),
        kdf=KdfParameters(n, r, p),
        salt=salt,
        sealed=_bytes(document["data"]),
        id=name,
    )


def list_keys(storage: Storage) -> list[KeyFile]:
    """Give every key file, oldest first. Raises CorruptData for the first that cannot be read."""
    keys = [load_key_file(storage, file.name) for file in list(storage.list(FileKind.KEY))]
    return sorted(keys, key=lambda key: (key.created_at, key.id))


def open_master_key(storage: Storage, password: str) -> OpenedKey:
    """Try the password on every key file.

    Raises RepositoryMissing when there is no key file, WrongPassword when none opens, CorruptData when none opens and
    one could not even be read.
    """
    damaged: CorruptData | None = None
    names = sorted(file.name for file in storage.list(FileKind.KEY))
    for name in names:
        try:
            if master := load_key_file(storage, name).open(password):
                return OpenedKey(master, name)
        except CorruptData as error:
            damaged = error
        except FileMissing:  # removed since it was listed
            continue
    location = storage.properties.location
    if damaged:
        raise damaged
    if not names:
        raise RepositoryMissing(f"could not open a repository at {location}: it has no key file")
    raise WrongPassword(
        f"could not open the repository at {location}: no key opens with this password",
        hint="check password_file or password_command; `keepwatch key list` names who holds keys",
    )


def remove_key(storage: Storage, name: str, *, current: str) -> None:
    """Take a password away. Refuses (BackupError) the one in use, so that a key is always left. Raises FileMissing."""
    if name == current:
        raise BackupError(
            f"refused to remove key {name[:8]}: it opened the repository just now",
            hint="open the repository with another password first",
        )
    storage.delete(FileKind.KEY, name)


def change_password(
    storage: Storage,
    opened: OpenedKey,
    password: str,
    *,
    now: datetime,
    username: str,
    hostname: str,
    kdf: KdfParameters | None = None,
) -> OpenedKey:
    """Add a key for the new password, prove that it opens, then remove the one in use."""
    added = add_key(storage, opened.master, password, now=now, username=username, hostname=hostname, kdf=kdf)
    if load_key_file(storage, added).open(password) != opened.master:
        raise CorruptData(f"could not change the password: new key {added[:8]} does not open", name=added)
    storage.delete(FileKind.KEY, opened.id)
    return OpenedKey(opened.master, added)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object) -> bytes:
    return base64.b64decode(str(text), validate=True)
