"""Asks PostgreSQL itself whether the structure of heaps and indexes is sound: the extension amcheck.

Since version 14 ``pg_amcheck`` walks through all of a cluster, heaps and B-trees. Where there is no such program the
extension is asked about each B-tree, which is all that it knew in version 13. Where the extension itself is not
installed nothing is said: it is a package of its own in some places.
"""

import psycopg
from psycopg import sql

from backup.applications import postgres_counting as counting
from backup.applications.postgres_connection import Server, words_of
from backup.applications.postgres_server import Cluster
from backup.errors import RestoreError, SourceError
from backup.sources.streams import output_of

_TOLD = 50
_B_TREES = """
select n.nspname, c.relname, c.oid
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
  join pg_namespace n on n.oid = c.relnamespace
where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence <> 't' and i.indisready and i.indisvalid
order by 1, 2"""


def findings(server: Server, cluster: Cluster) -> list[str]:
    """Name what is broken in any database of a private server; at most fifty things."""
    try:
        program = cluster.program("pg_amcheck")
    except RestoreError:
        return [found for name in counting.databases_of(server) for found in _indexes(server, name)][:_TOLD]
    command = [
        program, "--all", "--install-missing", "--jobs=2", "--no-password",
        f"--maintenance-db={server.arguments('postgres')}",
    ]  # fmt: skip
    said: list[bytes] = []
    try:
        said.extend(output_of(command, environment=server.environment, what="check heaps and indexes"))
    except SourceError as error:
        found = _in_lines(b"".join(said).decode("utf-8", "replace"))
        if not found and "amcheck" in str(error) and "not available" in str(error):
            return []
        return found or [str(error)]
    return []


def _indexes(server: Server, database: str) -> list[str]:
    """Check each B-tree of a database against its own order and its heap's rows."""
    found = []
    with server.connect(database) as connection:
        if not connection.execute("select true from pg_available_extensions where name = 'amcheck'").fetchone():
            return []
        connection.execute("create extension if not exists amcheck")
        place = connection.execute(
            "select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace"
            " where extname = 'amcheck'"
        ).fetchone()
        assert place is not None
        check = sql.SQL("select {}.bt_index_check(%s::oid, true)").format(sql.Identifier(str(place[0])))
        for schema, name, oid in connection.execute(_B_TREES).fetchall():
            try:
                connection.execute(check, (oid,))
            except psycopg.Error as error:
                found.append(f'btree index "{database}.{schema}.{name}": {words_of(error)}')
    return found


def _in_lines(text: str) -> list[str]:
    """Put what pg_amcheck says of an object, and its reason in the next line, into one."""
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and found:
            found[-1] += f" {line.strip()}"
        elif line.strip():
            found.append(line.strip())
    return found[:_TOLD]
