"""What watching costs: a daemon with many checks, its processor time, memory and punctuality, and how soon it tells.

``python -m tests.benchmarks.monitoring [--seconds 60] [SCENE...]`` with the scenes

- ``hundred``: 100 checks of the host, of programs and of ports every 10 s: PSS at most 64 MiB, at most 1 % of a core;
- ``thousands``: 10,000 TCP and HTTP checks every 60 s against servers of our own: lag p99 at most 1 s, PSS at most
  200 MiB, at most 60 % of a core; and while it runs, one port closes: from the breach to the delivered message at most
  interval + ``for`` + 1 s;
- ``stuck``: the same with a black-holed address, a program that never ends and a mount that does not answer (a FUSE
  server of our own that stops): the others' lag stays below 1 s.

Lag is how long after its planned moment a check began, of every run, from the pool's own counters. Exits with 1 when a
bound is broken.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from tests.benchmarks import idle
from tests.benchmarks.dead_mount import dead_mount

SETTLE_SECONDS = 45.0
"""The first round of all checks at once, and the grace after a start, are over then."""


@dataclass(frozen=True)
class Bounds:
    """What a scene may cost."""

    pss_mib: float
    cpu_percent: float
    lag_p99_seconds: float
    telling_seconds: float | None = None


BOUNDS = {
    "hundred": Bounds(64, 1, 1),
    "thousands": Bounds(200, 60, 1, 61),
    "stuck": Bounds(200, 60, 1),
}


class Targets:
    """TCP and HTTP servers on loopback in a process of their own, so that their work is not the daemon's."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.monitoring", "--serve"], stdout=subprocess.PIPE, text=True
        )
        assert self.server.stdout
        self.tcp, self.http = map(int, self.server.stdout.readline().split())

    def close(self) -> None:
        self.server.terminate()
        self.server.wait(10)
        assert self.server.stdout
        self.server.stdout.close()


