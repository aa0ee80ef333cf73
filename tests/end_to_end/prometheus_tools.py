"""Debian's own Prometheus, Alertmanager and node_exporter as children on free ports of loopback, and a webhook."""

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from tests.end_to_end.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def get(url: str, *, timeout: float = 5) -> Any:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        body = answer.read()
    return json.loads(body) if "json" in answer.headers["Content-Type"] else body.decode()


def until(condition: Callable[[], T], what: str, seconds: float = 40.0) -> T:
    """Wait for real servers to get somewhere; errors of connecting count as not yet."""
    deadline = time.monotonic() + seconds
    problem = "the answer was empty"
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except OSError as error:
            problem = str(error)
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:g} s ({problem})")


@contextmanager
def running(command: list[str], folder: Path, ready: str) -> Iterator[None]:
    """A server, from when ``ready`` answers until it is stopped by its process id."""
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        until(lambda: server.poll() is None and get(ready), f"{command[0]} is ready")
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def alertmanager(folder: Path, config: str, port: int = 0) -> Iterator[str]:
    port = port or free_port()
    (folder / "alertmanager.yml").write_text(config, encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus-alertmanager", "--config.file=alertmanager.yml", f"--storage.path={folder}/alertmanager",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with running(command, folder, f"{url}/-/ready"):
        yield url


@contextmanager
def prometheus(folder: Path, config: str) -> Iterator[str]:
    port = free_port()
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(command, folder, f"{url}/-/ready"):
        yield url


@contextmanager
def node_exporter(folder: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    # upstream's defaults: Debian leaves out loopback and more mount points, and Debian 12's version not yet zram
    places = "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    command = [
        "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}",
        f"--collector.filesystem.mount-points-exclude={places}", "--collector.netdev.device-exclude=^$",
        r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
    ]  # fmt: skip
    with running(command, folder, url):
        yield url


class Webhook:
    """What Alertmanager was told to tell: every alert of every message, in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.messages.append((self.path, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def alerts(self, status: str, **labels: str) -> list[dict[str, Any]]:
        return [
            alert
            for _, message in list(self.messages)
            for alert in message["alerts"]
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def impatient(webhook: str) -> str:
    """The Alertmanager configuration that we ship, but for its waiting times and receivers."""
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    for patient, quick in (
        ("group_wait: 30s", "group_wait: 100ms"), ("group_wait: 10s", "group_wait: 100ms"),
        ("group_interval: 5m", "group_interval: 500ms"), ("group_interval: 30s", "group_interval: 500ms"),
        ("http://127.0.0.1:8060", webhook),
    ):  # fmt: skip
        assert patient in text
        text = text.replace(patient, quick)
    before, _, rest = text.partition("    email_configs:")
    hook = f"    webhook_configs: [{{url: '{webhook}/team', send_resolved: true}}]\n"
    return f"{before}{hook}  {rest[rest.index('- name: pager'):]}"
