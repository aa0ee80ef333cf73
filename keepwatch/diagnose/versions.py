"""The second question: which versions of what, and is the system waiting for updates? Looks only; installs nothing."""

import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from keepwatch import __version__
from keepwatch.diagnose.answer import Answer, note, ok, problem, unknown

_SECONDS = 60.0
_OLDEST_PYTHON = (3, 11)
_TOOLS = (
    "restic", "psql", "pg_dump", "postgres", "mariadb", "mariadb-dump", "mariadbd", "redis-server", "redis-cli",
    "sqlite3", "smartctl", "mdadm", "zpool", "ipmitool", "docker", "systemctl",
)  # fmt: skip
"""Programs that jobs, checks and drills may use, servers included; one that is missing is only told."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def versions(distribution: str = "keepwatch") -> Iterator[Answer]:
    """Answer for the program, Python, libraries, tools, and pending updates of the system."""
    yield ok("keepwatch", __version__)
    python = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        yield problem("Python", python, "3.11 is the oldest that works")
    else:
        yield ok("Python", f"{python}, {sys.executable}")
    yield ok("system", f"{_system()}, kernel {platform.release()}, {platform.machine()}")
    yield ok("SQLite", sqlite3.sqlite_version)
    with ThreadPoolExecutor(max_workers=8) as pool:  # each mostly waits for a program to start
        updates = pool.submit(_updates)
        tools = list(pool.map(_tool, _TOOLS))
        yield from _libraries(distribution)
        yield from (answer for answer in tools if answer is not None)
        if missing := [name for name, answer in zip(_TOOLS, tools, strict=True) if answer is None]:
            yield note("not installed", ", ".join(missing))
        yield updates.result()


def _libraries(distribution: str) -> Iterator[Answer]:
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        yield unknown("libraries", f"{distribution} is not installed as a package", "make install")
        return
    for requirement in required:
        match = _NAME.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        try:
            yield ok(match[0], metadata.version(match[0]))
        except metadata.PackageNotFoundError:
            yield problem(match[0], f"is missing; wanted {requirement}", "pip install keepwatch, in its environment")


def _tool(tool: str) -> Answer | None:
    """Return what a program says of itself; None where there is none."""
    program = _find(tool)
    if program is None:
        return None
    said = _run([program, "version" if tool == "restic" else "--version"])
    first = next((line.strip() for line in (said or "").splitlines() if line.strip()), "")
    return ok(tool, first) if first else unknown(tool, f"{program} does not say its version")


def _find(tool: str) -> str | None:
    """Look in PATH, then where Debian puts servers."""
    servers = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{tool}"), reverse=True)
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin") or (str(servers[0]) if servers else None)


def _updates() -> Answer:
    """Ask apt, which simulates and changes nothing, and needs no lock and no network."""
    if not shutil.which("apt-get"):
        return unknown("system updates", "this system has no apt-get")
    said = _run(["apt-get", "--simulate", "--quiet", "-o", "Debug::NoLocking=true", "upgrade"])
    if said is None:
        return unknown("system updates", "apt-get did not answer", "apt-get --simulate upgrade says why")
    return judge_updates(said, rebooting=Path("/run/reboot-required").exists())


def judge_updates(said: str, *, rebooting: bool) -> Answer:
    """Read what a simulated upgrade says: a line `Inst NAME [old] (new SOURCE)` for each package."""
    waiting = [line for line in said.splitlines() if line.startswith("Inst ")]
    security = [line.split()[1] for line in waiting if "security" in line.lower()]
    reboot = "; a restart of the system is due" if rebooting else ""
    if security:
        names = ", ".join(security[:5]) + (", ..." if len(security) > 5 else "")
        message = f"{len(waiting)} waiting, {len(security)} of them for security: {names}{reboot}"
        return problem("system updates", message, "apt-get upgrade, after a backup")
    if waiting or rebooting:
        return note("system updates", f"{len(waiting)} waiting, none of them for security{reboot}")
    return ok("system updates", "none waiting, as of the last apt-get update")


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _run(command: list[str]) -> str | None:
    """Return what a program prints; None when it fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, stdin=subprocess.DEVNULL,
            check=False, env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "HOME": "/"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
