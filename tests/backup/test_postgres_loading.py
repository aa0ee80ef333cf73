"""Dumps are loaded as pg_restore loads them, over several connections; what goes wrong is named, and taken back."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.applications.dump_files import DumpFiles, RestoredFiles
from backup.applications.manifest import Manifest
from backup.applications.postgres_connection import Server
from backup.applications.postgres_loading import load
from backup.applications.postgres_programs import installed
from backup.applications.postgres_rows import load_rows
from backup.applications.postgres_script import Lot, Statement, read_script
from backup.errors import CorruptData, RestoreError
from tests.backup import odd_database as odd
from tests.servers import other_postgres
from tests.servers.postgres import Postgres, postgres
from tests.servers.private import private_folder, run

AT = datetime(2026, 3, 1, tzinfo=UTC)
A_BAD_ROW = """
create function fits(int) returns bool language sql as 'select true';
create table ledger (n int check (fits(n)), note text);
insert into ledger select case n when 31000 then -7 else n end, repeat('x', 80) from generate_series(1, 40000) n;
create or replace function fits(int) returns bool language sql as 'select $1 > 0'
"""
SCRIPT = rb"""--
-- Name: odd; it's

\restrict word
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

-- Data for Name: t
COPY "a;
b".t (n, "FROM stdin;
") FROM stdin;
1	x
\N	\\.
	\.y
\.


COPY public.empty (n) FROM stdin;
\.

COPY public.nothing  FROM stdin;


\.

