"""PostgreSQL's data come to life: a base backup on a server of its own version, dumps in a new cluster.

Before a base backup is started every file is compared with the list that the server made of it. The questions asked
afterwards are PostgreSQL's own: ``pg_amcheck`` over heaps and indexes, a dump of all definitions, and every row put
into words and counted.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
from psycopg import sql

from backup.applications import postgres_amcheck as amcheck
from backup.applications import postgres_counting as counting
from backup.applications import postgres_recovery as recovery
from backup.applications.base import Record, RecoveryTarget
from backup.applications.dump_files import RestoredFiles
from backup.applications.manifest import Manifest, TableFacts
from backup.applications.postgres_connection import Server, words_of
from backup.applications.postgres_loading import load
from backup.applications.postgres_programs import installed
from backup.applications.postgres_reading import rows_read
from backup.applications.postgres_recovery import read_manifest
from backup.applications.postgres_server import Cluster, Housing, housed, judged, serving
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.repository import Repository
from backup.sources.streams import output_of
from config.postgres import PostgresSource as Settings

_SUPERUSER = "keepwatch"
_WITHOUT_LOG = {"wal_level": "minimal", "max_wal_senders": "0"}
"""For a cluster that dumps are loaded into: rows of a new table, and its indexes, are written once."""
_CHANGED_BY_A_RECOVERY = (
    "tablespace_map", "postgresql.auto.conf", "recovery.signal", "standby.signal", recovery.ARCHIVE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PostgresApplication:
    """A cluster or dumps. The manifest says how they were saved: the settings may have changed since."""

    log: str
    """What its log is called."""
    settings: Settings

    @property
    def missing(self) -> str:
        """Any version's server: which one is needed, the data say."""
        return "" if next(installed("postgres", self.settings.programs), None) else "postgres"

    @property
    def _recovery(self) -> recovery.PostgresRecovery:
        return recovery.PostgresRecovery(self.log, self.settings.programs)

    def records(self, repository: Repository, folder: Path) -> Sequence[Record]:
        """Name the WAL segments from the base backup's start on."""
        return self._recovery.records(repository, folder)

    def recover(self, repository: Repository, folder: Path, target: RecoveryTarget) -> None:
        """Fetch WAL into the data directory and write down how far to replay it."""
        self._recovery.recover(repository, folder, target)

    @contextmanager
    def start(self, folder: Path, *, workspace: Path, timeout_seconds: float) -> Iterator["RunningPostgres"]:
        """Run a server on the data; dumps are loaded into a new cluster below ``workspace``."""
        manifest = read_manifest(folder)
        with housed(folder, workspace, timeout_seconds=timeout_seconds) as housing:
            if manifest.details.get("method") == "logical":
                cluster = self._new_cluster(housing, int(manifest.details["major"]))
            else:
                cluster = self._restored_cluster(housing, folder, manifest)
            with serving(cluster, housing) as server:
                if manifest.details.get("method") == "logical":
                    self._load(server, folder, manifest)
                yield RunningPostgres(server, cluster, manifest, tuple(self.settings.newest))

    def _new_cluster(self, housing: Housing, major: int) -> Cluster:
        newest = max((version for version, _ in installed("initdb", self.settings.programs)), default=0)
        data = housing.workspace / "data"
        cluster = Cluster(data, major, _SUPERUSER, self.settings.programs, settings=_WITHOUT_LOG)
        with suppress(RestoreError):
            cluster.program("initdb")
            newest = major
        if newest < major:
            cluster.program("initdb")  # which says what is missing
        cluster = replace(cluster, major=newest)
        housing.run(
            cluster, "initdb", "-D", housing.inside(data), "-U", _SUPERUSER, "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C", what="make a cluster to load the dumps into",
        )  # fmt: skip
        return cluster

    def _restored_cluster(self, housing: Housing, folder: Path, manifest: Manifest) -> Cluster:
        data, details = folder / "data", manifest.details
        recovery.prepare(folder, manifest)
        major = _major_of(data)
        cluster = Cluster(
            data, major, str(details.get("superuser") or "postgres"), self.settings.programs,
            str(details.get("libraries") or ""),
        )  # fmt: skip
        leave_out = [word for name in _CHANGED_BY_A_RECOVERY for word in ("-i", name)]
        if (data / "backup_label").exists():  # an earlier start has changed the files, as it may
            housing.run(
                cluster, "pg_verifybackup", "--quiet", "--no-parse-wal", *leave_out, housing.inside(data),
                what="verify the base backup against its own list of files",
            )  # fmt: skip
        return cluster

    def _load(self, server: Server, folder: Path, manifest: Manifest) -> None:
        try:
            load(server, RestoredFiles(folder), manifest, jobs=_jobs())
        except RestoreError as error:
            raise judged("could not load the dumps", f"error: {error}") from None


