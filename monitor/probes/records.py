"""Where records to compare come from: a query, CSV, JSON, a web address, or the files of a folder.

A record is a dictionary of fields. Each kind yields its records one by one; none knows what they are compared with.
"""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from monitor.probes.assertions import NotThere, at_path
from monitor.probes.freshness import fetch_json
from monitor.probes.sql import database
from monitor.result import ProbeError

Record = Mapping[str, Any]
_LONGEST_FIELD = 1 << 20


class Records(Protocol):
    """One side of a comparison."""

    def read(self, timeout_seconds: float) -> Iterator[Record]:
        """Yield every record. Raises ProbeError."""
        ...


@dataclass(frozen=True, slots=True)
class SqlRecords:
    """The rows of a query."""

    dsn: str
    query: str

    def read(self, timeout_seconds: float) -> Iterator[Record]:
        """Ask the database."""
        with database(self.dsn, timeout_seconds) as opened:
            found = opened.read(self.query)
            for row in found.rows:
                yield dict(zip(found.columns, row, strict=True))


@dataclass(frozen=True, slots=True)
class CsvRecords:
    """The lines of a CSV file below its heading; the delimiter is the one of comma, semicolon and tab it has most."""

    path: Path

    def read(self, timeout_seconds: float) -> Iterator[Record]:  # noqa: ARG002 - the child is killed in time
        """Read the file."""
        csv.field_size_limit(_LONGEST_FIELD)
        try:
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                heading = file.readline(_LONGEST_FIELD)
                file.seek(0)
                delimiter = max(",;\t", key=heading.count)
                for row in csv.DictReader(file, delimiter=delimiter):
                    yield {str(name).strip().lower(): value for name, value in row.items() if name is not None}
        except (OSError, csv.Error) as error:
            raise ProbeError(f"reading {self.path}: {_reason(error)}") from error


@dataclass(frozen=True, slots=True)
class JsonRecords:
    """The objects of a list in a JSON file."""

    path: Path
    at: str = ""

    def read(self, timeout_seconds: float) -> Iterator[Record]:  # noqa: ARG002 - the child is killed in time
        """Read the file."""
        try:
            document = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ProbeError(f"reading {self.path}: {_reason(error)}") from error
        yield from _objects(document, self.at, str(self.path))


@dataclass(frozen=True, slots=True)
class HttpRecords:
    """The same from a web address."""

    url: str
    at: str
    headers: Mapping[str, str]

    def read(self, timeout_seconds: float) -> Iterator[Record]:
        """Fetch the document."""
        yield from _objects(fetch_json(self.url, self.headers, timeout_seconds), self.at, "the answer")


@dataclass(frozen=True, slots=True)
class FolderRecords:
    """The files below a folder whose paths match ``pattern``; its named groups are their fields."""

    path: Path
    pattern: str

    def read(self, timeout_seconds: float) -> Iterator[Record]:  # noqa: ARG002 - the child is killed in time
        """Walk the folder. One that cannot be read in whole cannot be compared."""
        pattern = re.compile(self.pattern)

        def fail(error: OSError) -> None:
            raise ProbeError(f"reading {error.filename}: {_reason(error)}") from error

        for folder, _, names in os.walk(self.path, onerror=fail):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self.path)
                if match := pattern.search(path):
                    yield match.groupdict() | self._about(path)

    def _about(self, path: str) -> dict[str, Any]:
        try:
            found = os.stat(self.path / path)
        except OSError:
            return {"path": path}
        modified = datetime.fromtimestamp(found.st_mtime, UTC)
        return {"path": path, "size_bytes": found.st_size, "modified_at": modified}


def _objects(document: Any, at: str, what: str) -> Iterator[Record]:
    try:
        found = at_path(document, at)
    except NotThere as reason:
        raise ProbeError(f"reading {what}: {reason}") from reason
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ProbeError(f"reading {what}: {at or 'the document'} is no list of objects")
    for one in found:
        yield {str(name).lower(): value for name, value in one.items()}


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