SELECT pg_catalog.setval('public."it''s; --"', 3 - 1, true);
\unrestrict word
"""
TABLE = b'COPY "a;\nb".t (n, "FROM stdin;\n") FROM stdin;'


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with private_folder("loading") as folder, postgres(folder) as made:
        yield made


def manifest(*databases: str, major: int = 15) -> Manifest:
    files = {name: f"{name}.dump" for name in databases}
    return Manifest("postgres", "", AT, details={"method": "logical", "databases": files, "major": major})


def compare(server: Postgres, folder: Path, *, major: int = 15) -> None:
    """Load the dump of ``odd`` both ways."""
    command = [server.program("pg_restore"), "--create", "--exit-on-error", "--no-tablespaces", "-j2", "-d",
               server.socket_dsn, folder / "odd.dump"]  # fmt: skip
    target = Server.parse(server.socket_dsn, programs=server.programs)
    assert load(target, RestoredFiles(folder), manifest("odd", major=major), jobs=2) == ["odd"]
    server.sql("alter database odd rename to ours")
    run(command, server.folder)
    ours, theirs = odd.told(server, "ours"), odd.told(server, "odd")
    assert ours == theirs
    assert sum(line.startswith("COPY ") for line in ours) > 12000


def test_everything_odd_is_loaded_as_pg_restore_loads_it(server: Postgres) -> None:
    odd.furnish(server)
    odd.dump(server, "odd", server.folder)
    before = odd.told(server, "odd")
    server.sql("alter database odd rename to origin")
    compare(server, server.folder)
    assert odd.told(server, "ours") == before


@pytest.mark.campaign
@pytest.mark.parametrize(("old", "new"), [(13, None), (None, 17), (13, 17), (17, 17)])
def test_everything_odd_goes_to_a_newer_version(old: int | None, new: int | None) -> None:
    before, after = (other_postgres.programs(major) if major else None for major in (old, new))
    with (
        private_folder("old") as one,
        private_folder("new") as other,
        postgres(one, programs=before) as server,
        postgres(other, programs=after) as newer,
    ):
        odd.furnish(server)
        odd.dump(server, "odd", other)
        newer.sql(odd.ROLES)
        compare(newer, other, major=old or 15)


def test_a_row_that_the_server_refuses_is_named_with_its_place_and_nothing_of_its_table_stays(server: Postgres) -> None:
    server.sql("create database refused")
    server.sql(A_BAD_ROW, "refused")
    odd.dump(server, "refused", server.folder)
    server.sql("drop database refused")
    with pytest.raises(RestoreError) as raised:
        load(Server.parse(server.dsn), RestoredFiles(server.folder), manifest("refused"), jobs=2)
    said = str(raised.value)
    assert said.startswith("could not load database refused: COPY failed for table public.ledger: new row for relation")
    assert 'DETAIL: Failing row contains (-7, xxx' in said
    assert 'CONTEXT: COPY ledger, line 31000: "-7' in said
    assert raised.value.hint == "drop database refused before the next attempt: a part of it may be there"
    assert sessions(server, "refused") == []


@dataclass
class Failing:
    """The files of a dump; something happens when so much of the rows was read."""

    files: DumpFiles
    happens: Callable[[], None]
    after_bytes: int = 2 << 20

    def has(self, name: str) -> bool:
        return self.files.has(name)

    def tail(self, name: str) -> bytes:
        return self.files.tail(name)

    def read(self, name: str) -> Iterator[bytes]:
        done = 0
        for part in self.files.read(name):
            yield part
            if done < self.after_bytes <= done + len(part):
                self.happens()
            done += len(part)


def bulk(server: Postgres, database: str) -> None:
    server.sql(f"create database {database}")
    server.sql("create table bulk as select n, repeat(md5(n::text), 4) from generate_series(1, 60000) n", database)
    odd.dump(server, database, server.folder)
    server.sql(f"drop database {database}")


def sessions(server: Postgres, database: str) -> list[str]:
    found = server.sql(f"select query from pg_stat_activity where datname = '{database}' and state <> 'idle'")
    return found.splitlines()


@pytest.mark.parametrize("failure", [CorruptData("could not read blob 1234"), KeyboardInterrupt()])
def test_what_breaks_off_is_taken_back(server: Postgres, failure: BaseException) -> None:
    name = f"torn_{type(failure).__name__.lower()}"
    bulk(server, name)

    def fail() -> None:
        raise failure

    files = Failing(RestoredFiles(server.folder), fail)
    with pytest.raises(type(failure)):
        load(Server.parse(server.dsn), files, manifest(name), jobs=2)
    assert sessions(server, name) == []
    assert server.sql("select count(*) from bulk", name) == "0"


def test_a_server_that_dies_half_way_is_told(tmp_path: Path) -> None:
    with private_folder("doomed") as folder, postgres(folder) as doomed:
        bulk(doomed, "bulk")
        files = Failing(RestoredFiles(folder), lambda: doomed.stop(signal.SIGQUIT))
        with pytest.raises(RestoreError, match=r"could not load database bulk: .*(?:server|connection)"):
            load(Server.parse(doomed.dsn), files, manifest("bulk"), jobs=2)


def test_tables_that_have_keys_already_are_filled_in_the_order_of_the_dump(server: Postgres) -> None:
    server.sql("create database keyed")
    server.sql("create table parent (n int primary key); create table child (n int references parent)", "keyed")
    rows = "".join(f"{n}\n" for n in range(100000))
    script = f"COPY public.parent (n) FROM stdin;\n{rows}\\.\nCOPY public.child (n) FROM stdin;\n99999\n\\.\n"
    load_rows(Server.parse(server.dsn), "keyed", [script.encode()], 2)
    assert server.sql("select n, (select count(*) from parent) from child", "keyed") == "99999|100000"


# ---- the script


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 10000])
def test_a_script_is_understood_wherever_its_parts_end(length: int) -> None:
    found = list(read_script(SCRIPT[start : start + length] for start in range(0, len(SCRIPT), length)))
    statements = [item for item in found if isinstance(item, Statement)]
    assert [item.text for item in statements] == [
        b"SET client_encoding = 'UTF8';", b"SELECT pg_catalog.set_config('search_path', '', false);",
        b"SELECT pg_catalog.setval('public.\"it''s; --\"', 3 - 1, true);",
    ]  # fmt: skip
    assert [item.is_for_the_session for item in statements] == [True, True, False]
    lots = [item for item in found if isinstance(item, Lot)]
    rows = {lot.copy.statement: b"" for lot in lots}
    for lot in lots:
        assert lot.rows.endswith(b"\n")
        assert lot.first == rows[lot.copy.statement].count(b"\n") + 1
        rows[lot.copy.statement] += lot.rows
    assert rows == {TABLE: b"1\tx\n\\N\t\\\\.\n\t\\.y\n", b"COPY public.nothing  FROM stdin;": b"\n\n"}
    assert {lot.copy.table for lot in lots} == {b'"a;\nb".t', b"public.nothing"}


@pytest.mark.parametrize("length", [SCRIPT.index(b"\\N"), SCRIPT.index(b"setval"), SCRIPT.index(b"FROM stdin") + 3])
def test_a_script_that_ends_early_is_no_whole_one(length: int) -> None:
    with pytest.raises(RestoreError, match="could not read what pg_restore wrote"):
        list(read_script([SCRIPT[:length]]))


def test_debians_wrapper_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "pg_wrapper"
    wrapper.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked; echo pg_dump 15.1")
    wrapper.chmod(0o755)
    (tmp_path / "pg_dump").symlink_to(wrapper)
    (tmp_path / "psql").write_text(wrapper.read_text())
    (tmp_path / "psql").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert str(tmp_path / "pg_dump") not in {path for _, path in installed("pg_dump")}
    assert not (tmp_path / "asked").exists()
    assert (15, str(tmp_path / "psql")) in list(installed("psql")), "a program that is none of a package is asked"
