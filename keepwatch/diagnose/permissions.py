"""The third question: may we read what is backed up, write where it goes, and may nobody else read our secrets?

Judged for the user that asks; as another than the daemon's, that is said first. Nothing is changed.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from config.jobs import RepositorySettings
from config.settings import Settings
from keepwatch.diagnose.answer import Answer, note, ok, problem
from keepwatch.state import StateDirectory

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def permissions(settings: Settings, state: StateDirectory, config: Path | None) -> Iterator[Answer]:
    """Answer for the user, the state directory, secret files, sources, repositories and plans."""
    yield _user(state.path)
    yield private("state directory", state.path)
    for file in (state.monitor_db, state.backup_db, state.journal, state.plan_log):
        if file.exists():
            yield private(file.name, file)
    if config is not None:
        yield _config(config, settings)
    for name, repository in settings.repositories.items():
        yield from _secrets(name, repository)
        yield from _repository(name, repository)
    for name, job in settings.jobs.items():
        for path in getattr(job.source, "paths", ()):
            yield readable(f"job {name}", path)
    if settings.plans.folder and settings.plans.folder.exists():
        yield readable("plans", settings.plans.folder)


def private(subject: str, path: Path, hint: str = "") -> Answer:
    """Judge something that nobody but its owner may read."""
    try:
        status = path.stat()
    except OSError as error:
        return problem(subject, f"{path}: {(error.strerror or str(error)).lower()}", hint)
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        return problem(subject, f"{path} has mode {mode:04o}: others may use it", f"chmod {mode & 0o700:o} {path}")
    if status.st_uid not in (os.geteuid(), 0):
        return problem(subject, f"{path} belongs to {_name(status.st_uid)}", f"chown {_name(os.geteuid())} {path}")
    if not os.access(path, os.R_OK):
        return problem(subject, f"{path} cannot be read by {_name(os.geteuid())}", hint)
    return ok(subject, f"{path}, mode {mode:04o}")


def readable(subject: str, path: Path) -> Answer:
    """Judge something that has to be read whole; a folder is looked into, not below."""
    if not path.exists():
        return problem(subject, f"{path} is not there", "is its disk mounted?")
    needed = os.R_OK | (os.X_OK if path.is_dir() else 0)
    if not os.access(path, needed):
        hint = "run as a user who may, or give the service CAP_DAC_READ_SEARCH"
        return problem(subject, f"{path} cannot be read by {_name(os.geteuid())}", hint)
    return ok(subject, f"{path} can be read")


def _user(state: Path) -> Answer:
    mine, owner = os.geteuid(), state.stat().st_uid
    if mine != owner:
        message = f"you are {_name(mine)}, the state belongs to {_name(owner)}; what follows is judged for you"
        return note("user", message, f"ask as that user: sudo -u {_name(owner)} keepwatch diagnose")
    return ok("user", _name(mine))


def _config(config: Path, settings: Settings) -> Answer:
    holds_secrets = bool(settings.notify or settings.heartbeat)
    try:
        mode = stat.S_IMODE(config.stat().st_mode)
    except OSError as error:
        return problem("configuration", f"{config}: {(error.strerror or str(error)).lower()}")
    if holds_secrets and mode & stat.S_IROTH and "${" not in config.read_text(encoding="utf-8", errors="replace"):
        hint = f"chmod o-r {config}, or write secrets as ${{NAME}}"
        return problem("configuration", f"{config} has addresses of channels in it, and everybody may read it", hint)
    return ok("configuration", f"{config}, mode {mode:04o}")


def _secrets(name: str, repository: RepositorySettings) -> Iterator[Answer]:
    for key in ("password_file", "access_key_id_file", "secret_access_key_file"):
        path = getattr(repository, key)
        if path is not None and path.is_absolute():
            yield private(f"repository {name}, {key}", path, "without it nothing of the repository can be read")


def _repository(name: str, repository: RepositorySettings) -> Iterator[Answer]:
    if repository.is_s3:
        return  # only an attempt can tell, and a backup makes one
    folder = Path(repository.url.removeprefix("local:"))
    place = folder if folder.exists() else folder.parent
    if not os.access(place, os.W_OK | os.X_OK):
        yield problem(f"repository {name}", f"{place} cannot be written by {_name(os.geteuid())}", "chown or chmod it")
    else:
        yield ok(f"repository {name}", f"{place} can be written")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
