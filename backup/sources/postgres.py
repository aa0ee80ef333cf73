"""PostgreSQL as a source: dumps of its databases, or its whole cluster as it lies on disk, taken while it works.

Both write a manifest beside the data: what was in the tables by the server's own count. A dump and its counts are of
one snapshot of the database; a base backup carries bounds (see :mod:`backup.applications.postgres_counting`). Nothing
is locked longer than the tools need, nothing is written into the database, and what breaks off raises: half a dump
never becomes a snapshot.

The folder ``/JOB`` holds ``manifest.json`` and, logical, ``roles.sql``, ``tablespaces.sql`` and ``DATABASE.dump`` in
the custom format, uncompressed so that equal rows are found again; physical, ``data/`` and ``tablespaces/OID/`` as
``pg_basebackup`` would have made them, with the WAL that makes them consistent: each snapshot restores alone.
"""

import logging
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from psycopg import IsolationLevel, sql

from backup.applications import postgres_counting as counting
from backup.applications.manifest import FILE_NAME, Manifest, TableFacts
from backup.applications.postgres_connection import Server
from backup.sources.base import Earlier, Enter, Leave, Step, Stream
from backup.sources.postgres_basebackup import Archive, BaseBackup, Member, NoIncrementError
from backup.sources.postgres_incremental import Increment, increment_since, whole_name
from backup.sources.streams import StreamCapture, StreamSource, file, folder, made_up, output_of
from config.postgres import PostgresSource as PostgresSettings

log = logging.getLogger(__name__)

