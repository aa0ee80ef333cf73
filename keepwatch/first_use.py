"""What only the first use of the embedded default is concerned with: a password for each of its repositories.

A repository that the operator configured gets its password from the operator; making one up for it would hide a
mistyped path until the day it is needed.
"""

from pathlib import Path

from config.secrets import SecretError, create_password_file
from config.settings import Settings


def make_passwords(settings: Settings) -> list[Path]:
    """Make the missing password files and return them. Raises SecretError.

    Refuses when the repository is there and only its password is gone: a new password would not open it.
    """
    made = []
    for repository in settings.repositories.values():
        file = repository.password_file
        if file is None or file.exists():
            continue
        if Path(repository.url).joinpath("config").exists():
            raise SecretError(
                f"cannot open repository {repository.url}: its password file {file} is gone",
                "put the file back from your safe; without the password nobody can read these backups",
            )
        if create_password_file(file):
            made.append(file)
    return made


def is_first_use(settings: Settings) -> bool:
    """Tell whether nothing is there of any repository: neither its password nor itself."""
    return all(
        _is_missing(repository.password_file) and _is_missing(Path(repository.url) / "config")
        for repository in settings.repositories.values()
        if repository.password_file is not None
    )


def _is_missing(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError:  # somebody else's, so somebody used it
        return False
    return False
