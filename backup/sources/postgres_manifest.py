"""The list that a PostgreSQL server makes of the files of a base backup: ``backup_manifest``, read and written anew.

The format is that of "Backup Manifest Format" in PostgreSQL's manual: JSON, whose last entry is the SHA-256 of all text
before it. Checksums of files are CRC-32C, whose bytes PostgreSQL writes in the order of its machine: taken for lowest
first here. What is not understood is carried over as it came.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from backup.errors import SourceError

_ALGORITHM = "CRC32C"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the list says of a file."""

    size: int
    checksum: int | None
    """CRC-32C; None when the list has none, which PostgreSQL allows."""


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """The list as a document; ``files`` are its entries as they came, in their order."""

    document: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    """Path below the data directory -> entry."""

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Raise SourceError for what is no such list, or not as it was written."""
        try:
            document = json.loads(text)
            files = {_path(entry): entry for entry in document["Files"]}
            checksum = str(document["Manifest-Checksum"])
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"could not understand a base backup's manifest: {error!r}") from None
        if hashlib.sha256(text[: text.rindex(b'"Manifest-Checksum"')]).hexdigest() != checksum:
            raise SourceError("could not use a base backup's manifest: its checksum is not that of its text")
        return cls(document, files)

    def listed(self, path: str) -> Listed | None:
        """Tell what the list says of a file, by its path below the data directory."""
        entry = self.files.get(path)
        if entry is None:
            return None
        known = entry.get("Checksum-Algorithm") == _ALGORITHM
        checksum = int.from_bytes(bytes.fromhex(entry["Checksum"]), "little") if known else None
        return Listed(int(entry["Size"]), checksum)

    def replacing(self, files: Mapping[str, tuple[str, Listed]]) -> bytes:
        """Write the list with other files in the place of some: path in this list -> (path, what is to be said of it).

        Raises SourceError when one of them is not in the list.
        """
        if unknown := files.keys() - self.files.keys():
            raise SourceError(f"could not list the base backup's files: the server sent {min(unknown)} unlisted")
        entries = [_entry(entry, *files[path]) if path in files else entry for path, entry in self.files.items()]
        said = {**self.document, "Files": entries}
        del said["Manifest-Checksum"]
        text = "{ " + "".join(f"{json.dumps(name)}: {_in_lines(value)},\n" for name, value in said.items())
        checksum = hashlib.sha256(text.encode()).hexdigest()  # of whole lines: its own has to be the last
        return f'{text}"Manifest-Checksum": "{checksum}"}}\n'.encode()


def _path(entry: Mapping[str, Any]) -> str:
    if "Path" in entry:
        return str(entry["Path"])
    return bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", "surrogateescape")


def _entry(entry: Mapping[str, Any], path: str, listed: Listed) -> Mapping[str, Any]:
    """Give an entry anew, with the path and what is known of the file."""
    try:
        path.encode()
        named = {"Path": path}
    except UnicodeEncodeError:
        named = {"Encoded-Path": path.encode("utf-8", "surrogateescape").hex()}
    found: dict[str, Any] = {**named, "Size": listed.size, "Last-Modified": entry["Last-Modified"]}
    if listed.checksum is not None:
        found |= {"Checksum-Algorithm": _ALGORITHM, "Checksum": listed.checksum.to_bytes(4, "little").hex()}
    return found


def _in_lines(value: object) -> str:
    """Write a list with an item a line, as the server does, and anything else in one."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
