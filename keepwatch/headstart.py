"""A head start for the slowest step of most commands: the key is derived while the program is still being imported.

Before anything is validated, the command line and the configuration are looked at just closely enough to guess which
password and which key file will be wanted. A guess that is wrong, or that cannot be made (a password from a command, a
storage behind a network, settings in several files), costs nothing but idle processor time: the command goes its usual
way, and that alone decides, complains and warns. Nothing is written here, run, or sent anywhere.
"""

import base64
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from backup.derivation import Request, derive_ahead

_OPENING = frozenset({
    "backup", "copy", "diff", "dump", "find", "forget", "ls", "prune", "restore", "snapshots", "verify",
})  # fmt: skip
"""Commands that open a repository."""
_LARGEST_BYTES = 1 << 20
_MOST_MEMORY = 128 << 20
"""Bytes of scrypt that a guess may cost."""


def begin(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Begin to derive the key that the command will want, if that can be guessed. Never raises."""
    if not arguments or arguments[0] not in _OPENING or {"--help", "-h", "--detach"} & set(arguments):
        return
    try:
        request = _guess(arguments, environ)
    except (OSError, ValueError, TypeError, AttributeError, LookupError, StopIteration):
        return
    if request is not None:
        derive_ahead(request)


def _guess(arguments: Sequence[str], environ: Mapping[str, str]) -> Request | None:
    url, password_file = _option(arguments, "--repository-url"), _option(arguments, "--password-file")
    if url is None:
        url, password_file = _configured(arguments, environ)
    if password_file is None or ":" in url or "$" in url + password_file or not os.path.isabs(password_file):
        return None
    names = sorted(os.listdir(os.path.join(os.path.expanduser(url), "keys")))
    password = _read(Path(password_file)).split(b"\n", 1)[0].removesuffix(b"\r")
    if not names or not password:
        return None
    key = json.loads(_read(Path(url).expanduser() / "keys" / names[0]))
    n, r, p = (int(key[name]) for name in ("N", "r", "p"))
    if not (n > 1 and r > 0 and p > 0 and 128 * n * r <= _MOST_MEMORY and n * r * p <= 1 << 23):
        return None
    return password, base64.b64decode(key["salt"], validate=True), n, r, p


def _configured(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Give URL and password file of the repository that is meant, as written. Raises StopIteration, LookupError."""
    places = (_option(arguments, "--config"), environ.get("KEEPWATCH_CONFIG"), "keepwatch.toml",
              "/etc/keepwatch/keepwatch.toml")  # fmt: skip
    path = next(place for place in map(Path, filter(None, places)) if place.exists())
    repositories = tomllib.loads(_read(path).decode())["repositories"]
    name = _option(arguments, "--repository") or next(iter(repositories))
    settings = repositories[name]
    return settings["url"], settings.get("password_file")


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
