"""The one place that turns a repository's URL, in restic's way of writing it, into a storage.

It refuses to guess: a scheme without a storage behind it is an error and never a folder of that name.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from backup.errors import StorageError
from backup.storage.base import Storage
from backup.storage.local import LocalStorage

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+]*):(.*)", re.DOTALL)

_CONSTRUCTORS: Final[Mapping[str, Callable[[str], Storage]]] = {
    "local": lambda rest: LocalStorage(Path(rest).expanduser()),
}


def open_storage(url: str) -> Storage:
    """Give the storage that ``url`` names: a path, or ``scheme:rest``. Nothing is opened or contacted yet.

    Raises StorageError (permanent) for a scheme that is not known.
    """
    match = _SCHEME.fullmatch(url)
    scheme, rest = match.groups() if match else ("local", url)
    try:
        constructor = _CONSTRUCTORS[scheme]
    except KeyError:
        known = ", ".join(_CONSTRUCTORS)
        raise StorageError(
            f"could not open {scheme}:...: no storage of this kind (known: {known})",
            permanent=True,
            hint="write a path, or ./name for a folder whose name has a colon",
        ) from None
    return constructor(rest)
