"""A private MariaDB on restored data: prepared, loaded or recovered, on a socket only, and nobody's grants in its way.

It never writes a binlog, runs no events, and replicates nothing.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pymysql

from backup.applications.manifest import Manifest
from backup.applications.mariadb_connection import Session, open_session
from backup.applications.private import Quarters, find_program, last_words, program
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.sources.mariadb_dump import is_whole

SERVER = ("mariadbd", "mysqld")
CLIENT = ("mariadb", "mysql")
_LOADING_SECONDS = 24 * 3600
_OPTIONS = (
    "--skip-networking", "--skip-log-bin", "--skip-slave-start", "--event-scheduler=OFF", "--local-infile=OFF",
    "--innodb-buffer-pool-size=256M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=20",
    "--performance-schema=OFF",
)  # fmt: skip
_TAIL_BYTES = 4096
_REPLAY = """
{ "$@" || touch "$FAILED"; } | "$CLIENT" --no-defaults --socket="$SOCKET" --user=root --binary-mode || exit 1
[ ! -e "$FAILED" ]
"""


def is_prepared(data: Path) -> bool:
    """Whether a physical copy has been made consistent already, or was never one."""
    try:
        return "backup_type = full-backuped" not in (data / "xtrabackup_checkpoints").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def prepare(place: Quarters, data: Path, log: Path) -> None:
    """Apply the redo log to a physical copy. Raises ApplicationError when it is damaged or incomplete."""
    if not is_prepared(data):
        command = [program("mariadb-backup", "mariabackup"), "--no-defaults", "--prepare", "--use-memory=256M"]
        place.run(
            [*command, f"--target-dir={place.inside(data)}"], what="prepare the physical copy", log=log,
            timeout_seconds=_LOADING_SECONDS,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    socket: str
    """For us."""
    inside: str
    """For programs in its quarters."""

    def session(self) -> Session:
        """Connect. Raises ApplicationError."""
        try:
            return open_session(unix_socket=self.socket, user="root")
        except SourceError as error:
            raise ApplicationError(str(error)) from None


@contextmanager
def serving(
    place: Quarters, data: Path, workspace: Path, saved: Manifest, *, timeout_seconds: float, grants: bool = False
) -> Iterator[Running]:
    """Have a server on a data directory; it is shut down in order. Raises ApplicationError when it does not come up."""
    inside, outside = place.socket("mariadb.sock")
    log = workspace / "mariadbd.log"
    defaults = data / "backup-my.cnf"
    first = f"--defaults-file={place.inside(defaults)}" if defaults.exists() else "--no-defaults"
    names = saved.details.get("lower_case_table_names", 0)
    command = [
        program(*SERVER), first, *_OPTIONS, f"--datadir={place.inside(data)}", f"--socket={inside}",
        f"--tmpdir={place.inside(workspace)}", f"--pid-file={place.inside(workspace / 'pid')}",
        f"--lower-case-table-names={names}", *([] if grants else ["--skip-grant-tables"]),
    ]  # fmt: skip

    def answers() -> bool:
        with suppress(SourceError, pymysql.Error):
            open_session(unix_socket=outside, user="root").close()
            return True
        return False

    with place.serving(command, log=log, end=signal.SIGTERM) as server:
        what = "start an empty server" if grants else "start on the restored data"
        server.wait_until(answers, timeout_seconds=timeout_seconds, what=what)
        yield Running(outside, inside)
        if server.process.poll() is not None:
            raise ApplicationError(f"the server ended on its own{last_words(log)}")


def initialise(place: Quarters, data: Path, log: Path) -> None:
    """Make an empty data directory. Raises RestoreError: where that fails, no restored byte had a part in it."""
    data.mkdir(mode=0o700)
    place.adopt(data)
    install = find_program("mariadb-install-db", "mysql_install_db")
    if install is not None:
        command = [install, "--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]
    else:
        command = [program("mysqld"), "--no-defaults", "--initialize-insecure"]
    try:
        place.run(
            [*command, f"--datadir={place.inside(data)}"], what="make a data directory", log=log, timeout_seconds=600
        )
    except ApplicationError as error:
        raise machines_fault(str(error)) from None


def machines_fault(reason: str) -> RestoreError:
    """Make the error of what failed before any restored byte was touched."""
    return RestoreError(reason, hint="look at this machine's memory, disk and load, and drill again")


def require_dump(folder: Path) -> None:
    """Raise ApplicationError when the dump is not there or was cut off."""
    dump = folder / "dump.sql"
    try:
        with dump.open("rb") as content:
            content.seek(max(0, dump.stat().st_size - _TAIL_BYTES))
            if not is_whole(content.read()):
                raise ApplicationError("could not load dump.sql: it was cut off")
    except OSError as error:
        raise ApplicationError(f"could not load dump.sql: {(error.strerror or str(error)).lower()}") from None


def load(place: Quarters, running: Running, folder: Path, log: Path) -> None:
    """Load a dump and its accounts. Raises ApplicationError when the server refuses it."""
    for path in (folder / "dump.sql", folder / "users.sql"):
        if path.exists() and path.stat().st_size:
            with path.open("rb") as content:
                place.run(
                    [program(*CLIENT), "--no-defaults", f"--socket={running.inside}", "--user=root", "--binary-mode"],
                    what=f"load {path.name}", log=log, standard_input=content, timeout_seconds=_LOADING_SECONDS,
                )  # fmt: skip


def replay(place: Quarters, running: Running, files: Sequence[Path], arguments: Sequence[str], log: Path) -> None:
    """Let MariaDB's own tool write the binlog as statements, and a client run them. Raises ApplicationError."""
    failed = log.with_suffix(".failed")
    environment = {
        "TZ": "UTC", "CLIENT": program(*CLIENT), "SOCKET": running.inside, "FAILED": place.inside(failed),
    }  # fmt: skip
    reader = [program("mariadb-binlog", "mysqlbinlog"), "--no-defaults", *arguments]
    place.run(
        ["sh", "-c", _REPLAY, "sh", *reader, *(place.inside(path) for path in files)], what="replay the binlog",
        log=log, environment=environment, timeout_seconds=_LOADING_SECONDS,
    )  # fmt: skip
