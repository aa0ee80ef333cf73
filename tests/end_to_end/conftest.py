"""A real daemon as a child process, on a state directory and port of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

DEADLINE_SECONDS = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path) -> dict[str, str]:
    """Nothing of the caller's keepwatch settings may leak in."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}


def keepwatch(*arguments, home, check=False, **options):
    """Run one command of the command line and return it when it is done."""
    return subprocess.run(
        [sys.executable, "-m", "keepwatch", *map(str, arguments)],
        env=environment(home), capture_output=True, text=True, timeout=120, check=check, stdin=subprocess.DEVNULL,
        **options,
    )  # fmt: skip


class Daemon:
    """`keepwatch run` under test."""

    def __init__(self, home: Path, config: Path, port: int):
        self.home, self.config, self.port = home, config, port
        self.log = home / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> "Daemon":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "keepwatch", "run", "--config", str(self.config)],
                env=environment(self.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            self.until(self.is_ready, "the daemon is ready")
        return self

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def view(self):
        return json.loads(self.get("/api/v1/view"))

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the daemon ended:\n{self.said()}"
        try:
            return "ready" in self.get("/-/ready")
        except (urllib.error.URLError, ConnectionError):
            return False

    def runs(self, **wanted):
        return [run for run in self.view()["runs"] if all(run[k] == v for k, v in wanted.items())]

    def until(self, condition, what: str, seconds: float = DEADLINE_SECONDS):
        """Wait for a real process to get somewhere; return what the condition gave."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{self.said()}"
            time.sleep(0.05)
        return found

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.process.wait(60)

    def children(self) -> list[int]:
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in pids]


@pytest.fixture
def office(tmp_path):
    """A home with a source, a password and a configuration; call it with extra TOML to get a daemon on it."""
    made: list[Daemon] = []
    source = tmp_path / "documents"
    source.mkdir()
    for number in range(20):
        (source / f"invoice-{number}.txt").write_text(f"invoice {number}\n" * 50)
    (tmp_path / "password").write_text("correct horse\n")

    def make(*, incremental="every 1h", drill='schedule = "daily 04:30"', extra="", job_extra="") -> Daemon:
        port = free_port()
        config = tmp_path / "keepwatch.toml"
        config.write_text(f"""
[daemon]
state_dir = "{tmp_path}/state"
[web]
listen = "127.0.0.1:{port}"
[repositories.local]
url = "{tmp_path}/repository"
password_file = "{tmp_path}/password"
[jobs.documents]
source = {{ type = "files", paths = ["{source}"] }}
repositories = ["local"]
full = "sunday 02:00"
incremental = "{incremental}"
keep = {{ last = 5 }}
rpo = "2h"
rto = "10m"
{job_extra}
[jobs.documents.drill]
{drill}
[[checks]]
name = "root disk"
type = "disk"
path = "/"
every = "1s"
warning = "> 99.99%"
{extra}
""")
        daemon = Daemon(tmp_path, config, port)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