PAGE_BYTES = 64 << 10
"""Eight pages of PostgreSQL: after 1 % of all pages changed, one in thirteen such pieces is new."""
STATISTICS_SECONDS = 11
"""A server that is idle after a transaction hands in its statistics within ten seconds, a busy one within one."""
_HELD_BACK = ("pg_wal/archive_status", "pg_wal/summaries", "global")
"""Folders whose last files come after everything else; they are small, and wait in memory until then."""
_LATE = ("pg_wal", *_HELD_BACK)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class PostgresSource(StreamSource):
    """A server and the way to save it."""

    settings: PostgresSettings
    pause: Callable[[float], None] = time.sleep
    earlier: Earlier | None = None
    """The snapshot whose changes are enough to read."""

    def following(self, earlier: Earlier) -> "PostgresSource":
        """Let a server that can tell send only what changed since; a dump is whole in any case."""
        return replace(self, earlier=earlier)

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        """Raise SourceError when the server cannot be reached."""
        server = Server.from_settings(self.settings)
        databases = counting.databases_of(server, self.settings.databases)
        found: dict[str, object] = {}
        with ExitStack() as held:
            if self.settings.method == "logical":
                steps = self._dumps(server, databases, held, found)
            else:
                steps = self._cluster(server, databases, held, found)
            yield StreamCapture(folder(f"/{self.name}", steps, at=self.clock()), found)

    # ---- logical

    def _dumps(self, server: Server, databases: list[str], held: ExitStack, found: dict[str, object]) -> Iterator[Step]:
        began = time.monotonic()
        sessions = {name: held.enter_context(_frozen(server, name)) for name in databases}
        skew, taken_at = time.monotonic() - began, self.clock()
        first = next(iter(sessions.values()))
        major = first.info.server_version // 10000
        facts: dict[str, TableFacts] = {}
        for what in ("roles", "tablespaces"):
            command = [server.program("pg_dumpall", at_least=major), f"--{what}-only", f"--dbname={server.arguments()}"]
            content = output_of(command, environment=server.environment, what=f"dump the {what}")
            yield file(f"/{self.name}/{what}.sql", content, at=taken_at)
        files = {name: f"{quote(name, safe=' ')}.dump" for name in databases}
        size = 0
        for name, session in sessions.items():
            size += _number(session, "select pg_database_size(current_database())")
            (exported,) = session.execute("select pg_export_snapshot()").fetchone() or ("",)
            command = [
                server.program("pg_dump", at_least=major), "--format=custom", "--compress=0", "--no-tablespaces",
                "--no-password", f"--snapshot={exported}", f"--dbname={server.arguments(name)}",
            ]  # fmt: skip
            content = output_of(command, environment=server.environment, what=f"dump database {name}")
            # the count is of the very snapshot that is dumped, and need not wait for its end, nor the dump for it
            with _beside(session, partial(counting.exactly, session, self.settings.newest,
                                          count_rows=self.settings.count_rows)) as counted:  # fmt: skip
                yield file(f"/{self.name}/{files[name]}", content, at=taken_at)
                facts |= counted.result()
        details = {"method": "logical", "databases": files, "major": major, "skew_seconds": round(skew, 3)}
        manifest = Manifest("postgres", _version(first), taken_at, facts, size, _position(first), details)
        yield self._manifest(manifest, found)

    # ---- physical

    def _cluster(
        self, server: Server, databases: list[str], held: ExitStack, found: dict[str, object]
    ) -> Iterator[Step]:
        sessions = {name: held.enter_context(server.connect(name)) for name in databases}
        first = next(iter(sessions.values()))
        quiet, standby = _quiet(first), bool(_value(first, "select pg_is_in_recovery()"))
        earlier = {name: counting.before(session, self.settings.newest) for name, session in sessions.items()}
        size = _number(first, "select sum(pg_database_size(oid)) from pg_database")
        details = _cluster_details(first)
        began_at = self.clock()
        base, increment = self._begin(server, first, str(details["system_identifier"]), held, found)
        yield from self._archives(base, increment, began_at)
        taken_at = self.clock()
        counts = standby is False and self.settings.count_rows  # a standby's statistics say nothing of what it replays
        counted = {name: counting.after(session) for name, session in sessions.items()} if counts else {}
        later = {name: before.tables for name, before in earlier.items()}
        if counts and not (quiet and _quiet(first) == quiet):
            self.pause(STATISTICS_SECONDS)  # of what nobody wrote they would tell late what was written before
            later = {name: counting.tables_of(session) for name, session in sessions.items()}
        facts = {
            f"{name}.{table}": bound
            for name in sessions
            for table, bound in counting.bounds(earlier[name], counted.get(name), later[name]).items()
        }
        listed = increment.manifest_of(base.manifest) if increment else base.manifest
        yield file(f"/{self.name}/data/backup_manifest", [listed], at=began_at)
        yield Leave()
        details |= {
            "method": "physical", "major": base.version // 10000, "timeline": base.timeline, "databases": databases,
            "start_position": base.start_position, "began_at": began_at.isoformat(), "tablespaces": base.tablespaces,
            "piece_bytes": PAGE_BYTES,
        }  # fmt: skip
        manifest = Manifest("postgres", _version(first), taken_at, facts, size, base.stop_position, details)
        yield self._manifest(manifest, found)

    def _begin(
        self, server: Server, session: counting.Connection, system: str, held: ExitStack, found: dict[str, object]
    ) -> tuple[BaseBackup, Increment | None]:
        """Begin with what changed since the earlier snapshot, or else with everything; ``found`` says which and why."""
        fast = self.settings.checkpoint == "fast"
        found["base_backup"] = "whole"
        if self.earlier is not None:
            root = f"/{self.name}"
            try:
                increment = increment_since(self.earlier, root, session, system=system, piece_bytes=PAGE_BYTES)
                base = BaseBackup(server, fast=fast, piece_bytes=PAGE_BYTES, since=increment.manifest)
            except NoIncrementError as error:
                log.info("base backup reads everything", extra={"job": self.name, "reason": str(error)})
                found["base_backup"] = f"whole: {error}"
            else:
                found["base_backup"] = f"changes since snapshot {self.earlier.name}"
                return held.enter_context(base), increment
        return held.enter_context(BaseBackup(server, fast=fast, piece_bytes=PAGE_BYTES)), None

    def _archives(self, base: BaseBackup, increment: Increment | None, at: datetime) -> Iterator[Step]:
        """Give the archives as folders; ``data``, the last, is left open."""
        archive: _Folders | None = None
        root = f"/{self.name}"
        if base.tablespaces:
            yield _enter(f"{root}/tablespaces", at)
        for item in base.read():
            if isinstance(item, Member):
                assert archive is not None
                yield from archive.take(item)
                continue
            if archive is not None:
                yield from archive.end()
                yield Leave()
            if not item.tablespace and base.tablespaces:
                yield Leave()
            path = f"{root}/{_place(item)}"
            yield _enter(path, at)
            archive = _Folders(path, at, item.tablespace, increment)
        assert archive is not None
        yield from archive.end()

    def _manifest(self, manifest: Manifest, found: dict[str, object]) -> Step:
        text = manifest.to_json()
        found |= {"version": manifest.version, "position": manifest.position, "rows": manifest.rows}
        found |= {"tables": len(manifest.tables), "size_bytes": manifest.size_bytes}
        return file(f"/{self.name}/{FILE_NAME}", [text], at=manifest.taken_at)


def _place(archive: Archive) -> str:
    return f"tablespaces/{archive.tablespace}" if archive.tablespace else "data"


