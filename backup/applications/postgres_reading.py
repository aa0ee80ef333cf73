"""Reads every row of a private PostgreSQL server as a dump would, and counts the rows on the way.

The server writes them itself, as text into nothing: each value is fetched from where it lies, unpacked and put into
words, and no byte of it goes to another process. Several connections share the tables, the large ones by ranges of
pages, so nobody else may write meanwhile; and the user has to be a superuser. What is read is what ``pg_dump`` reads:
tables, those that an extension says hold the operator's own rows, and large objects.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue

import psycopg
from psycopg import sql

from backup.applications.postgres_connection import Server, words_of
from backup.applications.postgres_server import judged
from backup.errors import ApplicationError

_PIECE_PAGES = 4096
"""What one statement reads of a large table: 32 MiB, so that connections end about together."""
_FINDS_PAGES = 140000
"""Since version 14 a range of pages is read without the pages before it."""
_TABLES = """
select n.nspname, c.relname,
  case when a.amname = 'heap' then pg_relation_size(c.oid) / current_setting('block_size')::int else 0 end as pages
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_am a on a.oid = c.relam
where c.relkind = 'r' and c.relpersistence <> 't' and (
  c.oid = 'pg_catalog.pg_largeobject'::regclass
  or n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (
    not exists (
      select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    or exists (select from pg_extension e where c.oid = any(e.extconfig))))
order by pages desc, 1, 2"""


@dataclass(frozen=True, slots=True)
class _Piece:
    schema: str
    table: str
    first_page: int = 0
    end_page: int | None = None
    """None for all that follow."""

    @property
    def rows(self) -> sql.Composable:
        """What COPY is to read: the table itself, or a query for a range of its pages."""
        table = sql.Identifier(self.schema, self.table)
        if not self.first_page and self.end_page is None:
            return table
        bounds = [sql.SQL("ctid >= {}::tid").format(f"({self.first_page},0)")]
        if self.end_page is not None:
            bounds.append(sql.SQL("ctid < {}::tid").format(f"({self.end_page},0)"))
        return sql.SQL("(select * from only {} where {})").format(table, sql.SQL(" and ").join(bounds))


def rows_read(server: Server, database: str, *, jobs: int) -> dict[str, int]:
    """Read all rows of a database; gives how many there are, by ``database.schema.table``.

    Raises SourceError when the server cannot be reached, ApplicationError by the name of a table that cannot be read,
    RestoreError when it is for want of a library on this machine.
    """
    with ExitStack() as held:
        connection = held.enter_context(server.connect(database))
        try:
            found = connection.execute(_TABLES).fetchall()
        except psycopg.Error as error:
            raise ApplicationError(f"could not list the tables of database {database}: {words_of(error)}") from None
        splits = connection.info.server_version >= _FINDS_PAGES
        pieces = [piece for table in found for piece in _pieces(table, splits=splits)]
        free: SimpleQueue[psycopg.Connection[tuple[object, ...]]] = SimpleQueue()
        free.put(connection)
        jobs = min(jobs, len(pieces))
        for _ in range(jobs - 1):
            free.put(held.enter_context(server.connect(database)))

        def read(piece: _Piece) -> int:
            mine = free.get()
            try:
                return _read(mine, piece)
            finally:
                free.put(mine)

        rows: dict[str, int] = {}
        with ThreadPoolExecutor(jobs, thread_name_prefix="read") as threads:
            try:
                for piece, count in zip(pieces, threads.map(read, pieces), strict=True):
                    name = f"{database}.{piece.schema}.{piece.table}"
                    rows[name] = rows.get(name, 0) + count
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
    return rows


def _pieces(table: tuple[object, ...], *, splits: bool) -> Iterator[_Piece]:
    schema, name, pages = str(table[0]), str(table[1]), int(str(table[2]))
    starts = list(range(0, pages, _PIECE_PAGES)) if splits else []
    ends: list[int | None] = [*starts[1:], None]
    for first, end in zip(starts or [0], ends, strict=True):
        yield _Piece(schema, name, first, end)


def _read(connection: psycopg.Connection[tuple[object, ...]], piece: _Piece) -> int:
    # in the database's own encoding, as a dump is: another one may lack a character
    encoding = connection.info.parameter_status("server_encoding")
    statement = sql.SQL("copy {} to '/dev/null' (encoding {})").format(piece.rows, encoding)
    try:
        return connection.execute(statement).rowcount
    except psycopg.Error as error:
        name = f"{connection.info.dbname}.{piece.schema}.{piece.table}"
        raise judged(f"could not read table {name}", f"error: {words_of(error)}") from None
