"""Which of PostgreSQL's own programs this machine has, by major version: in PATH, and in the folders of packages.

A dump wants those of the server's version or newer, a data directory those of exactly its own. Nothing here needs
libpq: who only brings files back does not wait for it to be loaded.
"""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from backup.errors import RestoreError, SourceError
from backup.sources.streams import output_of

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
_WRAPPER = "pg_wrapper"
"""Debian's, which takes as long as what it starts, and starts no more than what lies in the folders of packages."""


def server_program(name: str, major: int, programs: Path | None = None) -> str:
    """Return the path of a program of exactly this major version. Raises RestoreError."""
    for version, path in installed(name, programs):
        if version == major:
            return path
    raise RestoreError(
        f"could not find {name} of PostgreSQL {major}, which these data need",
        hint=f"install postgresql-{major}, or name its folder as `programs`; no server of it has to run",
    )


def installed(name: str, programs: Path | None = None) -> Iterator[tuple[int, str]]:
    """Give each installed program of this name with its major version, what the settings name first."""
    folders = [str(programs)] if programs else []
    folders += [*os.environ.get("PATH", "").split(os.pathsep)]
    folders += [folder for place in _PLACES for folder in sorted(glob.glob(place), reverse=True)]
    for folder in dict.fromkeys(folders):
        path = shutil.which(name, path=folder)
        if path and (major := _major(path)):
            yield major, path


@cache
def _major(path: str) -> int:
    """Tell a program's major version: by its folder, or else by asking it; 0 when it does not say, or is none."""
    folder, name = os.path.split(os.path.realpath(path))
    if name == _WRAPPER:
        return 0
    for part in reversed(folder.split(os.sep)):
        digits = part.removeprefix("pgsql-").removeprefix("postgresql@").removeprefix("postgresql-")
        if digits.isdigit():
            return int(digits)
    with suppress(SourceError):
        said = b"".join(output_of([path, "--version"], what="ask for a version")).decode(errors="replace")
        if found := re.search(r" (\d+)[.a-z]", said):
            return int(found[1])
    return 0
