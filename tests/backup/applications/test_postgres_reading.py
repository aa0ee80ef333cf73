"""Every row of a restored server is read once, and what cannot be read is named by its table."""

import signal
from collections.abc import Iterator

import pytest

from backup.applications.postgres_connection import Server
from backup.applications.postgres_reading import rows_read
from backup.errors import ApplicationError
from tests.servers.postgres import Postgres, postgres
from tests.servers.private import private_folder

ODD = """
create table big as select n, repeat('x', 1000) as filler from generate_series(1, 40000) n;
create table parent (n int); create table child () inherits (parent);
insert into parent values (1); insert into child values (2), (3);
create table "50% of "" it" (n int, twice int generated always as (n * 2) stored);
insert into "50% of "" it" values (1);
create table nothing (); insert into nothing default values;
create table year (y int) partition by list (y); create table year_1 partition of year for values in (1);
insert into year values (1); create unlogged table draft as select 1 as n;
create materialized view seen as select * from big limit 1; create temporary table gone as select 1 as n;
create table secret as select 1 as n; alter table secret enable row level security;
alter table secret force row level security;
select lo_from_bytea(0, repeat('x', 5000)::bytea)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with private_folder("reading") as folder, postgres(folder) as made:
        yield made


def test_each_row_of_all_tables_is_read_once_by_several_connections(server: Postgres) -> None:
    server.sql("create database odd")
    server.sql(ODD, "odd")
    assert int(server.sql("select pg_relation_size('big')", "odd")) > 32 << 20, "it is read in one piece"
    assert rows_read(Server.parse(server.socket_dsn), "odd", jobs=2) == {
        "odd.public.big": 40000,
        "odd.public.parent": 1,
        "odd.public.child": 2,
        'odd.public.50% of " it': 1,
        "odd.public.nothing": 1,
        "odd.public.year_1": 1,
        "odd.public.draft": 1,
        "odd.public.secret": 1,
        "odd.pg_catalog.pg_largeobject": 3,
    }


def test_a_table_with_a_broken_page_is_named(server: Postgres) -> None:
    server.sql("create database torn")
    server.sql("create table whole as select 1; create table broken as select generate_series(1, 1000)", "torn")
    file = server.data / server.sql("select pg_relation_filepath('broken')", "torn")
    server.stop(signal.SIGINT)
    content = bytearray(file.read_bytes())
    content[8192 : 8192 + 24] = b"\xff" * 24  # the second page's header
    file.write_bytes(content)
    server.start()
    with pytest.raises(ApplicationError, match=r"could not read table torn\.public\.broken: .*invalid page"):
        rows_read(Server.parse(server.socket_dsn), "torn", jobs=2)
    assert server.sql("select count(*) from whole", "torn") == "1"
