"""Data: how fresh it is, whether two places agree, and the textfile folder. Real databases, real files."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from config.checks import CheckSettings
from monitor.build import build_checks
from monitor.check import run_check
from monitor.probes.file_systems import FileSystems
from monitor.probes.in_child import InChild
from monitor.probes.moments import age_of, moment_of
from monitor.probes.records import CsvRecords
from monitor.result import Result, Status
from tests.servers.mariadb import MariaDb, mariadb
from tests.servers.postgres import Postgres, postgres
from tests.servers.private import private_folder
from tests.servers.scripted import silent

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def clock() -> datetime:
    return NOW


def now() -> datetime:
    return datetime.now(UTC)


def look(clock: Callable[[], datetime] = clock, *, in_child: bool = False, **about: Any) -> Result:
    """Run a check as the settings say, and return its one result. A child of its own costs a test a second."""
    settings = TypeAdapter(CheckSettings).validate_python({"name": "it", **about})
    (check,) = build_checks([settings], file_systems=FileSystems(), clock=clock)
    if isinstance(check.probe, InChild) and not in_child:
        check = replace(check, probe=check.probe._probe)
    (result,) = run_check(check, {}, clock)
    return result


@pytest.mark.parametrize(
    ("value", "age"),
    [
        (NOW - timedelta(minutes=5), 300), (NOW.replace(minute=0, tzinfo=None), 0), (date(2026, 3, 1), 43_200),
        ("2026-03-01T11:55:00Z", 300), ("2026-03-01 12:55:00+01", 300), ("2026-03-01 11:55:00.5", 299.5),
        ((NOW - timedelta(minutes=5)).timestamp(), 300), (int(NOW.timestamp() * 1000) - 5000, 5),
        (str(int(NOW.timestamp()) - 7), 7), ("Sun, 01 Mar 2026 11:55:00 GMT", 300), (timedelta(minutes=5), 300),
        (Decimal(int(NOW.timestamp()) - 7), 7), (b"2026-03-01T11:55:00", 300),
    ],
)  # fmt: skip
def test_moments_are_read_in_all_their_forms(value: object, age: float) -> None:
    assert age_of(value, NOW) == pytest.approx(age)


@pytest.mark.parametrize("value", ["", "yesterday", True, [1], {"a": 1}, float("inf"), "nan", b"\xff", "9" * 400])
def test_what_is_no_moment_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no moment"):
        moment_of(value)


@pytest.fixture(scope="module")
def ledger() -> Iterator[Postgres]:
    with private_folder("pg") as folder, postgres(folder) as server:
        server.sql("create table sync_log (synced_at timestamptz)")
        server.sql("create table invoice (number text, issued_on date, amount numeric(10, 2))")
        server.sql("insert into invoice values ('A-1', '2026-01-01', 10), ('A-2', '2026-01-02', 12.50)")
        yield server


def fresh(server: Postgres, **about: Any) -> Result:
    sql = {"dsn": server.dsn, "query": "select max(synced_at) from sync_log"}
    return look(now, type="freshness", sql=sql, max_age="30m", **about)


def test_a_sync_that_stalls_raises_the_alarm(ledger: Postgres) -> None:
    ledger.sql("truncate sync_log")
    assert (fresh(ledger).status, fresh(ledger).message) == (Status.CRITICAL, "the newest row is not there")
    ledger.sql("insert into sync_log values (now() - interval '5 minutes')")
    result = fresh(ledger)
    assert (result.status, result.readings[0].value) == (Status.OK, pytest.approx(300, abs=30))
    ledger.sql("update sync_log set synced_at = now() - interval '31 minutes'")
    result = fresh(ledger)
    assert (result.status, result.message.startswith("the newest row is 31m")) == (Status.CRITICAL, True)
    assert fresh(ledger, warning="> 10m").status is Status.WARNING
    ledger.sql("update sync_log set synced_at = now() + interval '1 hour'")
    assert (fresh(ledger).status, "in the future" in fresh(ledger).message) == (Status.WARNING, True)


def test_an_age_may_be_computed_by_the_database(ledger: Postgres) -> None:
    sql = {"dsn": ledger.dsn, "query": "select interval '2 hours'"}
    result = look(in_child=True, type="freshness", sql=sql, max_age="1h", timeout="30s")
    assert result.message == "the newest row is 2h old, and may be 1h"


def test_a_query_can_write_nothing(ledger: Postgres, tmp_path: Path) -> None:
    for dsn in (ledger.dsn, sqlite_file(tmp_path)):
        result = look(type="freshness", sql={"dsn": dsn, "query": "delete from invoice"}, max_age="1h")
        assert result.status is Status.UNKNOWN
        assert "read-only" in result.message or "readonly" in result.message
    assert ledger.sql("select count(*) from invoice") == "2"


def test_a_query_that_hangs_and_a_server_that_is_silent_end_by_the_timeout(ledger: Postgres) -> None:
    began = time.monotonic()
    sleeping = {"dsn": ledger.dsn, "query": "select pg_sleep(60)"}
    result = look(type="freshness", sql=sleeping, max_age="1h", timeout="2s")
    assert (result.status, "statement timeout" in result.message) == (Status.UNKNOWN, True)
    with silent() as port:
        hanging = {"dsn": f"host=127.0.0.1 port={port} user=a", "query": "select 1"}
        result = look(in_child=True, type="freshness", sql=hanging, max_age="1h", timeout="1s")
    assert (result.status, "killed" in result.message) == (Status.UNKNOWN, True)
    assert time.monotonic() - began < 10


def test_a_connection_service_is_found_by_its_name(
    ledger: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services"
    written(services, f"[ledger]\nhost={ledger.folder}\nport={ledger.port}\nuser=keeper\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    result = look(type="freshness", sql={"dsn": "service=ledger", "query": "select now()"}, max_age="1h", clock=now)
    assert result.status is Status.OK


def sqlite_file(folder: Path) -> str:
    path = folder / "a ledger.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table if not exists invoice (number text, issued_on text, amount real, at text)")
        database.execute("insert into invoice values ('A-1', '2026-01-01', 10, '2026-03-01 11:00:00')")
        database.commit()
    return f"sqlite:///{str(path).lstrip('/').replace(' ', '%20')}"


def test_sqlite_is_asked_too(tmp_path: Path) -> None:
    sql = {"dsn": sqlite_file(tmp_path), "query": "select max(at) from invoice"}
    four_slashes = sql | {"dsn": sql["dsn"].replace("///", "////")}
    assert look(type="freshness", sql=four_slashes, max_age="2h").readings[0].value == 3600
    assert look(type="freshness", sql=sql, max_age="2h").readings[0].value == 3600
    assert look(type="freshness", sql=sql, max_age="30m").status is Status.CRITICAL
    gone = look(type="freshness", sql={"dsn": "sqlite:///nowhere/x.db", "query": "select 1"}, max_age="2h")
    assert (gone.status, "opening /nowhere/x.db" in gone.message) == (Status.UNKNOWN, True)


@pytest.fixture(scope="module")
def shop() -> Iterator[MariaDb]:
    with private_folder("my") as folder, mariadb(folder) as server:
        yield server


def test_mariadb_is_asked_too(shop: MariaDb) -> None:
    query = "select utc_timestamp() - interval 10 minute"
    result = look(now, type="freshness", sql={"dsn": shop.dsn, "query": query}, max_age="1h")
    assert result.readings[0].value == pytest.approx(600, abs=30)
    writes = look(type="freshness", sql={"dsn": shop.dsn, "query": "create table a (b int)"}, max_age="1h")
    assert (writes.status, "READ ONLY" in writes.message) == (Status.UNKNOWN, True)
    assert shop.sql("show tables like 'a'") == ""


def test_the_newest_file_counts(tmp_path: Path) -> None:
    pattern = str(tmp_path / "*.csv")
    assert look(type="freshness", file=pattern, max_age="1h").status is Status.CRITICAL
    for name, hours in (("a.csv", 5), ("b.csv", 2)):
        (tmp_path / name).touch()
        moment = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(tmp_path / name, (moment, moment))
    assert look(type="freshness", file=pattern, max_age="3h").message == "it is 2h old"
    assert look(type="freshness", file=pattern, max_age="1h").status is Status.CRITICAL


class Answer(BaseHTTPRequestHandler):
    document: Any = None

    def do_GET(self) -> None:
        body = json.dumps(self.document).encode()
        self.send_response(200 if self.headers.get("X-Key") == "k" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[tuple[str, type[Answer]]]:
    handler = type("Handler", (Answer,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", handler
        server.shutdown()


def test_a_field_of_a_json_document_counts(api: tuple[str, type[Answer]]) -> None:
    url, handler = api
    http = {"url": url, "at": "sync[0].last_success", "headers": {"X-Key": "k"}}
    handler.document = {"sync": [{"last_success": "2026-03-01T11:00:00Z"}]}
    assert look(type="freshness", http=http, max_age="2h").status is Status.OK
    assert look(type="freshness", http=http, max_age="30m").status is Status.CRITICAL
    handler.document = {"sync": []}
    assert look(type="freshness", http=http, max_age="2h").status is Status.UNKNOWN
    refused = look(type="freshness", http=http | {"headers": {}}, max_age="2h")
    assert (refused.status, "answered 401" in refused.message) == (Status.UNKNOWN, True)


def test_a_freshness_check_looks_at_exactly_one_thing() -> None:
    for about in ({}, {"file": "/a", "http": {"url": "http://a"}}):
        with pytest.raises(ValidationError, match="exactly one of sql, file and http"):
            look(type="freshness", max_age="1h", **about)


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_ledger_and_an_export_that_agree_are_well(ledger: Postgres, tmp_path: Path) -> None:
    export = written(tmp_path / "export.csv", "\ufeffNumber;Issued_On;Amount\nA-2;2026-01-02;12.5\nA-1;2026-01-01;10\n")
    sql = {"dsn": ledger.dsn, "query": "select number, issued_on, amount from invoice"}
    about: dict[str, Any] = {"type": "reconcile", "left": {"sql": sql}, "right": {"csv": export}, "key": ["number"]}
    result = look(in_child=True, **about, compare=["issued_on", "amount"])
    assert (result.status, result.message) == (Status.OK, "0 records do not agree, 2 compared")
    written(Path(export), "number,issued_on,amount\nA-1,2026-01-01,10.01\nA-3,2026-01-03,1\n")
    result = look(**about, compare=["issued_on", "amount"])
    assert result.status is Status.CRITICAL
    assert result.message == "1 missing: A-2; 1 extra: A-3; 1 different: A-1 (amount 10.00 / 10.01)"
    lenient = look(**about, warning={"reading": "missing", "raise": "> 5"})
    assert lenient.status is Status.OK


def test_documents_that_are_missing_misfiled_or_twice_there_are_named(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    for path in ("2025/INV-1.pdf", "2026/INV-2.pdf", "2025/INV-3.pdf", "2026/copy/INV-1.pdf", "2026/notes.txt"):
        (archive / path).parent.mkdir(parents=True, exist_ok=True)
        (archive / path).touch()
    rows = [{"Number": f"INV-{n}", "year": year} for n, year in ((1, 2025), (2, 2026), (3, 2026), (4, 2026), (4, 2026))]
    books = written(tmp_path / "books.json", json.dumps({"data": {"invoices": rows}}))
    result = look(
        type="reconcile", key=["number"], place=["year"],
        left={"json": {"path": books, "at": "data.invoices"}},
        right={"folder": {"path": str(archive), "pattern": "(?P<year>[0-9]{4})/.*(?P<number>INV-[0-9]+)[.]pdf$"}},
    )  # fmt: skip
    assert result.status is Status.CRITICAL
    counts = {reading.name: reading.value for reading in result.readings}
    assert (counts["missing"], counts["duplicate"], counts["compared"]) == (1, 2, 3)
    assert "1 missing: INV-4" in result.message
    assert "INV-3 (year 2026 / 2025)" in result.message
    assert "INV-4 (left)" in result.message
    assert "INV-1 (right)" in result.message


def test_sides_that_cannot_be_compared_are_unknown(tmp_path: Path, api: tuple[str, type[Answer]]) -> None:
    url, handler = api
    books = written(tmp_path / "a.csv", "number\n1\n")
    about: dict[str, Any] = {"type": "reconcile", "key": ["number"], "left": {"csv": books}}
    gone = look(**about, right={"csv": "/nowhere.csv"})
    assert (gone.status, "reading /nowhere.csv" in gone.message) == (Status.UNKNOWN, True)
    other = look(**about, right={"csv": written(tmp_path / "b.csv", "id\n1\n")})
    assert (other.status, "the right side has no field number" in other.message) == (Status.UNKNOWN, True)
    broken = look(**about, right={"json": written(tmp_path / "b.json", "{")})
    assert broken.status is Status.UNKNOWN
    handler.document = {"rows": 3}
    http = {"url": url, "at": "rows", "headers": {"X-Key": "k"}}
    assert "is no list of objects" in look(**about, right={"http": http}).message
    empty_folder = look(**about, right={"folder": {"path": str(tmp_path / "none"), "pattern": "(?P<number>.*)"}})
    assert empty_folder.status is Status.UNKNOWN
    with pytest.raises(ValidationError, match="exactly one of sql, csv, json, http and folder"):
        look(**about, right={})


def test_odd_csv_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\tb\n1\t\xff\n2\n3\t4\t5\n")
    assert [row["a"] for row in CsvRecords(path).read(1)] == ["1", "2", "3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "textfile"
    path.mkdir()
    return path


def textfile(folder: Path, **about: Any) -> dict[str, Result]:
    settings = TypeAdapter(CheckSettings).validate_python(
        {"name": "it", "type": "textfile", "directory": str(folder), **about}
    )
    (check,) = build_checks([settings], file_systems=FileSystems(), clock=now)
    return {result.entity: result for result in run_check(check, {}, now)}


def test_a_metric_of_a_textfile_is_judged_series_by_series(folder: Path) -> None:
    text = '# TYPE queue gauge\nqueue{name="mail"} 7\nqueue{name="invoices"} 700\nother 1\n'
    written(folder / "erp.prom", text)
    results = textfile(folder, metric="queue", warning="> 100")
    assert results["name=mail"].status is Status.OK
    assert (results["name=invoices"].status, results["name=invoices"].message) == (
        Status.WARNING, "name=invoices is 700, warning at > 100",
    )  # fmt: skip
    (absent,) = textfile(folder, metric="nothing").values()
    assert absent.status is Status.UNKNOWN


@pytest.mark.parametrize("content", [b"queue{ 1\n", b"\xff\xfe", b"a b c d\n", b"queue x\n"])
def test_a_malformed_textfile_raises_the_alarm_and_leaves_the_others_alone(folder: Path, content: bytes) -> None:
    written(folder / "good.prom", "queue 7\n")
    (folder / "bad.prom").write_bytes(content)
    results = textfile(folder, metric="queue", warning="> 100")
    assert results[""].status is Status.OK
    bad = results["bad.prom"]
    assert (bad.status, "cannot be understood" in bad.message) == (Status.CRITICAL, True)


def test_a_stale_textfile_raises_the_alarm(folder: Path) -> None:
    path = folder / "erp.prom"
    written(path, "queue 7\n")
    assert textfile(folder, stale_after="1h")[""].status is Status.OK
    os.utime(path, (time.time() - 7200, time.time() - 7200))
    (result,) = textfile(folder, stale_after="1h").values()
    assert (result.status, "was not written for 2h" in result.message) == (Status.CRITICAL, True)


def test_a_textfile_that_is_too_large_is_not_read(folder: Path) -> None:
    (folder / "big.prom").write_bytes(b"# a long comment\n" * 300_000)
    assert "larger than" in textfile(folder)["big.prom"].message


def test_a_machine_without_the_folder_has_nothing_to_look_at(folder: Path) -> None:
    (result,) = textfile(folder / "none").values()
    assert result.status is Status.ABSENT
