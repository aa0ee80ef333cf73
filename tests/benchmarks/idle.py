"""What the idle daemon costs: memory (PSS of all its processes) and processor, with the default checks every 10 s.

``make bench MINUTES=10``, or ``idle.py --minutes 10 [--most-mib 64] [--most-percent 0.5] [--json]``. The daemon runs on
the embedded default in a state directory of its own; measuring begins when its first backup and drill are over. Exits
with 1 when a bound is broken, or when the daemon ends.
"""

import argparse
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from config import default

SAMPLE_SECONDS = 5.0
QUIET_SECONDS = 15.0
"""The daemon counts as idle when no job has run for so long."""
START_SECONDS = 180.0


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(directory: Path, port: int, extra: str = "") -> "subprocess.Popen[bytes]":
    """Start a daemon on the embedded default, but for its port and ``extra`` settings."""
    settings = directory / "keepwatch.toml"
    text = f'[daemon]\nstate_dir = {json.dumps(str(directory / "state"))}\n[web]\nlisten = "127.0.0.1:{port}"\n'
    settings.write_text(text + extra + default.text(directory / "state"), encoding="utf-8")
    # The operator makes the passwords of a configured repository, so this one is made here.
    (directory / "state").mkdir(mode=0o700)
    password = directory / "state" / default.PASSWORD_FILE
    password.write_text("benchmark\n", encoding="utf-8")
    password.chmod(0o600)
    command = [Path(sys.executable).with_name("keepwatch"), "run", "--config", settings]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def processes(daemon: psutil.Process) -> list[psutil.Process]:
    """The daemon and everything it has started."""
    return [daemon, *daemon.children(recursive=True)]


def has_run_going_on(daemon: psutil.Process) -> bool:
    """Whether a job's child is there; the child that asks file systems for their size always is."""
    for process in daemon.children():
        try:
            if "keepwatch.job_child" in process.cmdline():
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def wait_until_idle(daemon: psutil.Process) -> float:
    """Return the seconds it took until the first backups and drills were over. Raises TimeoutError."""
    began = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        if has_run_going_on(daemon):
            quiet_since = time.monotonic()
        if time.monotonic() - began > START_SECONDS:
            raise TimeoutError(f"the daemon was not idle after {START_SECONDS:g} s")
        time.sleep(0.2)
    return quiet_since - began


def pss_bytes(daemon: psutil.Process) -> int:
    """Proportional set size of the daemon and its children: shared pages count by their share."""
    total = 0
    for process in processes(daemon):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def cpu_seconds(daemon: psutil.Process) -> float:
    """Processor time of the daemon and of the children that have ended."""
    times = daemon.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def measure(daemon: psutil.Process, minutes: float, port: int) -> dict[str, float]:
    """Sample for ``minutes``; scrapes /metrics twice a minute, as Prometheus would."""
    began, cpu_before = time.monotonic(), cpu_seconds(daemon)
    samples, scraped = [], -30.0
    while (elapsed := time.monotonic() - began) < minutes * 60:
        if elapsed - scraped >= 30:
            scraped = elapsed
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                answer.read()
        samples.append(pss_bytes(daemon))
        time.sleep(SAMPLE_SECONDS)
    took = time.monotonic() - began
    return {
        "minutes": round(took / 60, 2),
        "pss_mib_median": round(statistics.median(samples) / 2**20, 1),
        "pss_mib_max": round(max(samples) / 2**20, 1),
        "pss_mib_growth": round((statistics.median(samples[-5:]) - statistics.median(samples[:5])) / 2**20, 2),
        "cpu_percent_of_one_core": round(100 * (cpu_seconds(daemon) - cpu_before) / took, 3),
        "threads": daemon.num_threads(),
        "open_files": daemon.num_fds(),
    }


def main() -> int:
    """Run the benchmark and print what came out as rows for the README's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--most-mib", type=float, default=64, help="bound on the largest PSS")
    parser.add_argument("--most-percent", type=float, default=0.5, help="bound on processor time, of one core")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keepwatch-idle.") as name:
        directory, port = Path(name), free_port()
        child = start(directory, port)
        try:
            daemon = psutil.Process(child.pid)
            busy = wait_until_idle(daemon)
            figures = {"seconds_until_idle": round(busy, 1)} | measure(daemon, arguments.minutes, port)
        except (psutil.Error, OSError) as error:
            log = (directory / "log").read_text(encoding="utf-8", errors="replace")
            sys.stderr.write(f"measuring the idle daemon: {error}\n{log[-3000:]}\n")
            return 1
        finally:
            child.terminate()
            child.wait(60)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write(f"{platform.machine()}, Python {platform.python_version()}, {psutil.cpu_count()} cores\n")
        sys.stdout.writelines(f"{key.replace('_', ' '):26} {value}\n" for key, value in figures.items())
    too_large = figures["pss_mib_max"] > arguments.most_mib
    return int(too_large or figures["cpu_percent_of_one_core"] > arguments.most_percent)


if __name__ == "__main__":
    sys.exit(main())
