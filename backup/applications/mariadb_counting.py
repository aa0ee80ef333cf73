"""What is in the tables of a MariaDB server, by its own count: exact for one moment, or bounds while it is at work.

A physical copy holds the moment at its end, at which nobody can count. So rows are counted right after it, and the
server's own counters, read shortly before that moment and after the count began, tell how many rows may have come and
gone in between. They count for all tables together, and what was rolled back, too: all they can do is make the bounds
wider. What they do not count (a truncation, rows that a foreign key's cascade deletes) makes a bound unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pymysql

from backup.applications.manifest import TableFacts, sortable
from backup.applications.mariadb_connection import SYSTEM_DATABASES, Session, quoted, rows, value, words_of
from backup.errors import SourceError

_TABLES = (
    "SELECT table_schema, table_name, engine FROM information_schema.tables"
    " WHERE table_type = 'BASE TABLE' ORDER BY table_schema, table_name"
)
_CASCADES = (
    "SELECT constraint_schema, table_name FROM information_schema.referential_constraints WHERE delete_rule = 'CASCADE'"
)
_COUNTERS = (
    "SHOW GLOBAL STATUS WHERE variable_name IN"
    " ('Handler_write', 'Handler_delete', 'Com_truncate', 'Com_drop_table', 'Com_rename_table', 'Com_alter_table')"
)


def choose(session: Session, wanted: Sequence[str]) -> list[str]:
    """Give the databases to save, in order. Raises SourceError for one that is not there."""
    there = [str(name) for (name,) in rows(session, "SHOW DATABASES") if name not in SYSTEM_DATABASES]
    for name in wanted:
        if name not in there:
            raise SourceError(f"could not find database {name}", hint=f"the server has {', '.join(there) or 'none'}")
    return sorted(wanted or there)


def tables_of(session: Session, databases: Iterable[str]) -> dict[str, str]:
    """Give ``database.table`` -> engine for ordinary tables."""
    wanted = set(databases)
    return {f"{schema}.{name}": str(engine) for schema, name, engine in rows(session, _TABLES) if schema in wanted}


def newest(session: Session, columns: Iterable[str]) -> dict[str, dict[str, str]]:
    """Give the greatest values of columns named ``database.table.column``, by table and column, as sortable text.

    Raises SourceError for a column that is not there, or whose values cannot be compared later.
    """
    found: dict[str, dict[str, str]] = {}
    for written in columns:
        database, table, column = written.split(".")
        try:
            greatest = value(session, f"SELECT max({quoted(column)}) FROM {quoted(database)}.{quoted(table)}")  # noqa: S608
            if greatest is not None:
                found.setdefault(f"{database}.{table}", {})[column] = sortable(greatest)
        except (pymysql.Error, ValueError) as error:
            raise SourceError(
                f"could not note the newest {written}: {words_of(error)}", hint="correct the job's `newest`"
            ) from None
    return found


def count(session: Session, table: str) -> int:
    """Count the rows of ``database.table``."""
    database, _, name = table.partition(".")
    return int(value(session, f"SELECT count(*) FROM {quoted(database)}.{quoted(name)}"))  # noqa: S608 - quoted


def exactly(session: Session, databases: Iterable[str], columns: Iterable[str]) -> dict[str, TableFacts]:
    """Count all tables of the databases."""
    latest = newest(session, columns)
    facts = {}
    for table in tables_of(session, databases):
        number = count(session, table)
        facts[table] = TableFacts(number, number, latest.get(table, {}))
    return facts


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server has counted since it was started."""

    values: Mapping[str, int]

    @classmethod
    def read(cls, session: Session) -> "Counters":
        """Read them."""
        return cls({str(name).lower(): int(number) for name, number in rows(session, _COUNTERS)})

    def since(self, earlier: "Counters", name: str) -> int:
        """Say how much it grew."""
        return self.values.get(name, 0) - earlier.values.get(name, 0)


def bounds(
    counted: Mapping[str, int],
    before: Counters,
    after: Counters,
    latest: Mapping[str, Mapping[str, str]],
    cascades: Iterable[str],
) -> dict[str, TableFacts]:
    """Say what a copy must hold whose moment lay between two looks at the counters, the rows being counted later.

    ``latest``: what was newest before; ``cascades``: tables from which a foreign key may delete rows.
    """
    came, went = (after.since(before, name) for name in ("handler_write", "handler_delete"))
    changed = any(after.since(before, name) for name in after.values if name.startswith("com_")) or came < 0 or went < 0
    cascading = set(cascades)
    facts = {}
    for table, number in counted.items():
        if changed:
            facts[table] = TableFacts(0, None)
            continue
        most = None if went and table in cascading else number + went
        facts[table] = TableFacts(max(0, number - came), most, {} if went else latest.get(table, {}))
    return facts


def cascading_tables(session: Session) -> list[str]:
    """Name the tables from which a foreign key may delete rows, as ``database.table``."""
    return [f"{schema}.{name}" for schema, name in rows(session, _CASCADES)]
