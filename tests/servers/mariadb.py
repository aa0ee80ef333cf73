"""MariaDB for a test: ``with mariadb(folder) as server:``, on a socket in its folder and a port of the loopback."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.servers.private import accepts, free_port, path_of, run, start, stop

OWNER = "keeper"
PASSWORD = "open sesame"
QUICK = {
    "innodb_flush_log_at_trx_commit": "0", "innodb_buffer_pool_size": "16M", "innodb_log_file_size": "8M",
    "performance_schema": "OFF", "max_connections": "20", "skip_name_resolve": "ON",
}  # fmt: skip
"""Settings of a server whose data nobody will miss."""


class MariaDb:
    """One server below ``folder``; user ``keeper`` with a password may do everything."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.socket = folder / "mariadb.sock"
        self.port = port or free_port()
        self.settings: dict[str, str] = dict(QUICK)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """URL over the loopback, with the password in it."""
        return f"mysql://{OWNER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/mysql"

    def create(self) -> None:
        """Make the data folder and the user."""
        accounts = self.folder / "accounts.sql"
        accounts.write_text(
            "FLUSH PRIVILEGES;\n"  # a statement a line: that is all the server reads while it is being installed
            + "".join(
                f"CREATE USER '{OWNER}'@'{host}' IDENTIFIED BY '{PASSWORD}';\n"
                f"GRANT ALL ON *.* TO '{OWNER}'@'{host}' WITH GRANT OPTION;\n"
                for host in ("localhost", "127.0.0.1")
            ),
            encoding="utf-8",
        )
        accounts.chmod(0o644)
        run(
            [path_of("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}", "--skip-test-db",
             "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M", f"--extra-file={accounts}"],
            self.folder,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        command = [
            path_of("mariadbd"), "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}",
            "--bind-address=127.0.0.1", f"--port={self.port}", f"--pid-file={self.folder}/pid", *options,
        ]  # fmt: skip
        self._server = start(command, self.folder, accepts(self.port))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it: SIGTERM writes all, SIGKILL is a crash."""
        if self._server is not None:
            stop(self._server, how)
            self._server = None

    def sql(self, text: str, database: str = "mysql") -> str:
        """Run SQL as ``keeper`` over the socket and return what it prints, fields apart by tabs, no heading."""
        command = [path_of("mariadb"), "--no-defaults", f"--socket={self.socket}", f"--user={OWNER}",
                   f"--password={PASSWORD}", "-BN", f"--database={database}", "-e", text]  # fmt: skip
        return run(command, self.folder).stdout.strip()


@contextlib.contextmanager
def mariadb(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[MariaDb]:
    """Have a new server with ``settings`` (as after ``--``); it ends by a crash, which is quick."""
    server = MariaDb(folder)
    server.settings |= settings or {}
    server.create()
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
