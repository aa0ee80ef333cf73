"""What is in the tables of a PostgreSQL server, by its own count: exact for one moment, or bounds while it is at work.

Counted are ordinary tables whose rows survive a restore: no system catalogs, no unlogged or temporary tables, none
that an extension owns. A base backup holds the state of its last WAL record, at which nobody can count. So rows are
counted right after it, and the server's own statistics, read before it and after the count, tell how many rows may
have come and gone in between; tables that were made, emptied or rewritten meanwhile are only said to exist.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from backup.applications.manifest import TableFacts
from backup.applications.postgres_connection import Server, words_of
from backup.errors import SourceError

Connection = psycopg.Connection[tuple[Any, ...]]

_DATABASES = "select datname from pg_database where datallowconn and not datistemplate order by datname"
_TABLES = """
select n.nspname, c.relname, c.oid, c.relfilenode, coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_del, 0)
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_stat_all_tables s on s.relid = c.oid
where c.relkind = 'r' and c.relpersistence = 'p'
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and not exists (
    select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2"""
_COLUMN = """
select true from pg_attribute a where a.attrelid = %s and a.attname = %s and a.attnum > 0 and not a.attisdropped"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the catalog and the statistics have it at one moment."""

    schema: str
    name: str
    oid: int
    file: int
    """Number of the file it lies in; another one after it was truncated or rewritten."""
    inserted: int
    """Rows ever inserted and deleted, committed or not."""
    deleted: int

    @property
    def identifier(self) -> sql.Identifier:
        """Its name, quoted."""
        return sql.Identifier(self.schema, self.name)


def databases_of(server: Server, chosen: Iterable[str] = ()) -> list[str]:
    """Name the databases of a server, or those ``chosen``, which must be there. Raises SourceError."""
    with server.connect() as connection:
        there = [str(name) for (name,) in connection.execute(_DATABASES)]
    wanted = list(chosen)
    for name in wanted:
        if name not in there:
            raise SourceError(f"could not find database {name}", hint=f"the server has {', '.join(there)}")
    return wanted or there


def tables_of(connection: Connection) -> dict[str, Table]:
    """Look at all tables of a database, by ``schema.table``."""
    found = (Table(*row) for row in connection.execute(_TABLES))
    return {f"{table.schema}.{table.name}": table for table in found}


def count(connection: Connection, table: Table) -> int:
    """Count the rows of one table."""
    statement = sql.SQL("select count(*) from only {}").format(table.identifier)
    return int(_value(connection, statement))


def newest(connection: Connection, tables: Mapping[str, Table], columns: Iterable[str]) -> dict[str, dict[str, str]]:
    """Give the greatest values of the named columns that this database has, by table and column, as sortable text."""
    database, found = connection.info.dbname, dict[str, dict[str, str]]()
    for written in columns:
        *place, schema, name, column = written.split(".")
        table = tables.get(f"{schema}.{name}")
        if (place and place[0] != database) or table is None:
            continue
        if not connection.execute(_COLUMN, (table.oid, column)).fetchone():
            raise SourceError(
                f"could not find column {column} of table {schema}.{name} in database {database}",
                hint="correct `newest` in the settings of the job's source",
            )
        statement = sql.SQL("select max({}) from only {}").format(sql.Identifier(column), table.identifier)
        value = _value(connection, statement)
        if value is not None:
            found.setdefault(f"{schema}.{name}", {})[column] = _sortable(value, written)
    return found


def exactly(connection: Connection, columns: Iterable[str], *, count_rows: bool = True) -> dict[str, TableFacts]:
    """Count all tables of a database in the connection's transaction, by ``database.schema.table``.

    Raises SourceError when the user may not read one.
    """
    try:
        tables = tables_of(connection)
        latest = newest(connection, tables, columns)
        facts = {}
        for name, table in tables.items():
            rows = count(connection, table) if count_rows else None
            facts[f"{connection.info.dbname}.{name}"] = TableFacts(rows or 0, rows, latest.get(name, {}))
    except psycopg.Error as error:
        raise _uncountable(connection, error) from None
    return facts


@dataclass(frozen=True, slots=True)
class Before:
    """A database as it was before a base backup began."""

    tables: Mapping[str, Table]
    newest: Mapping[str, Mapping[str, str]]


def before(connection: Connection, columns: Iterable[str]) -> Before:
    """Look at a database before a base backup begins. Raises SourceError."""
    try:
        tables = tables_of(connection)
        return Before(tables, newest(connection, tables, columns))
    except psycopg.Error as error:
        raise _uncountable(connection, error) from None


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of the tables, right after a base backup."""

    tables: Mapping[str, Table]
    rows: Mapping[str, int]


def after(connection: Connection) -> Counted:
    """Count all tables of a database right after a base backup. Raises SourceError."""
    try:
        tables = tables_of(connection)
        return Counted(tables, {name: count(connection, table) for name, table in tables.items()})
    except psycopg.Error as error:
        raise _uncountable(connection, error) from None


def bounds(earlier: Before, counted: Counted | None, later: Mapping[str, Table]) -> dict[str, TableFacts]:
    """Say what a base backup must hold, by ``schema.table``; one that may not have been in it is left out.

    ``later``: the tables and statistics once the statistics of everything that was committed before the count must
    have arrived. Statistics only grow, and count what was rolled back, too: all they can do is make the bounds wider.
    """
    facts = {}
    for name, old in earlier.tables.items():
        new, latest = later.get(name), earlier.newest.get(name, {})
        if new is None or new.oid != old.oid:
            continue
        came, went = new.inserted - old.inserted, new.deleted - old.deleted
        rows = counted.rows.get(name) if counted is not None else None
        same = new.file == old.file and came >= 0 and went >= 0
        if rows is None or not same:
            facts[name] = TableFacts(0, None, latest if same and not went else {})
        else:
            facts[name] = TableFacts(max(0, rows - came), rows + went, latest if not went else {})
    return facts


def _value(connection: Connection, statement: sql.Composed) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


def _sortable(value: object, column: str) -> str:
    match value:
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case int() | Decimal() | float() if not isinstance(value, bool) and value >= 0:
            return f"{value:040.10f}"
    raise SourceError(
        f"could not keep the newest {column}: it is neither a moment, nor a date, nor a number from 0 up",
        hint="name another column in `newest`",
    )


def _uncountable(connection: Connection, error: psycopg.Error) -> SourceError:
    return SourceError(
        f"could not count the tables of database {connection.info.dbname}: {words_of(error)}",
        hint="grant the user pg_read_all_data, or set count_rows = false",
    )
