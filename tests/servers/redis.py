"""Redis for a test: ``with redis(folder) as server:``, on a socket in its folder and a port of the loopback."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.servers.private import free_port, path_of, run, start, stop

PASSWORD = "sesame"


class Redis:
    """One server below ``folder``, with a password when one is given."""

    def __init__(self, folder: Path, password: str | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.password = password
        self.socket = folder / "redis.sock"
        self.port = port or free_port()
        self.settings: dict[str, str] = {"save": "", "daemonize": "no"}
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        if self.password:
            options += ["--requirepass", self.password]
        command = [path_of("redis-server"), "--dir", self.folder, "--bind", "127.0.0.1", "--port", self.port,
                   "--unixsocket", self.socket, *options]  # fmt: skip
        self._server = start(command, self.folder, self._answers)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it: SIGTERM saves where it is set to, SIGKILL is a crash."""
        if self._server is not None:
            stop(self._server, how)
            self._server = None

    def command(self, *words: object) -> str:
        """Send a command and return the answer as redis-cli prints it."""
        secret = ["-a", self.password, "--no-auth-warning"] if self.password else []
        return run([path_of("redis-cli"), "-s", self.socket, *secret, *words], self.folder).stdout.strip()

    def _answers(self) -> bool:
        with contextlib.suppress(RuntimeError):
            return self.socket.exists() and self.command("ping") == "PONG"
        return False


@contextlib.contextmanager
def redis(folder: Path, settings: Mapping[str, str] | None = None, password: str | None = None) -> Iterator[Redis]:
    """Have a new server with ``settings`` (as in redis.conf)."""
    server = Redis(folder, password)
    server.settings |= settings or {}
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
