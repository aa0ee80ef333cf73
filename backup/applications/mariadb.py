"""MariaDB on restored data: a dump loaded into an empty server, or a physical copy prepared and started."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pymysql

from backup.applications import mariadb_counting as counting
from backup.applications import mariadb_server as servers
from backup.applications.base import Record, RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.applications.mariadb_connection import Session, quoted, rows, words_of
from backup.applications.private import Quarters, find_program, quarters
from backup.binlog import replay
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.repository import Repository

_START_SECONDS = 600
_REACHED = "recovered-to"
"""Beside the data: when the last transaction was committed that was replayed."""


@dataclass(frozen=True, slots=True)
class MariaDbApplication:
    """A dump, or a data directory, beside its manifest."""

    log: str
    """What its log is called."""

    @property
    def missing(self) -> str:
        """The first program that is not there."""
        for names in (servers.SERVER, servers.CLIENT):
            if find_program(*names) is None:
                return f"{names[0]}, which is not installed"
        return ""

    def records(self, repository: Repository, folder: Path) -> Sequence[Record]:
        """Name the binlog files from the snapshot's position on."""
        return replay.records(repository, self.log, read_manifest(folder))

    def recover(self, repository: Repository, folder: Path, target: RecoveryTarget) -> None:
        """Make a physical copy consistent, and replay the archived binlog up to the target.

        A dump is loaded into a data directory for that; where nothing is to be replayed, it stays a dump.
        """
        saved = read_manifest(folder)
        data, log = folder / "data", folder / "recovery.log"
        plan = replay.plan_replay(repository, self.log, saved, target, folder / "binlog")
        with quarters(folder) as place:
            if saved.details.get("method") == "physical":
                servers.prepare(place, data, log)
            if plan is None:
                return
            if saved.details.get("method") == "logical":
                build(place, folder, folder, saved, _START_SECONDS)
            try:
                with servers.serving(place, data, folder, saved, timeout_seconds=_START_SECONDS) as running:
                    servers.replay(place, running, plan.files, plan.arguments, log)
            except ApplicationError as error:
                raise RestoreError(f"could not replay the binlog: {error}") from None
        shutil.rmtree(folder / "binlog")
        reached = plan.reached_at.isoformat() if plan.reached_at else ""
        (folder / _REACHED).write_text(reached, encoding="utf-8")

    @contextmanager
    def start(self, folder: Path, *, workspace: Path, timeout_seconds: float) -> Iterator["MariaDbRunning"]:
        """Start a server on a data directory; where there is only a dump, load it into an empty one first."""
        saved = read_manifest(folder)
        workspace.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        with quarters(folder, workspace) as place:
            if saved.details.get("method") == "physical":
                if not (data / "ibdata1").exists():  # a server would make an empty one
                    raise ApplicationError("could not start: data/ibdata1 is not there")
                servers.prepare(place, data, workspace / "prepare.log")
            elif not data.exists():
                data = build(place, folder, workspace, saved, timeout_seconds)
            with servers.serving(place, data, workspace, saved, timeout_seconds=timeout_seconds) as running:
                session = running.session()
                try:
                    yield MariaDbRunning(saved, session, running.socket, _reached(folder))
                finally:
                    session.close()


def _reached(folder: Path) -> datetime | None:
    try:
        return datetime.fromisoformat((folder / _REACHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def build(place: Quarters, folder: Path, workspace: Path, saved: Manifest, timeout_seconds: float) -> Path:
    """Load a dump into a new data directory below ``workspace``; gives that directory.

    Raises ApplicationError when the dump cannot be loaded, RestoreError when there is no server to load it into.
    """
    data, log = workspace / "data", workspace / "load.log"
    servers.require_dump(folder)
    servers.initialise(place, data, log)
    with ExitStack() as stack:
        server = servers.serving(place, data, workspace, saved, timeout_seconds=timeout_seconds, grants=True)
        try:
            running = stack.enter_context(server)
        except ApplicationError as error:
            raise servers.machines_fault(str(error)) from None
        servers.load(place, running, folder, log)
    return data


def read_manifest(folder: Path) -> Manifest:
    """Read what was saved. Raises ApplicationError."""
    try:
        return Manifest.from_json((folder / FILE_NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise ApplicationError(f"could not find the data in {folder}: {error}") from None


@dataclass(frozen=True, slots=True)
class MariaDbRunning:
    """A server at work on what came back."""

    saved: Manifest
    session: Session
    socket: str
    reached_at: datetime | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """Where clients find it; any user may connect, without a password."""
        return {"MYSQL_UNIX_PORT": self.socket}

    def manifest(self) -> Manifest:
        """Count all tables."""
        newest = [f"{table}.{column}" for table, facts in self.saved.tables.items() for column in facts.newest]
        try:
            there = {str(name) for (name,) in rows(self.session, "SHOW DATABASES")}
            databases = [name for name in self.saved.details["databases"] if name in there]
            tables = counting.tables_of(self.session, databases)
            columns = [column for column in newest if column.rpartition(".")[0] in tables]
            facts = counting.exactly(self.session, databases, columns)
            version = str(rows(self.session, "SELECT version()")[0][0])
        except (pymysql.Error, SourceError) as error:
            raise ApplicationError(f"could not count the tables: {words_of(error)}") from None
        return Manifest("mariadb", version, self.saved.taken_at, facts)

    def integrity(self) -> list[str]:
        """CHECK TABLE on all tables of the saved databases; of a physical copy also on the system's own."""
        faults = []
        system = ["mysql"] if self.saved.details.get("method") == "physical" else []
        tables = counting.tables_of(self.session, [*self.saved.details["databases"], *system])
        for table in tables:
            database, _, name = table.partition(".")
            worrying = ("error",) if database in system else ("error", "warning")  # a copy leaves its own tables open
            try:
                said = rows(self.session, f"CHECK TABLE {quoted(database)}.{quoted(name)}")
            except pymysql.Error as error:  # on some damage the server ends itself
                faults.append(f"table {table}: {words_of(error)}")
                return faults
            faults += [
                f"table {table}: {text}" for _, _, kind, text in said
                if str(kind).lower() in worrying or (kind == "status" and text != "OK")
            ]  # fmt: skip
        return faults

    def query(self, statement: str, database: str | None = None) -> object:
        """Give the first value of the first row; ``database`` is the only one there is when left out."""
        databases = self.saved.details["databases"]
        chosen = database or (databases[0] if len(databases) == 1 else None)
        try:
            if chosen:
                self.session.select_db(chosen)
            found = rows(self.session, statement)
        except pymysql.Error as error:
            raise ApplicationError(f"the statement failed: {words_of(error)}") from None
        value: object = found[0][0] if found else None
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value

    def plant(self, fault: str) -> str:
        """Drop the table that surely holds most rows, or delete as many of its rows as it takes to be missed."""
        sure = {name: facts.rows_min for name, facts in self.saved.tables.items() if facts.rows_min}
        if not sure:
            raise ValueError("no table is sure to hold a row")
        name = max(sure, key=lambda key: (sure[key], key))
        table = ".".join(quoted(part) for part in name.split(".", 1))
        rows(self.session, "SET foreign_key_checks = 0")
        if fault == "dropped-table":
            rows(self.session, f"DROP TABLE {table}")
        else:
            surplus = counting.count(self.session, name) - sure[name] + 1
            rows(self.session, f"DELETE FROM {table} LIMIT {surplus}")  # noqa: S608 - quoted
        return f"table {name}"