class _Folders:
    """Turns the members of one archive into steps: folders open and close as members come from one or the other.

    A server walks its folders depth first, but for what has to be last: the folders of that are held back to the end.
    """

    def __init__(self, path: str, at: datetime, tablespace: str, increment: Increment | None) -> None:
        self._path = path
        self._at = at
        self._tablespace = tablespace
        self._increment = increment
        self._open: list[str] = []
        self._held: dict[str, list[Stream]] = {name: [] for name in _LATE}
        self._late: set[str] = set()

    def take(self, member: Member) -> Iterator[Step]:
        """Take the next member."""
        name = member.info.name.removeprefix("./").strip("/")
        above = name.rpartition("/")[0]
        if name in ("", "tablespace_map"):
            return  # where tablespaces lie is decided at the restore
        if member.info.isdir():
            if name in _LATE:
                self._late.add(name)
            else:
                yield from self._go_to(name)
        elif above in _HELD_BACK:
            step = self._file(name, member)
            self._held[above].append(step._replace(content=list(step.content)))
        elif member.info.isreg():
            yield from self._go_to(above)
            yield self._file(name, member)
        # else: a link to a tablespace, which comes as an archive of its own

    def end(self) -> Iterator[Step]:
        """Give what was held back, and close all folders but the archive's own."""
        for name in _LATE:
            if name not in self._late and not self._held[name]:
                continue
            yield from self._go_to(name)
            yield from self._held[name]
        yield from self._go_to("")

    def _go_to(self, folder_name: str) -> Iterator[Step]:
        wanted = folder_name.split("/") if folder_name else []
        shared = 0
        while shared < min(len(wanted), len(self._open)) and wanted[shared] == self._open[shared]:
            shared += 1
        for _ in self._open[shared:]:
            yield Leave()
        del self._open[shared:]
        for part in wanted[shared:]:
            self._open.append(part)
            yield _enter("/".join([self._path, *self._open]), self._at)

    def _file(self, name: str, member: Member) -> Stream:
        if self._increment is not None and self._increment.takes(name):
            content = self._increment.content(self._tablespace, name, member.content)
            return file(f"{self._path}/{whole_name(name)}", content, at=self._at, page_bytes=PAGE_BYTES)
        pages = PAGE_BYTES if member.info.size >= PAGE_BYTES else 0
        return file(f"{self._path}/{name}", member.content, at=self._at, page_bytes=pages)


def _enter(path: str, at: datetime) -> Enter:
    return Enter(path, path.rpartition("/")[2], made_up(stat.S_IFDIR | 0o700, at), ())


@contextmanager
def _frozen(server: Server, database: str) -> Iterator[counting.Connection]:
    """Have a connection whose view of the database stays that of this moment."""
    with server.connect(database, autocommit=False) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("select 1")  # the first statement takes the snapshot
        yield connection
        connection.rollback()


@contextmanager
def _beside(connection: counting.Connection, work: Callable[[], ResultT]) -> Iterator["Future[ResultT]"]:
    """Let a connection work while something else is done; whoever leaves early makes the server stop, too."""
    with ThreadPoolExecutor(1, thread_name_prefix="count") as thread:
        future = thread.submit(work)
        try:
            yield future
        finally:
            if not future.done():
                connection.cancel()


def _quiet(connection: counting.Connection) -> str:
    """Describe the transactions so far, when none that writes is under way; else nothing."""
    if _value(connection, "select pg_is_in_recovery()"):
        return ""
    snapshot = str(_value(connection, "select pg_current_snapshot()"))
    lowest, highest, _ = snapshot.split(":")
    return snapshot if lowest == highest else ""


def _cluster_details(connection: counting.Connection) -> dict[str, object]:
    """Note what a restore on another machine has to know."""
    return {
        "system_identifier": str(_value(connection, "select system_identifier from pg_control_system()")),
        "wal_segment_bytes": _number(connection, "select setting from pg_settings where name = 'wal_segment_size'"),
        "superuser": _value(connection, "select rolname from pg_roles where oid = 10"),
        "libraries": _value(connection, "show shared_preload_libraries"),
    }


def _version(connection: counting.Connection) -> str:
    return str(_value(connection, "show server_version"))


def _position(connection: counting.Connection) -> str:
    on_standby = bool(_value(connection, "select pg_is_in_recovery()"))
    return str(_value(connection, f"select {'pg_last_wal_replay_lsn' if on_standby else 'pg_current_wal_lsn'}()") or "")


def _number(connection: counting.Connection, statement: str) -> int:
    return int(str(_value(connection, statement) or 0))


def _value(connection: counting.Connection, statement: str) -> object:
    row = connection.execute(sql.SQL(statement)).fetchone()
    return row[0] if row else None
