"""A PostgreSQL server with an office's tables and pgbench's, and a job that saves it, for several modules."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backup.applications.base import LATEST, RecoveryTarget
from backup.applications.manifest import Manifest, differences
from backup.applications.postgres import PostgresApplication, RunningPostgres
from backup.applications.postgres_recovery import read_manifest
from backup.archiver import BackupReport, backup
from backup.repository import Repository
from backup.restore_plan import plan_restore
from backup.restorer import execute_restore
from backup.sources.postgres import PostgresSource
from config.postgres import PostgresSource as Settings
from keepwatch.clock import now
from tests.servers.postgres import OWNER, Postgres, postgres
from tests.servers.private import environment, private_folder, run, unprivileged

JOB = "ledger"
SUMS = """select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
 and (select sum(abalance) from pgbench_accounts) = (select sum(tbalance) from pgbench_tellers)
 and (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history)"""
"""The invariant of pgbench's transactions."""


@dataclass
class Office:
    """A server and the folder that its copies go to."""

    server: Postgres
    scratch: Path
    count: int = field(default=0)

    def settings(self, method: str = "physical", **more: object) -> Settings:
        programs = self.server.programs
        return Settings(type="postgres", dsn=self.server.dsn, method=method, programs=programs, **more)  # type: ignore[arg-type]

    def save(self, repository: Repository, method: str = "physical", **more: object) -> BackupReport:
        # whoever is busy hands in statistics within a second; waiting for the idle takes ten more
        source = PostgresSource(JOB, now, self.settings(method, **more), lambda _: time.sleep(1.5))
        return backup(repository, source, job=JOB, host="erp-1", clock=now, full=True)

    def bench(self, *options: str) -> None:
        """Run pgbench to its end."""
        where = ["-h", self.server.folder, "-p", self.server.port, "-U", OWNER]
        run([self.server.program("pgbench"), *options, *where, "shop"], self.server.folder)

    @contextlib.contextmanager
    def load(self, *options: str) -> Iterator[None]:
        """Have pgbench at work; it must still be at work at the end."""
        command = [self.server.program("pgbench"), "-n", "-c", "2", "-T", "86400", "-h", str(self.server.folder),
                   "-p", str(self.server.port), "-U", OWNER, *options, "shop"]  # fmt: skip
        worker = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(self.server.folder),
            **unprivileged(),
        )  # fmt: skip
        try:
            yield
            assert worker.poll() is None, "the load broke off"
        finally:
            worker.kill()
            worker.wait()

    def restore(self, repository: Repository, snapshot: str) -> Path:
        """Restore the job's folder of a snapshot into a new place."""
        self.count += 1
        target = self.scratch / f"restored-{self.count}"
        repository.load_index()
        report = execute_restore(plan_restore(repository, repository.load_snapshot(snapshot), target), repository)
        assert not report.problems
        return target / JOB

    @contextlib.contextmanager
    def alive(
        self, repository: Repository, snapshot: str, target: RecoveryTarget = LATEST, **more: object
    ) -> Iterator["Alive"]:
        """Have a snapshot restored, recovered and running."""
        folder = self.restore(repository, snapshot)
        workspace = folder.parent / "workspace"
        workspace.mkdir()
        application = PostgresApplication(JOB, self.settings(**more))  # type: ignore[arg-type]
        application.recover(repository, folder, target)
        with application.start(folder, workspace=workspace, timeout_seconds=60) as running:
            yield Alive(folder, read_manifest(folder), running)


@dataclass
class Alive:
    folder: Path
    saved: Manifest
    running: RunningPostgres

    @property
    def differences(self) -> list[str]:
        return list(differences(self.saved, self.running.manifest()))


@contextlib.contextmanager
def office(settings: dict[str, str] | None = None, *, programs: Path | None = None) -> Iterator[Office]:
    """Have a server with a database ``shop``: pgbench's tables, and ``invoice`` with what is odd about it.

    ``programs``: those of another version than the one that is installed.
    """
    with (
        private_folder("office") as folder,
        postgres(folder, settings, programs=programs) as server,
        private_folder("copies") as scratch,
    ):
        server.sql("create database shop")
        yield furnish(Office(server, scratch))


def furnish(place: Office) -> Office:
    place.bench("-i", "-q", "-s", "1")
    place.server.sql(
        "create schema books; create role clerk login password 'ink and paper';"
        "create table books.invoice"
        " (number int primary key, created_at timestamptz not null, amount numeric, scan bytea);"
        "insert into books.invoice select n, timestamptz '2026-01-01 08:00+00' + n * interval '1 hour', n * 1.5,"
        " decode(repeat(md5(n::text), 100), 'hex') from generate_series(1, 500) n;"
        "create index on books.invoice (created_at); create unlogged table books.draft (number int);"
        "insert into books.draft values (1); grant select on books.invoice to clerk;",
        "shop",
    )
    return place


def hidden(path: str) -> str:
    """Read what a process tells everybody about itself."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read().decode(errors="replace")
    return ""


def command_lines() -> str:
    ours = psutil.Process().children(recursive=True)  # other tests may run beside this one
    return "\n".join(hidden(f"/proc/{process.pid}/cmdline") for process in ours)
