"""A MariaDB or MySQL server as files of a snapshot: one dump of its databases, or a copy of its data directory.

A dump is one transaction: nobody waits for it but who changes tables meanwhile. The physical copy is mariadb-backup's,
which keeps writers out for the moment in which it notes its position. Neither takes a lock of our own.

Before the dump's first bytes are waited for, nothing is started; from then on its moment stands.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pymysql

from backup.applications import manifest
from backup.applications import mariadb_counting as counting
from backup.applications.manifest import Manifest, TableFacts
from backup.applications.mariadb_connection import Server, Session, quoted, rows, server_program, value, words_of
from backup.errors import SourceError
from backup.sources.base import Step
from backup.sources.mariadb_dump import DumpReader
from backup.sources.mbstream import MbStream
from backup.sources.streams import StreamCapture, StreamSource, emptied, file, folder, output_of
from config.databases import MariaDbSource as MariaDbSettings

DUMP_NAME = "dump.sql"
USERS_NAME = "users.sql"
DATA_FOLDER = "data"
PIECE_BYTES = 64 << 10
"""Of pages of 4 to 64 KiB; most have 16."""
_HINT = "does the user have the rights that the settings name?"
_SIZE = "SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables WHERE table_schema = %s"
_PROXY_OF_ALL = ("GRANT PROXY ON ''@'%'", "GRANT PROXY ON ``@`%`")
"""What every new server gives its root, and nobody but root may give."""
_USERS = "SELECT user, host FROM mysql.user WHERE user NOT IN ('mariadb.sys', 'mysql.sys', 'mysql.session', 'PUBLIC')"


@dataclass(frozen=True, slots=True)
class MariaDbSource(StreamSource):
    """A server; it becomes ``/NAME/dump.sql`` and ``users.sql``, or ``/NAME/data/``, and ``/NAME/manifest.json``."""

    settings: MariaDbSettings
    workspace: Path
    """For the option file with the password, and what a physical copy gives out of turn."""

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        """Connect, and begin the dump. Raises SourceError."""
        server = Server.from_settings(self.settings)
        found: dict[str, object] = {}
        with ExitStack() as held:
            place = held.enter_context(emptied(self.workspace))
            session = held.enter_context(server.connect())
            databases = self._choose(session)
            options = server.option_file(place)
            steps = (self._dump if self.settings.method == "logical" else self._copy)(
                session, databases, options, place, found
            )
            first = next(steps)  # which begins the dump, so that its moment is now
            yield StreamCapture(folder(f"/{self.name}", chain([first], steps), at=self.clock()), found)

    def _choose(self, session: Session) -> list[str]:
        try:
            return counting.choose(session, self.settings.databases)
        except pymysql.Error as error:
            raise _refused("list the databases", error) from None

    # ---- logical

    def _dump(
        self, session: Session, databases: list[str], options: Path, _place: Path, found: dict[str, object]
    ) -> Iterator[Step]:
        if not databases:
            raise SourceError("could not dump MariaDB: there is no database but the system's own")
        details, size = self._about(session, databases)
        with _asking("count"):
            latest = counting.newest(session, self.settings.newest)
        at, reader = self.clock(), DumpReader()
        raw = output_of(
            _dump_command(options, databases, binlog=bool(details["binlog"])), what="dump MariaDB", hint=_HINT
        )
        begun = next(raw, b"")  # the transaction stands when there is output
        yield file(f"/{self.name}/{DUMP_NAME}", _whole(reader, chain([begun], raw)), at=at)
        yield file(f"/{self.name}/{USERS_NAME}", [_users(session)], at=at)
        with _asking("count"):
            later = counting.newest(session, self.settings.newest)
        facts = {
            table: TableFacts(number, number, _least(latest.get(table, {}), later.get(table, {})))
            for table, number in reader.rows.items()
        }
        details |= {"method": "logical", "gtid": reader.gtid, "dump_bytes": reader.size_bytes}
        version = details.pop("version")
        yield self._manifest(Manifest("mariadb", version, at, facts, size, reader.position, details), found)

    # ---- physical

    def _copy(
        self, session: Session, databases: list[str], options: Path, place: Path, found: dict[str, object]
    ) -> Iterator[Step]:
        details, size = self._about(session, databases)
        path, began_at = f"/{self.name}/{DATA_FOLDER}", self.clock()
        with _asking("count"):
            before, latest = counting.Counters.read(session), counting.newest(session, self.settings.newest)
        (place / "target").mkdir()
        command = [
            server_program("mariadb-backup"), f"--defaults-file={options}", "--backup", "--stream=mbstream",
            f"--target-dir={place / 'target'}", f"--datadir={details.pop('datadir')}",
        ]  # fmt: skip
        stream = MbStream(output_of(command, what="copy MariaDB's data directory", hint=_HINT), place)
        kept: dict[str, bytes] = {}
        near = False
        for member in stream.members():
            if not near and "/" in member.name and not member.name.endswith(".ibd"):
                near = True  # the moment of the copy comes after the data files: the later we look, the narrower bounds
                with _asking("count"):
                    before, latest = counting.Counters.read(session), counting.newest(session, self.settings.newest)
            content = member.parts
            if member.name in ("xtrabackup_binlog_info", "xtrabackup_info"):
                kept[member.name] = b"".join(content)
                content = iter([kept[member.name]])
            yield file(f"{path}/{member.name}", content, at=began_at, page_bytes=PIECE_BYTES)
        at = self.clock()
        facts = self._bounds(session, databases, before, latest)
        log = kept.get("xtrabackup_binlog_info", b"").decode("utf-8", "replace").split()
        position = ":".join(log[:2]) if len(log) >= 2 else ""
        details |= {"method": "physical", "gtid": log[2] if len(log) > 2 else "", "began_at": began_at.isoformat()}
        yield self._manifest(Manifest("mariadb", details.pop("version"), at, facts, size, position, details), found)

    def _bounds(
        self,
        session: Session,
        databases: list[str],
        before: counting.Counters,
        latest: dict[str, dict[str, str]],
    ) -> dict[str, TableFacts]:
        with _asking("count"):
            if not self.settings.count_rows:
                return {table: TableFacts(0, None) for table in counting.tables_of(session, databases)}
            rows(session, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            rows(session, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            after = counting.Counters.read(session)
            counted = {table: counting.count(session, table) for table in counting.tables_of(session, databases)}
            cascades = counting.cascading_tables(session)
            rows(session, "COMMIT")
        return counting.bounds(counted, before, after, latest, cascades)

    # ---- both

    def _about(self, session: Session, databases: list[str]) -> tuple[dict[str, Any], int]:
        """Ask for what a restore needs to know of the server."""
        with _asking("ask"):
            names = ("version", "log_bin", "datadir", "server_id", "lower_case_table_names", "character_set_server")
            (row,) = rows(session, f"SELECT {', '.join(f'@@{name}' for name in names)}")
            answers = dict(zip(names, row, strict=True))
            size = sum(int(value(session, _SIZE, name)) for name in databases)
        answers["binlog"] = bool(answers.pop("log_bin"))
        return {**answers, "databases": databases}, size

    def _manifest(self, saved: Manifest, found: dict[str, object]) -> Step:
        text = saved.to_json()
        found.update(json.loads(text))
        return file(f"/{self.name}/{manifest.FILE_NAME}", [text], at=saved.taken_at)


def _dump_command(options: Path, databases: list[str], *, binlog: bool) -> list[str]:
    program = server_program("mariadb-dump")
    command = [
        program, f"--defaults-file={options}", "--single-transaction", "--routines", "--triggers", "--events",
        "--hex-blob", "--skip-dump-date", "--default-character-set=utf8mb4",
    ]  # fmt: skip
    if binlog:
        command += ["--master-data=2", *(["--gtid"] if program.endswith("mariadb-dump") else [])]
    return [*command, "--databases", *databases]


def _whole(reader: DumpReader, content: Iterator[bytes]) -> Iterator[bytes]:
    yield from reader.passing(content)
    if not reader.whole:
        raise SourceError("could not dump MariaDB: the dump has no end")


def _users(session: Session) -> bytes:
    """Write all accounts with their rights as statements; empty where this user may not see them."""
    lines = ["FLUSH PRIVILEGES;"]
    try:
        accounts = rows(session, _USERS)
    except pymysql.Error:
        return b""
    for user, host in accounts:
        account = f"{quoted(user)}@{quoted(host)}" if host else quoted(user)
        try:
            made = [str(row[0]) for row in rows(session, f"SHOW CREATE USER {account}")] if host else []
            granted = [str(row[0]) for row in rows(session, f"SHOW GRANTS FOR {account}")]
            granted = [line for line in granted if not line.startswith(_PROXY_OF_ALL)]
        except pymysql.Error:  # accounts by host name, at a server that does not look names up
            continue
        lines += [f"{line.replace('CREATE USER ', 'CREATE USER IF NOT EXISTS ', 1)};" for line in made]
        lines += [f"{line};" for line in ([] if host else [f"CREATE ROLE IF NOT EXISTS {account}"]) + granted]
    return "\n".join(lines).encode() + b"\n"


def _least(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """Give what is newest for certain between two looks: rows may have gone again."""
    return {column: min(one[column], other[column]) for column in one.keys() & other.keys()}


def _refused(what: str, error: pymysql.Error) -> SourceError:
    return SourceError(f"could not {what} of MariaDB: {words_of(error)}", hint=_HINT)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except pymysql.Error as error:
        raise _refused(f"{what} the tables", error) from None