@dataclass(frozen=True, slots=True)
class RunningPostgres:
    """A server on restored data."""

    server: Server
    cluster: Cluster
    saved: Manifest
    newest: tuple[str, ...]

    @property
    def reached_at(self) -> datetime | None:
        """The commit that recovery replayed last; None when there was none to replay."""
        value = self._first("select pg_last_xact_replay_timestamp()", None)
        return value if isinstance(value, datetime) else None

    @property
    def environment(self) -> Mapping[str, str]:
        """For libpq."""
        words = psycopg.conninfo.conninfo_to_dict(self.server.conninfo)
        names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user"}
        return {name: str(words[word]) for name, word in names.items()} | {"PGDATABASE": self._main}

    def manifest(self) -> Manifest:
        """Read every row of every table again, as a dump would, and count them."""
        facts: dict[str, TableFacts] = {}
        version = ""
        try:
            for database in counting.databases_of(self.server):
                with self.server.connect(database) as connection:
                    version = str(connection.info.parameter_status("server_version"))
                    columns = [column for column in self.newest if self._is_in(column, database)]
                    there = counting.exactly(connection, columns, count_rows=False)
                rows = rows_read(self.server, database, jobs=_jobs())
                facts |= {name: TableFacts(rows[name], rows[name], found.newest) for name, found in there.items()}
        except SourceError as error:
            raise ApplicationError(str(error)) from None
        return replace(self.saved, version=version, tables=facts)

    def integrity(self) -> list[str]:
        """Run amcheck over heaps and indexes, then dump the definitions of every database; counting reads the rows."""
        return amcheck.findings(self.server, self.cluster) or self._dump_definitions()

    def query(self, statement: str, database: str | None = None) -> object:
        """Ask the named database, or the only one that is not ``postgres``."""
        value = self._first(statement, database)
        if isinstance(value, datetime) and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        if value is None or isinstance(value, int | float | Decimal | str | bool | date | timedelta):
            return value
        return str(value)

    def plant(self, fault: str) -> str:
        """Drop the table with the most rows, or empty it."""
        name, facts = max(self.manifest().tables.items(), key=lambda item: item[1].rows_min, default=("", None))
        if facts is None or not facts.rows_min:
            raise ValueError("no table holds a row")
        database, schema, table = name.split(".", 2)
        what = sql.SQL("drop table {} cascade") if fault == "dropped-table" else sql.SQL("delete from {}")
        with self.server.connect(database) as connection:
            connection.execute("set session_replication_role = replica")  # no trigger and no foreign key objects
            connection.execute(what.format(sql.Identifier(schema, table)))
        return f"table {name}"

    @property
    def _main(self) -> str:
        names = [name for name in self.saved.details.get("databases", ()) if name != "postgres"]
        return names[0] if len(names) == 1 else "postgres"

    def _is_in(self, column: str, database: str) -> bool:
        """Whether the saved manifest has it: one that is new in the settings is nothing to compare."""
        *place, schema, table, name = column.split(".")
        saved = self.saved.tables.get(f"{database}.{schema}.{table}")
        return saved is not None and name in saved.newest and place in ([], [database])

    def _first(self, statement: str, database: str | None) -> object:
        try:
            with self.server.connect(database or self._main) as connection:
                row = connection.execute(statement.encode()).fetchone()
        except SourceError as error:
            raise ApplicationError(str(error)) from None
        except psycopg.Error as error:
            raise ApplicationError(f"could not answer {statement!r}: {words_of(error)}") from None
        return row[0] if row else None

    def _dump_definitions(self) -> list[str]:
        program = self.server.program("pg_dump", at_least=self.cluster.major)

        def dump(name: str) -> str:
            command = [
                program, "--schema-only", "--file=/dev/null", "--no-sync", "--no-password",
                f"--dbname={self.server.arguments(name)}",
            ]  # fmt: skip
            what = f"dump the definitions of database {name}"
            try:
                for _ in output_of(command, environment=self.server.environment, what=what):
                    pass
            except SourceError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(_jobs(), thread_name_prefix="dump") as threads:
            return [said for said in threads.map(dump, counting.databases_of(self.server)) if said]


def _jobs() -> int:
    return min(4, os.cpu_count() or 1)


def _major_of(data: Path) -> int:
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ApplicationError(f"{data.name}/PG_VERSION cannot be read: {error}") from None
