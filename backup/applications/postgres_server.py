"""A private PostgreSQL server on a data directory: a socket of its own, no network, no traces.

It takes nothing from the machine: no configuration of a server that runs here, no archive to write into, no primary to
follow, no library that would act on its own. What the cluster's ``postgresql.auto.conf`` says is overruled on the
command line. Durability is off: nobody will miss these data. Errors tell the data's fault from this machine's.
"""

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from backup.applications import private
from backup.applications.postgres_connection import Server, words_of
from backup.applications.postgres_programs import server_program
from backup.applications.private import Quarters, quarters
from backup.errors import ApplicationError, RestoreError

_SETTINGS = {
    "listen_addresses": "", "ssl": "off", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
    "archive_mode": "off", "autovacuum": "off", "hot_standby": "off", "primary_conninfo": "", "primary_slot_name": "",
    "synchronous_standby_names": "", "max_logical_replication_workers": "0", "wal_level": "replica", "jit": "off",
    "shared_buffers": "64MB", "maintenance_work_mem": "128MB", "max_wal_size": "4GB", "huge_pages": "off",
    "logging_collector": "off", "log_destination": "stderr", "log_min_messages": "warning", "external_pid_file": "",
    "session_preload_libraries": "", "local_preload_libraries": "", "cluster_name": "keepwatch",
}  # fmt: skip
_SIZES = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
_ACT_ON_THEIR_OWN = frozenset({"pg_cron", "pg_net", "pglogical", "pg_partman_bgw", "bdr"})
"""Libraries whose background workers would act on the copy as if it were the server."""
_PORT = 5432
_MACHINES_FAULT = re.compile(
    r"could not (?:access|load) (?:file|library)|extension .* is not available|could not open extension control file"
    r"|No space left|could not map anonymous shared memory|Cannot allocate memory|locale .* not recogni"
    r"|not supported by this build|conflicting locale|collation version",
    re.IGNORECASE,
)
"""What a server says when the machine lacks something, rather than the data."""
_LOOK_EVERY_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data directory that is to run."""

    data: Path
    major: int
    superuser: str
    programs: Path | None = None
    libraries: str = ""
    """What it preloads, as ``shared_preload_libraries`` has it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings, over ours."""

    def program(self, name: str) -> str:
        """Return the path of one of its programs. Raises RestoreError."""
        return server_program(name, self.major, self.programs)


@dataclass(frozen=True, slots=True)
class Housing:
    """Where a cluster lives: its quarters, and a folder for logs and what else comes up."""

    quarters: Quarters
    workspace: Path
    timeout_seconds: float

    def run(self, cluster: Cluster, name: str, *arguments: str, what: str) -> str:
        """Run one of the cluster's programs as its user and return what it says.

        Raises ApplicationError with its words, RestoreError when there is no such program.
        """
        log = self.workspace / f"{name}.log"
        log.unlink(missing_ok=True)
        try:
            self.quarters.run(
                [cluster.program(name), *arguments], what=what, log=log, timeout_seconds=self.timeout_seconds,
                environment={"LC_MESSAGES": "C"},
            )  # fmt: skip
        except ApplicationError as error:
            raise judged(f"could not {what}", _text(log) or str(error)) from None
        return _text(log)

    def inside(self, path: Path) -> str:
        """Name a place as the cluster's programs find it."""
        return self.quarters.inside(path)


@contextmanager
def housed(folder: Path, workspace: Path, *, timeout_seconds: float) -> Iterator[Housing]:
    """Prepare ``folder``, in which a data directory lies, for servers."""
    run = workspace / "postgres"
    run.mkdir(mode=0o700, exist_ok=True)
    with quarters(folder, run) as prepared:
        yield Housing(prepared, run, timeout_seconds)


@contextmanager
def serving(cluster: Cluster, housing: Housing) -> Iterator[Server]:
    """Have a server on ``cluster`` that answers. Raises ApplicationError with its words, or RestoreError."""
    run = housing.workspace
    log = run / "server.log"
    (run / "pg_hba.conf").write_text("local all all trust\n")
    for empty in ("pg_ident.conf", "postgresql.conf"):
        (run / empty).write_text("")
    for readable in ("pg_hba.conf", "pg_ident.conf", "postgresql.conf"):
        (run / readable).chmod(0o644)
    inside, outside = housing.quarters.socket("")
    settings = {
        **_SETTINGS, **_sizes(cluster, housing), "shared_preload_libraries": _passive(cluster.libraries),
        "unix_socket_directories": inside.rstrip("/"), "port": str(_PORT),
        "config_file": housing.inside(run / "postgresql.conf"), "hba_file": housing.inside(run / "pg_hba.conf"),
        "ident_file": housing.inside(run / "pg_ident.conf"), **cluster.settings,
    }  # fmt: skip
    command = [cluster.program("postgres"), "-D", housing.inside(cluster.data)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    where = {"host": outside.rstrip("/"), "port": str(_PORT), "user": cluster.superuser, "dbname": "postgres"}
    server = Server(psycopg.conninfo.make_conninfo("", **where), "", cluster.programs)
    with housing.quarters.serving(command, log=log, end=signal.SIGQUIT) as process:
        _wait(process, server, time.monotonic() + housing.timeout_seconds)
        yield server


def judged(what: str, said: str) -> ApplicationError | RestoreError:
    """Make an error of a server's or a tool's words: the machine's fault, or the data's."""
    lines = [re.sub(r"^[0-9-]+ [0-9:.]+ \S+ \[\d+\] ", "", line.strip()) for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not re.search(r"the database system is|Hot standby mode is disabled", line)]
    telling = [line for line in lines if re.search(r"PANIC|FATAL|ERROR|error:|DETAIL", line)] or lines[-3:]
    words = " | ".join(telling[:4]) or "it said nothing"
    if _MACHINES_FAULT.search(words):
        return RestoreError(f"{what}: {words}", hint="install on this machine what the data need")
    return ApplicationError(f"{what}: {words}")


def _sizes(cluster: Cluster, housing: Housing) -> dict[str, str]:
    """Read from the control file what recovery wants no smaller than it was."""
    said = housing.run(cluster, "pg_controldata", "-D", housing.inside(cluster.data), what="read global/pg_control")
    facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return {setting: facts[name].strip() for name, setting in _SIZES.items() if name in facts}


def _passive(libraries: str) -> str:
    wanted = [name.strip().strip('"') for name in libraries.split(",") if name.strip()]
    return ",".join(name for name in wanted if name not in _ACT_ON_THEIR_OWN)


def _wait(process: private.Server, server: Server, deadline: float) -> None:
    what = "could not start PostgreSQL on the restored data"
    while True:
        try:
            psycopg.connect(server.string()).close()
        except psycopg.OperationalError as error:
            said = words_of(error)
            if process.process.poll() is not None:
                raise judged(what, _text(process.log)) from None
            if not re.search(r"starting up|No such file|refused|not (?:yet )?accepting", said):
                raise judged(what, said) from None
            if time.monotonic() > deadline:
                raise RestoreError(f"{what}: it did not answer in time: {said}", hint="allow it more time") from None
            time.sleep(_LOOK_EVERY_SECONDS)
        else:
            return


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
