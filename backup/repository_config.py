"""The config of a repository: its version, its id, and the secret from which cut points are keyed; and whether there is
one at all.

One JSON document, sealed like everything else, written once and never changed. Source: restic's doc/design.rst,
"Repository Layout".
"""

from dataclasses import dataclass

import orjson

from backup.errors import CorruptData, FileMissing, UnsupportedRepository
from backup.polynomial import DEGREE, is_irreducible
from backup.storage.base import CONFIG_NAME, FileKind, Storage


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """What the config file says. The polynomial is the secret."""

    version: int
    id: str
    chunker_polynomial: int


def format_config(config: RepositoryConfig) -> bytes:
    """Write the document."""
    return orjson.dumps(
        {"version": config.version, "id": config.id, "chunker_polynomial": f"{config.chunker_polynomial:x}"}
    )


def parse_config(plain: bytes) -> RepositoryConfig:
    """Read the document. Raises CorruptData, UnsupportedRepository."""
    try:
        document = orjson.loads(plain)
        version, name = document["version"], document["id"]
        polynomial = int(document["chunker_polynomial"], 16)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"it is not valid: {error}", name=CONFIG_NAME) from error
    if version not in {1, 2}:
        raise UnsupportedRepository(
            f"could not open a repository of version {version}: only 1 and 2 are known",
            hint="a newer keepwatch may know it",
        )
    if polynomial.bit_length() - 1 > DEGREE or not is_irreducible(polynomial):
        raise CorruptData("its chunker polynomial is reducible", name=CONFIG_NAME)
    return RepositoryConfig(version, name, polynomial)


def holds_any(storage: Storage) -> bool:
    """Whether anything of a repository is in the storage; a storage that is not there yet holds nothing."""
    for kind in (FileKind.CONFIG, FileKind.KEY, FileKind.SNAPSHOT):
        try:
            if next(iter(storage.list(kind)), None) is not None:
                return True
        except FileMissing:
            continue
    return False
