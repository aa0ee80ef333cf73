"""PostgreSQL for a test: ``with postgres(folder) as server:``, on a socket in its folder and a port of the loopback."""

import contextlib
import glob
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.servers.private import accepts, free_port, path_of, run, start, stop

OWNER = "keeper"
PASSWORD = "open sesame"
QUICK = {"fsync": "off", "full_page_writes": "off", "max_connections": "20", "shared_buffers": "16MB", "jit": "off"}
"""Settings of a server whose data nobody will miss."""


def program(name: str, programs: Path | None = None) -> str:
    """Return the path of one of PostgreSQL's programs: in ``programs``, or of the newest version that is installed."""
    folders = [str(programs)] if programs else sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return path_of(name, *folders)


class Postgres:
    """One cluster below ``folder``: superuser ``keeper``, trusted on the socket, by password over the loopback."""

    def __init__(self, folder: Path, port: int | None = None, programs: Path | None = None) -> None:
        self.folder = folder
        self.programs = programs
        self.data = folder / "data"
        self.port = port or free_port()
        self._server: subprocess.Popen[bytes] | None = None

    def program(self, name: str) -> str:
        """Return the path of one of its version's programs."""
        return program(name, self.programs)

    @property
    def socket_dsn(self) -> str:
        """Connection string over the socket, no password needed."""
        return f"host={self.folder} port={self.port} user={OWNER} dbname=postgres"

    @property
    def dsn(self) -> str:
        """Connection string over the loopback, with the password in it."""
        return f"host=127.0.0.1 port={self.port} user={OWNER} password='{PASSWORD}' dbname=postgres"

    def create(self, settings: Mapping[str, str] | None = None) -> None:
        """Make the cluster; ``settings`` are added to postgresql.conf."""
        secret = self.folder / "secret"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        run(
            [self.program("initdb"), "-D", self.data, "-U", OWNER, "--pwfile", secret, "--auth-local=trust",
             "--auth-host=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"],
            self.folder,
        )  # fmt: skip
        self.configure(QUICK | (settings or {}))

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add settings to postgresql.conf; the last one of a name counts."""
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            self.program("postgres"), "-D", self.data, "-k", self.folder, "-p", self.port, "-h", "127.0.0.1",
        ]  # fmt: skip
        self._server = start(command, self.folder, self._answers)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends sessions and writes all, SIGQUIT is a crash."""
        if self._server is not None:
            stop(self._server, how)
            self._server = None

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run SQL as the superuser and return what it prints, unaligned, fields apart by a bar."""
        command = [self.program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", self.port,
                   "-U", OWNER, "-d", database, "-c", text]  # fmt: skip
        return run(command, self.folder).stdout.strip()

    def _answers(self) -> bool:
        command = [self.program("pg_isready"), "-q", "-h", self.folder, "-p", self.port]
        return accepts(self.port)() and subprocess.run([str(word) for word in command], check=False).returncode == 0


@contextlib.contextmanager
def postgres(
    folder: Path, settings: Mapping[str, str] | None = None, *, programs: Path | None = None
) -> Iterator[Postgres]:
    """Have a new server with ``settings``, of the version of ``programs``; it ends by a crash, which is quick."""
    server = Postgres(folder, programs=programs)
    server.create(settings)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGQUIT)


@contextlib.contextmanager
def replica(of: Postgres, folder: Path) -> Iterator[Postgres]:
    """Have a streaming replica of a server that runs."""
    server = Postgres(folder, programs=of.programs)
    options = ["-R", "--checkpoint=fast", "--no-sync"]
    run([of.program("pg_basebackup"), "-D", server.data, "-d", of.socket_dsn, *options], folder)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGQUIT)
