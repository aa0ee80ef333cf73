"""A head start for the slowest step of most commands: the key is derived while the program is still being imported.

Before anything is validated, the command line and the configuration are looked at just closely enough to guess which
password and which key file will be wanted. A guess that is wrong, or that cannot be made (a password from a command,
settings in several files), costs nothing but idle processor time and, for a bucket, two requests that read: the command
goes its usual way, and that alone decides, complains and warns. Nothing is written here, and no program run.
"""

import base64
import json
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from backup.derivation import Request, derive_ahead

if TYPE_CHECKING:
    from backup.storage.base import Storage

_OPENING = frozenset({
    "backup", "copy", "diff", "drill", "dump", "find", "forget", "ls", "prune", "restore", "snapshots", "verify",
})  # fmt: skip
"""Commands that open a repository."""
_LARGEST_BYTES = 1 << 20
_MOST_MEMORY = 128 << 20
"""Bytes of scrypt that a guess may cost."""
_CANNOT_BE_GUESSED = (OSError, ValueError, TypeError, AttributeError, LookupError, StopIteration)


def begin(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Begin to derive the key that the command will want, if that can be guessed. Never raises."""
    if not arguments or arguments[0] not in _OPENING or {"--help", "-h", "--detach"} & set(arguments):
        return
    if list(arguments[:2]) == ["drill", "log"]:
        return
    try:
        _begin(arguments, environ)
    except _CANNOT_BE_GUESSED:
        return


def _begin(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    url, password_file = _option(arguments, "--repository-url"), _option(arguments, "--password-file")
    settings: dict[str, Any] = {"url": url, "password_file": password_file}
    if url is None:
        settings = _configured(arguments, environ)
        url, password_file = settings["url"], settings.get("password_file")
    if password_file is None or "$" in url + password_file or not os.path.isabs(password_file):
        return
    password = _read(Path(password_file)).split(b"\n", 1)[0].removesuffix(b"\r")
    if password and url.startswith("s3:"):
        _begin_far_away(settings, password, environ)
    elif password and ":" not in url:
        keys = Path(url).expanduser() / "keys"
        _derive(password, _read(keys / min(os.listdir(keys))))


def _derive(password: bytes, key_file: bytes) -> None:
    key = json.loads(key_file)
    n, r, p = (int(key[name]) for name in ("N", "r", "p"))
    if n > 1 and r > 0 and p > 0 and 128 * n * r <= _MOST_MEMORY and n * r * p <= 1 << 23:
        request: Request = password, base64.b64decode(key["salt"], validate=True), n, r, p
        derive_ahead(request)


def _begin_far_away(settings: Mapping[str, Any], password: bytes, environ: Mapping[str, str]) -> None:
    """Have a thread read the key file of a bucket. What it needs is imported first: two threads must not import."""
    for name in ("access_key_id_file", "secret_access_key_file"):
        file = settings.get(name)
        if file is not None and ("$" in file or not os.path.isabs(file) or os.stat(file).st_mode & stat.S_IROTH):
            return  # the last is something to warn of, which is not for a guess to do
    from backup.storage import s3_client  # noqa: F401 - the first request wants it
    from backup.storage.open import open_bare
    from config.jobs import RepositorySettings
    from config.secrets import SecretError

    try:
        storage = open_bare(RepositorySettings.model_validate(settings), environ)
    except SecretError:
        return
    Thread(target=_fetch, args=(storage, password), name="key file", daemon=True).start()


def _fetch(storage: "Storage", password: bytes) -> None:
    from backup.errors import BackupError
    from backup.storage.base import FileKind

    try:
        _derive(password, storage.get(FileKind.KEY, min(file.name for file in storage.list(FileKind.KEY))))
    except (BackupError, *_CANNOT_BE_GUESSED):
        return


def _configured(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Give the settings of the repository that is meant, as written. Raises StopIteration, LookupError."""
    places = (_option(arguments, "--config"), environ.get("KEEPWATCH_CONFIG"), "keepwatch.toml",
              "/etc/keepwatch/keepwatch.toml")  # fmt: skip
    path = next(place for place in map(Path, filter(None, places)) if place.exists())
    repositories = tomllib.loads(_read(path).decode())["repositories"]
    name = _option(arguments, "--repository") or next(iter(repositories))
    settings: dict[str, Any] = repositories[name]
    return settings


def _option(arguments: Sequence[str], name: str) -> str | None:
    """Give an option's value, written as two words or with an equals sign."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES)
