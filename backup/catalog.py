"""The catalog: which runs and drills there were, and what became of them. SQLite, in backup.db.

It is the ledger from which the daemon decides what is due, and the source of the page's history. The repositories
are the truth about snapshots; the catalog only remembers what it last saw there, and may be lost: a damaged file is
set aside under another name and started afresh.

Written by the daemon, its job children and the command line at the same time (WAL, short transactions, a busy
timeout). A run is recorded before it begins and once more when it ends. Imports nothing that the idle daemon should
not carry.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from backup import lock_looks, pack_memory, past_drills, pauses, suspicions
from backup.errors import BackupError
from config.said import packed, unpacked

log = logging.getLogger(__name__)

_BUSY_SECONDS = 10.0
_SUCCESS = "('succeeded', 'partial', 'passed')"
_TABLES_OF = (past_drills, pack_memory, suspicions, pauses, lock_looks)
"""Modules that keep tables of their own in this file."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, job TEXT NOT NULL, repository TEXT NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT, outcome TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
    pid INTEGER, snapshot TEXT NOT NULL DEFAULT '', figures TEXT NOT NULL DEFAULT '{}', data_at TEXT,
    said TEXT
);
CREATE INDEX IF NOT EXISTS runs_by_duty ON runs (kind, job, repository, id);
CREATE TABLE IF NOT EXISTS snapshots (
    repository TEXT NOT NULL, id TEXT NOT NULL, job TEXT NOT NULL, kind TEXT NOT NULL, taken_at TEXT NOT NULL,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL, added_bytes INTEGER NOT NULL, partial INTEGER NOT NULL,
    PRIMARY KEY (repository, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repositories (
    name TEXT PRIMARY KEY, looked_at TEXT NOT NULL, size_bytes INTEGER, free_bytes INTEGER, verified_at TEXT,
    problem TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, configured_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, job TEXT NOT NULL, repository TEXT NOT NULL, asked_at TEXT NOT NULL
);
"""
_ADDED_COLUMNS = (("runs", "data_at"), ("runs", "said"), ("drills", "said"))
"""Table and column of what files of earlier versions lack. ``said``: what a message was made of."""


class CatalogError(BackupError):
    """The catalog cannot be read or written."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One attempt. ``outcome``: running, succeeded, partial, failed, interrupted; for drills passed, inconclusive."""

    id: int
    kind: str
    job: str
    repository: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    message: str
    pid: int | None
    snapshot: str
    figures: dict[str, float] = field(default_factory=dict)
    data_at: datetime | None = None
    """How old the data is that it saved, where that is not as old as its start."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the runs of one duty (kind, job, repository) amount to."""

    last_started_at: datetime
    last_ended_at: datetime | None
    last_outcome: str
    last_success_at: datetime | None
    """How old the newest data is that a run saved or proved: its start, or the moment of what it copied."""
    failures_in_row: int
    """Runs since then that did not reach it, interrupted ones included."""
    runs: int
    failures: int
    partial: int
    inconclusive: int


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot as it was last seen in its repository."""

    repository: str
    id: str
    job: str
    kind: str
    taken_at: datetime
    files: int
    bytes: int
    added_bytes: int
    partial: bool


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """A repository as it was last looked at."""

    name: str
    looked_at: datetime
    size_bytes: int | None
    free_bytes: int | None
    verified_at: datetime | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """A run that a person asked for."""

    kind: str
    job: str
    repository: str


class Catalog:
    """backup.db. One connection, for the thread that made it; other processes have their own."""

    def __init__(self, path: Path, *, to_read: bool = False) -> None:
        """Open or make it; a damaged one is set aside. One that is only ``to_read`` is neither made nor set aside:
        where there is none, or a damaged one, this is empty. Raises CatalogError when there is no way to have one.
        """
        self.path = path
        self.problem: str | None = None
        """What was wrong with the file that was found; None when all was well."""
        try:
            self._connection = self._open(in_memory=to_read and not path.exists())
        except sqlite3.DatabaseError as error:
            if not path.exists() or isinstance(error, sqlite3.OperationalError):
                raise self._error("opening", error) from None
            if to_read:
                self.problem = f"{path} is damaged: {error}"
            else:
                self._set_aside(error)
            self._connection = self._open(in_memory=to_read)
        self._version = self._data_version()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def changed(self) -> bool:
        """Tell whether another process wrote since the last call."""
        before, self._version = self._version, self._data_version()
        return before != self._version

    def configure(self, jobs: Iterable[str], now: datetime) -> None:
        """Note since when each job is configured; freshness counts from there until its first success."""
        rows = [(name, _text(now)) for name in jobs]
        # a date ahead was a wrong clock's
        self._write(
            "INSERT INTO jobs VALUES (?, ?) ON CONFLICT DO UPDATE SET configured_at = excluded.configured_at"
            " WHERE configured_at > excluded.configured_at",
            rows,
        )

    def configured_at(self) -> dict[str, datetime]:
        """Return when each job first stood in the settings."""
        return {row["name"]: _moment(row["configured_at"]) for row in self._read("SELECT * FROM jobs")}

    def start_run(self, kind: str, job: str, repository: str, *, now: datetime, pid: int | None = None) -> int:
        """Record that a run begins and return its number."""
        return self._write_one(
            "INSERT INTO runs (kind, job, repository, started_at, outcome, pid) VALUES (?, ?, ?, ?, 'running', ?)",
            (kind, job, repository, _text(now), pid),
        )

    def set_pid(self, run: int, pid: int) -> None:
        """Record which process does the run."""
        self._write_one("UPDATE runs SET pid = ? WHERE id = ?", (pid, run))

    def end_run(
        self,
        run: int,
        outcome: str,
        message: str,
        *,
        now: datetime,
        snapshot: str = "",
        figures: Mapping[str, float] | None = None,
        data_at: datetime | None = None,
    ) -> None:
        """Record how a run ended; ``data_at`` where the data it saved is older than its start."""
        self._write_one(
            "UPDATE runs SET outcome = ?, message = ?, said = ?, ended_at = ?, snapshot = ?, figures = ?, data_at = ?"
            " WHERE id = ?",
            (
                outcome, message, packed(message), _text(now), snapshot, json.dumps(figures or {}),
                data_at and _text(data_at), run,
            ),
        )

    def run(self, run: int) -> RunRow:
        """Return one run. Raises KeyError."""
        for row in self._read("SELECT * FROM runs WHERE id = ?", (run,)):
            return _run(row)
        raise KeyError(run)

    def running_runs(self) -> list[RunRow]:
        """Return the runs that have begun and not ended."""
        return [_run(row) for row in self._read("SELECT * FROM runs WHERE outcome = 'running' ORDER BY id")]

    def runs(self, limit: int) -> list[RunRow]:
        """Return the latest runs, newest first."""
        return [_run(row) for row in self._read("SELECT * FROM runs ORDER BY id DESC LIMIT ?", (limit,))]

    def runs_since(self, moment: datetime) -> list[RunRow]:
        """Return the runs that ended since then, oldest first, after the last good one of each duty before it."""
        sql = f"""
            SELECT * FROM runs WHERE ended_at >= :since OR id IN (
                SELECT max(id) FROM runs WHERE ended_at < :since AND outcome IN {_SUCCESS}
                GROUP BY kind, job, repository
            ) ORDER BY id"""  # noqa: S608 - a constant of this module
        return [_run(row) for row in self._read(sql, {"since": _text(moment)})]

    def last_runs(self) -> list[RunRow]:
        """Return the latest ended run of each duty, newest first."""
        sql = """
            SELECT * FROM runs WHERE id IN (
                SELECT max(id) FROM runs WHERE outcome != 'running' GROUP BY kind, job, repository
            ) ORDER BY id DESC"""
        return [_run(row) for row in self._read(sql)]

    def standings(self) -> dict[tuple[str, str, str], Standing]:
        """Return what each duty's runs amount to, by kind, job and repository."""
        sql = f"""
            SELECT kind, job, repository, count(*) AS runs,
                sum(outcome = 'failed') AS failures, sum(outcome = 'partial') AS partial,
                sum(outcome = 'inconclusive') AS inconclusive, max(id) AS last,
                max(CASE WHEN outcome IN {_SUCCESS} THEN id ELSE 0 END) AS last_good
            FROM runs GROUP BY kind, job, repository"""  # noqa: S608 - a constant of this module
        found = {}
        for row in self._read(sql):
            last = self.run(row["last"])
            # the latest in the ledger, not the latest by date: a run of a clock that was ahead must not stay the last
            good = self.run(row["last_good"]) if row["last_good"] else None
            key = (row["kind"], row["job"], row["repository"])
            found[key] = Standing(
                last.started_at, last.ended_at, last.outcome, (good.data_at or good.started_at) if good else None,
                self._failures_since(key, row["last_good"]), row["runs"], row["failures"], row["partial"],
                row["inconclusive"],
            )  # fmt: skip
        return found

    def replace_snapshots(self, repository: str, snapshots: Iterable[SnapshotRow]) -> None:
        """Remember what was just seen in a repository, instead of what was seen before."""
        rows = [
            (s.repository, s.id, s.job, s.kind, _text(s.taken_at), s.files, s.bytes, s.added_bytes, int(s.partial))
            for s in snapshots
        ]
        with self._transaction():
            self._connection.execute("DELETE FROM snapshots WHERE repository = ?", (repository,))
            self._connection.executemany("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def snapshots(self) -> list[SnapshotRow]:
        """Return every snapshot last seen, newest first."""
        return [
            SnapshotRow(
                row["repository"], row["id"], row["job"], row["kind"], _moment(row["taken_at"]), row["files"],
                row["bytes"], row["added_bytes"], bool(row["partial"]),
            )
            for row in self._read("SELECT * FROM snapshots ORDER BY taken_at DESC")
        ]  # fmt: skip

    def look_at_repository(
        self, name: str, *, now: datetime, size_bytes: int | None = None, free_bytes: int | None = None
    ) -> None:
        """Remember how big a repository is and how much room is left; what verify found stays."""
        self._write_one(
            "INSERT INTO repositories (name, looked_at, size_bytes, free_bytes) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET looked_at = excluded.looked_at, size_bytes = excluded.size_bytes,"
            " free_bytes = excluded.free_bytes",
            (name, _text(now), size_bytes, free_bytes),
        )

    def record_verify(self, name: str, problem: str | None, *, now: datetime) -> None:
        """Remember that a repository was verified, and the worst that was found; None when it is sound."""
        self._write_one(
            "INSERT INTO repositories (name, looked_at, verified_at, problem) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET verified_at = excluded.verified_at, problem = excluded.problem",
            (name, _text(now), _text(now), problem),
        )

    def repositories(self) -> dict[str, RepositoryRow]:
        """Return the repositories as last looked at, by name."""
        return {
            row["name"]: RepositoryRow(
                row["name"], _moment(row["looked_at"]), row["size_bytes"], row["free_bytes"],
                _moment_or_none(row["verified_at"]), row["problem"],
            )
            for row in self._read("SELECT * FROM repositories")
        }  # fmt: skip

    def request(self, kind: str, job: str, repository: str, *, now: datetime) -> None:
        """Ask the daemon for a run; it looks at its next tick."""
        self._write_one(
            "INSERT INTO requests (kind, job, repository, asked_at) VALUES (?, ?, ?, ?)",
            (kind, job, repository, _text(now)),
        )

    def take_requests(self) -> list[Request]:
        """Return what was asked for, and forget it."""
        rows = self._read("SELECT * FROM requests ORDER BY id")
        if rows:
            self._write_one("DELETE FROM requests WHERE id <= ?", (rows[-1]["id"],))
        return [Request(row["kind"], row["job"], row["repository"]) for row in rows]

    def rows(self, sql: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Read, for the modules that keep tables of their own in this file."""
        return self._read(sql, values)

    def change(self, *steps: tuple[str, Iterable[tuple[object, ...]]]) -> None:
        """Write for them: each statement with each of its rows of values, all of it or nothing."""
        with self._transaction():
            for sql, rows in steps:
                self._connection.executemany(sql, rows)

    def _failures_since(self, key: tuple[str, str, str], last_good: int) -> int:
        sql = """
            SELECT count(*) AS n FROM runs WHERE kind = ? AND job = ? AND repository = ? AND id > ?
            AND outcome IN ('failed', 'inconclusive', 'interrupted')"""
        return int(self._read(sql, (*key, last_good))[0]["n"])

    def _open(self, *, in_memory: bool = False) -> sqlite3.Connection:
        place = ":memory:" if in_memory else self.path
        if not in_memory:
            self._make_private()
        connection = sqlite3.connect(place, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA + "".join(module.SCHEMA for module in _TABLES_OF))
            _add_new_columns(connection)
            if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_private(self) -> None:
        """Make the file for its owner alone; SQLite gives the same rights to what it puts beside it."""
        with suppress(OSError):  # SQLite says better why it cannot be opened
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.problem = f"backup.db was damaged ({error}), is now {aside.name}, and history starts afresh"
        log.error("catalog set aside", extra={"file": str(aside), "reason": error})

    def _data_version(self) -> int:
        return int(self._read("PRAGMA data_version")[0][0])

    def _read(self, sql: str, values: tuple[object, ...] | Mapping[str, object] = ()) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._error("reading", error) from None

    def _write(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        with self._transaction():
            self._connection.executemany(sql, rows)

    def _write_one(self, sql: str, values: tuple[Any, ...]) -> int:
        with self._transaction():
            return int(self._connection.execute(sql, values).lastrowid or 0)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self)

    def _error(self, what: str, error: Exception) -> CatalogError:
        return CatalogError(
            f"{what} the catalog {self.path}: {error}", hint="look at the free space and rights of the state directory"
        )


class _Transaction:
    """All of it or nothing; raises CatalogError instead of SQLite's own."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __enter__(self) -> None:
        try:
            self._catalog._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            raise self._catalog._error("writing", error) from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self._catalog._connection.execute("ROLLBACK" if kind else "COMMIT")
        except sqlite3.DatabaseError as failed:
            raise self._catalog._error("writing", failed) from None
        if isinstance(error, sqlite3.DatabaseError):
            raise self._catalog._error("writing", error) from None


def _add_new_columns(connection: sqlite3.Connection) -> None:
    """Bring a file of an earlier version up to date, whoever else opens it at the same time."""
    if not _missing(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    for table, column in _missing(connection):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
    connection.execute("COMMIT")


def _missing(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    there = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
    return [column for column in _ADDED_COLUMNS if not connection.execute(there, column).fetchone()]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moment_or_none(text: str | None) -> datetime | None:
    return None if text is None else _moment(text)


def _run(row: sqlite3.Row) -> RunRow:
    return RunRow(
        row["id"], row["kind"], row["job"], row["repository"], _moment(row["started_at"]),
        _moment_or_none(row["ended_at"]), row["outcome"], unpacked(row["message"], row["said"]), row["pid"],
        row["snapshot"], json.loads(row["figures"]), _moment_or_none(row["data_at"]),
    )  # fmt: skip