async def serve() -> None:
    """Take connections and answer requests until killed."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
        writer.close()

    servers = [await asyncio.start_server(handler, "127.0.0.1", 0, backlog=4096) for handler in (greet, answer)]
    sys.stdout.write(" ".join(str(server.sockets[0].getsockname()[1]) for server in servers) + "\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


class Inbox:
    """A webhook that notes when a message that names something came."""

    def __init__(self) -> None:
        self.came: list[tuple[float, str]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                inbox.came.append((time.monotonic(), body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def when(self, words: str, since: float) -> float | None:
        return next((at for at, body in self.came if at >= since and words in body), None)


class Door:
    """One port that can be closed."""

    def __init__(self) -> None:
        self.socket = __import__("socket").create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.socket.accept()[0].close()
            except OSError:
                return

    def close(self) -> None:
        self.socket.shutdown(2)
        self.socket.close()


def check(name: str, kind: str, every: str, **keys: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(("[[checks]]", f'name = "{name}"', f'type = "{kind}"', f'every = "{every}"', *lines, ""))


def hundred(targets: Targets, door: Door) -> str:
    host = [("cpu", {}), ("load", {}), ("memory", {}), ("swap", {}), ("disk", {"path": "/"}), ("network", {})]
    checks = [check(f"{kind} {n}", kind, "10s", **keys) for n in range(10) for kind, keys in host]
    checks += [check(f"port {n}", "tcp", "10s", host="127.0.0.1", port=targets.tcp) for n in range(35)]
    return "\n".join([*checks, *(check(f"program {n}", "command", "10s", run="/bin/true") for n in range(5))])


def thousands(targets: Targets, door: Door) -> str:
    checks = [check(f"port {n}", "tcp", "60s", host="127.0.0.1", port=targets.tcp) for n in range(5000)]
    url = f"http://127.0.0.1:{targets.http}/"
    checks += [check(f"page {n}", "http", "60s", url=url) for n in range(4999)]
    return "\n".join([*checks, check("the door", "tcp", "60s", host="127.0.0.1", port=door.port)])


def stuck(targets: Targets, door: Door, mount: Path) -> str:
    hole = [check(f"black hole {n}", "tcp", "10s", host="192.0.2.1", port=80 + n, timeout="9s") for n in range(20)]
    hung = [check(f"hung program {n}", "command", "10s", run="/bin/sleep 3600", timeout="9s") for n in range(20)]
    dead = [check("dead mount", "disk", "10s", path=str(mount), timeout="5s")]
    return "\n".join([thousands(targets, door), *hole, *hung, *dead])


@contextmanager
def daemon(folder: Path, port: int, checks: str, inbox: Inbox) -> Iterator[psutil.Process]:
    hook = f"json://127.0.0.1:{inbox.server.server_port}/"
    (folder / "keepwatch.toml").write_text(
        f'[daemon]\nstate_dir = "{folder}/state"\n[web]\nlisten = "127.0.0.1:{port}"\n'
        f'[[notify]]\nname = "inbox"\nurl = "{hook}"\ngroup_wait = "0s"\ngroup_interval = "1s"\n{checks}',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "keepwatch", "run", "--config", str(folder / "keepwatch.toml")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def lags(text: str) -> dict[float, float]:
    """The histogram of lags: bound in seconds to how many runs began within it."""
    found = re.findall(r'keepwatch_check_start_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', text)
    return {float(bound.replace("+Inf", "inf")): float(count) for bound, count in found}


def lag_p99(before: dict[float, float], after: dict[float, float]) -> float:
    """The smallest bound that 99 % of the runs in between kept."""
    runs = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    return next(bound for bound, count in runs.items() if count >= 0.99 * runs[float("inf")])


def run(scene: str, seconds: float) -> dict[str, float]:
    """Play one scene and return its figures."""
    with tempfile.TemporaryDirectory(prefix="keepwatch-load.") as name, dead_mount(scene == "stuck") as mount:
        folder, port, targets, inbox, door = Path(name), idle.free_port(), Targets(), Inbox(), Door()
        text = {"hundred": hundred, "thousands": thousands}.get(scene, lambda t, d: stuck(t, d, mount))(targets, door)
        try:
            with daemon(folder, port, text, inbox) as process:
                wait_for_page(port, process, folder)
                time.sleep(SETTLE_SECONDS + (60 if scene != "hundred" else 0))
                first, began, cpu = lags(page(port)), time.monotonic(), idle.cpu_seconds(process)
                closed = time.monotonic()
                if scene == "thousands":
                    door.close()
                samples = []
                while time.monotonic() - began < seconds:
                    samples.append(idle.pss_bytes(process))
                    time.sleep(5)
                took = time.monotonic() - began
                spent = idle.cpu_seconds(process) - cpu
                second = lags(page(port))
                figures = {
                    "checks": text.count("[[checks]]"),
                    "runs_per_second": round((second[float("inf")] - first[float("inf")]) / took, 1),
                    "pss_mib": round(max(samples) / 2**20, 1),
                    "cpu_percent": round(100 * spent / took, 2),
                    "lag_p99_seconds": lag_p99(first, second),
                }
                if scene == "thousands":
                    told = inbox.when("the door", closed)
                    figures["telling_seconds"] = round(told - closed, 1) if told else float("inf")
                return figures
        finally:
            targets.close()


def wait_for_page(port: int, process: psutil.Process, folder: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            page(port)
        except OSError:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text(errors="replace")[-3000:]) from None
            time.sleep(0.2)
        else:
            return


def broken(figures: dict[str, float], bounds: Bounds) -> list[str]:
    """Name the bounds that were not kept."""
    wanted = {
        "pss_mib": bounds.pss_mib, "cpu_percent": bounds.cpu_percent, "lag_p99_seconds": bounds.lag_p99_seconds,
        "telling_seconds": bounds.telling_seconds,
    }  # fmt: skip
    return [f"{key} {figures[key]} > {most}" for key, most in wanted.items() if most and figures.get(key, 0) > most]


def main() -> int:
    """Play the scenes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", choices=[*BOUNDS, []], metavar="SCENE")
    parser.add_argument("--seconds", type=float, default=70)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    failed = False
    sys.stdout.write("| scene | checks | runs/s | PSS MiB | % of a core | lag p99 s | told after s | met |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    for scene in arguments.scenes or BOUNDS:
        figures = run(scene, arguments.seconds)
        missed = broken(figures, BOUNDS[scene])
        failed |= bool(missed)
        cells = [scene, *(figures.get(key, "") for key in (
            "checks", "runs_per_second", "pss_mib", "cpu_percent", "lag_p99_seconds", "telling_seconds",
        )), f"no: {', '.join(missed)}" if missed else "yes"]  # fmt: skip
        sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    os.environ.pop("KEEPWATCH_CONFIG", None)
    sys.exit(main())
