"""Reading and making passwords: from a file, a systemd credential or a command, always as ``pydantic.SecretStr``.

The type's ``repr`` and ``str`` are stars; ``get_secret_value()`` is the one way to the text. Refuses to run a shell,
to accept an empty secret, and to put any part of a secret into an error or a log line.
"""

import logging
import os
import secrets
import shlex
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from config.jobs import RepositorySettings

log = logging.getLogger(__name__)

_LONGEST_BYTES = 64 * 1024
"""More than this in a password file is a mix-up, not a password."""
_HINT_UNREADABLE = "make it readable for the user that keepwatch runs as"
_HINT_MISSING = (
    "write the secret there, mode 600; the password of a repository that is to be made is made by"
    " `(umask 077; openssl rand -base64 32 >{place})`, and kept off this machine, too"
)


class SecretError(Exception):
    """A secret could not be read. The message names the place and the reason, never the secret."""

    def __init__(self, message: str, hint: str) -> None:
        self.hint = hint
        super().__init__(message)


def read_password(
    repository: RepositorySettings, environ: Mapping[str, str], *, timeout_seconds: float = 30
) -> SecretStr:
    """Read a repository's password from where its settings say. Raises SecretError."""
    if repository.password_file is not None:
        return read_secret_file(repository.password_file, environ)
    if repository.password_command is not None:
        command = repository.password_command.get_secret_value()
        return read_secret_command(command, environ, timeout_seconds=timeout_seconds)
    raise SecretError("cannot read a repository password: no place is set", "set password_file or password_command")


def read_secret_file(path: Path, environ: Mapping[str, str]) -> SecretStr:
    """Read the first line of a file, without its line end. Raises SecretError.

    A bare name (no slash) is the name of a systemd credential, looked up in $CREDENTIALS_DIRECTORY
    (systemd.exec(5), LoadCredential=). A file that others may read is used, with a warning in the log.
    """
    place = _credential(path, environ) if len(path.parts) == 1 else path
    try:
        with place.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            head = file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise SecretError(
            f"cannot read the secret file {place}: {(error.strerror or str(error)).lower()}",
            _HINT_MISSING.format(place=place) if isinstance(error, FileNotFoundError) else _HINT_UNREADABLE,
        ) from error
    if mode & stat.S_IROTH:
        log.warning("secret readable by others", extra={"file": str(place), "hint": f"chmod 600 {place}"})
    return _secret(head, f"the secret file {place}")


def read_secret_command(command: str, environ: Mapping[str, str], *, timeout_seconds: float = 30) -> SecretStr:
    """Run a command (no shell) and take the first line of its output. Raises SecretError."""
    name = (command.split() or [""])[0]
    hint = "run the secret command by hand as the user keepwatch runs as; it must print the secret and exit 0"
    try:
        arguments = shlex.split(command)
        if not arguments:
            raise SecretError("cannot run the secret command: it is empty", hint)
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environ),
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # "from None": the exception carries the output, and the output is the secret.
        raise SecretError(f"the secret command {name} did not end within {timeout_seconds:g} s", hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SecretError(f"cannot run the secret command {name}: {reason.lower()}", hint) from None
    if done.returncode != 0:
        raise SecretError(f"the secret command {name} failed with exit status {done.returncode}", hint)
    return _secret(done.stdout, f"the output of the secret command {name}")


def create_password_file(path: Path) -> bool:
    """Write a new random password (32 bytes, as text) to ``path``, durably, for its owner only.

    Returns False, and leaves everything alone, when the file is there already. Raises SecretError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name of our own first, then link(2): nobody ever reads half a password, and link refuses to replace one.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                return False
        finally:
            draft.unlink()
        _sync_directory(path.parent)
    except OSError as error:
        raise SecretError(
            f"cannot create the password file {path}: {(error.strerror or str(error)).lower()}",
            f"make {path.parent} writable for the user keepwatch runs as, or name another file",
        ) from error
    return True


def _credential(name: Path, environ: Mapping[str, str]) -> Path:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise SecretError(
            f"cannot read the credential {name}: $CREDENTIALS_DIRECTORY is not set",
            f"add LoadCredential={name}:/path/to/it to the systemd unit, or write an absolute path",
        )
    return Path(folder) / name


def _secret(output: bytes, what: str) -> SecretStr:
    if len(output) > _LONGEST_BYTES:
        raise SecretError(f"{what} is longer than {_LONGEST_BYTES} bytes", "its first line must be the secret")
    try:
        text = output.split(b"\n", 1)[0].removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise SecretError(f"{what} is not UTF-8 text", "its first line must be the secret") from None
    if not text:
        raise SecretError(f"{what} is empty", "its first line must be the secret")
    return SecretStr(text)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
