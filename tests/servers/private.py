"""A server of one's own: an unprivileged user, a folder that it owns, a port that is free, and an end by process id."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_READY_SECONDS = 60.0
_END_SECONDS = 20.0


def path_of(program: str, *folders: str) -> str:
    """Return where a server's program lies: servers are where only root's PATH looks, or not even that."""
    found = shutil.which(program, path=os.pathsep.join([*folders, os.environ["PATH"], "/usr/local/sbin", "/usr/sbin"]))
    if found is None:
        raise FileNotFoundError(f"{program} is not installed; tests/install_tools.sh installs it")
    return found


def unprivileged() -> dict[str, Any]:
    """Return what ``subprocess`` needs to drop root's rights; nothing when there are none to drop."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def hand_over(path: Path) -> None:
    """Give a file or folder to the user that servers run as."""
    if user := unprivileged():
        os.chown(path, user["user"], user["group"])


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """Give a folder that belongs to the server's user, with a path short enough for a socket in it.

    pytest's own temporary folders are root's alone when root runs the tests.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"kw-{name}-", dir="/tmp"))
    hand_over(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(command: Sequence[object], folder: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end as the server's user, in ``folder``. Its output is in the error when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        env=environment(folder), **unprivileged(), **options,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a short environment, in which ``folder`` is home."""
    return {"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": str(folder), "LC_ALL": "C.UTF-8", **(more or {})}


def start(
    command: Sequence[object],
    folder: Path,
    ready: Callable[[], bool],
    *,
    variables: Mapping[str, str] | None = None,
    as_is: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a server in ``folder`` and wait until it is ``ready``. Its output goes to ``folder/output``.

    ``as_is``: keep the tests' own user, for servers that insist on it.
    """
    words = [str(word) for word in command]
    with (folder / "output").open("ab") as output:
        server = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment(folder, variables), start_new_session=True, **({} if as_is else unprivileged()),
        )  # fmt: skip
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            stop(server, signal.SIGKILL)
            said = (folder / "output").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{' '.join(words)} does not come up:\n{said[-4000:]}")
        time.sleep(0.02)
    return server


def stop(server: "subprocess.Popen[bytes]", how: signal.Signals = signal.SIGTERM) -> None:
    """End a server, with force when it does not listen."""
    if server.poll() is None:
        server.send_signal(how)
    try:
        server.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(_END_SECONDS)


@contextlib.contextmanager
def running(
    command: Sequence[object], folder: Path, ready: Callable[[], bool], **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a server that is :func:`start`-ed with these, for as long as the context lasts."""
    server = start(command, folder, ready, **options)
    try:
        yield server
    finally:
        stop(server)


def accepts(port: int) -> Callable[[], bool]:
    """Return a test whether something accepts connections on that port of 127.0.0.1."""

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    return ready
