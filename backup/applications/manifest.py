"""What a database held when it was saved, by its own count: written into each snapshot, compared after each restore.

A manifest stands in the snapshot as ``manifest.json`` beside the data, so that it comes back with them and plain
restic shows it. Databases move while they are saved: a count is a range, as narrow as the way of saving allows.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self

FILE_NAME = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What is known of one table (or key space, or collection)."""

    rows_min: int
    """No fewer rows can have come back."""
    rows_max: int | None
    """No more; None where nobody can say."""
    newest: Mapping[str, str] = field(default_factory=dict)
    """Column that the operator named -> its greatest value, as text that sorts as the values do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was in a database (or several, tables then are ``database.schema.table``)."""

    kind: str
    """``postgres``, ``mariadb``, ``sqlite``, ``redis``."""
    version: str
    """Of the server, in its own words."""
    taken_at: datetime
    """The moment of the data, aware UTC: nothing that was committed later need be in them."""
    tables: Mapping[str, TableFacts] = field(default_factory=dict)
    size_bytes: int = 0
    position: str = ""
    """WAL or binlog position of that moment; empty where there is none."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What only this kind of database needs for a restore; plain JSON values."""

    @property
    def rows(self) -> int:
        """Of all tables together, at least."""
        return sum(table.rows_min for table in self.tables.values())

    def to_json(self) -> bytes:
        """Write it, readable for people."""
        tables = {
            name: {"rows": [facts.rows_min, facts.rows_max], "newest": dict(facts.newest)}
            for name, facts in sorted(self.tables.items())
        }
        value = {
            "format": _FORMAT, "kind": self.kind, "version": self.version, "taken_at": self.taken_at.isoformat(),
            "position": self.position, "size_bytes": self.size_bytes, "details": dict(self.details), "tables": tables,
        }  # fmt: skip
        return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what ``to_json`` wrote. Raises ValueError for anything else, naming what is wrong."""
        try:
            value = json.loads(text)
            if value["format"] != _FORMAT:
                raise ValueError(f"manifest of format {value['format']!r}, and this program reads {_FORMAT}")
            tables = {
                name: TableFacts(facts["rows"][0], facts["rows"][1], facts["newest"])
                for name, facts in value["tables"].items()
            }
            return cls(
                value["kind"], value["version"], datetime.fromisoformat(value["taken_at"]), tables,
                value["size_bytes"], value["position"], value["details"],
            )  # fmt: skip
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a manifest: {type(error).__name__} {error}") from None


def sortable(value: object) -> str:
    """Write a column's greatest value as text that sorts as values do; moments without a zone count as UTC.

    Raises ValueError for what has no such text, such as a number below 0.
    """
    match value:
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case str():
            return value
        case int() | Decimal() | float() if not isinstance(value, bool) and value >= 0:
            return f"{value:040.10f}"
    raise ValueError("it is neither a moment, nor a date, nor text, nor a number from 0 up")


def differences(saved: Manifest, found: Manifest) -> Iterator[str]:
    """Yield how ``found``, counted after a restore, falls short of ``saved``, by the name of the table."""
    for name, facts in sorted(saved.tables.items()):
        here = found.tables.get(name)
        if here is None:
            yield f"table {name} is not there"
            continue
        if here.rows_max is not None and here.rows_max < facts.rows_min:
            yield f"table {name} has {here.rows_max} rows, and had {facts.rows_min} when it was saved"
        if facts.rows_max is not None and here.rows_min > facts.rows_max:
            yield f"table {name} has {here.rows_min} rows, and had {facts.rows_max} when it was saved"
        for column, newest in sorted(facts.newest.items()):
            value = here.newest.get(column)
            if value is None or value < newest:
                yield f"table {name}: the newest {column} is {value or 'nothing'}, and was {newest} when it was saved"
