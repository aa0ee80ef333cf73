"""Servers of our own for restored data: an unprivileged user, a socket in a folder of ours, an end that always comes.

Root gives a server a mount namespace, in which the folders that it may use lie below /mnt, so that nothing above them
need be opened to anybody, and a network namespace with nothing in it. Where the kernel allows root neither, the
folders have to be such that user nobody can pass through what is above them. Anybody else starts servers as
themselves.

Nothing here listens beyond a socket; that is for the options that callers give.
"""

import ctypes
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Self

from backup.applications import memory
from backup.errors import ApplicationError, RestoreError

_SERVER_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where servers lie, and an ordinary user's PATH does not look."""
_USER = "nobody"
_MOUNTED_AT = "/mnt"
_NAMESPACES = ("unshare", "--mount", "--net")
_MOVE_IN = """set -eu
user=$1 group=$2; shift 2
mount -t tmpfs -o mode=755 keepwatch /mnt
count=0
while [ "$1" != -- ]; do
    mkdir "/mnt/$count"; mount --bind "$1" "/mnt/$count"
    count=$((count + 1)); shift
done
shift
cd /
exec setpriv --reuid "$user" --regid "$group" --clear-groups --pdeathsig KILL -- "$@"
"""
_LOOK_EVERY_SECONDS = 0.02
_ENDS_WITHIN_SECONDS = 60
_TOLD_LINES, _TOLD_BYTES = 5, 16 << 10
_LATE_HINT = "allow it more time, or choose a quieter one"
_MACHINES_FAULT = re.compile(
    "no space left|disk (?:is )?full|the table '.*' is full|quota exceeded|cannot allocate memory|out of memory",
    re.IGNORECASE,
)
"""What a program says that lacked something of this machine."""
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


def find_program(*names: str, folders: Sequence[str] = ()) -> str | None:
    """Return the path of the first of these programs that this machine has; ``folders`` are looked through first."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), *_SERVER_FOLDERS])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def program(*names: str) -> str:
    """Return the path of the first of these programs. Raises RestoreError when there is none."""
    found = find_program(*names)
    if found is None:
        raise RestoreError(f"could not find {' or '.join(names)}", hint="install it on the machine that restores")
    return found


@dataclass(slots=True)
class Server:
    """A server that runs."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_until(
        self, ready: Callable[[], bool], *, timeout_seconds: float, what: str = "start on the restored data"
    ) -> Self:
        """Return when it answers. Raises ApplicationError when it ends before, RestoreError when the machine is why, or
        time is up: then nobody can say.
        """
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            status = self.process.poll()
            if status is not None:
                raise _failure(f"could not {what}: {self.name}", status, self.log)
            if time.monotonic() > deadline:
                reason = f"could not {what}: {self.name} did not answer within {timeout_seconds:g} s"
                raise RestoreError(reason + last_words(self.log), hint=_LATE_HINT)
            time.sleep(_LOOK_EVERY_SECONDS)
        return self


@dataclass(frozen=True, slots=True)
class Quarters:
    """What a server of ours may use: a few folders, which are its user's for as long as it lives there."""

    folders: tuple[Path, ...]
    user: pwd.struct_passwd | None
    """None when servers run as ourselves."""
    moved: bool
    """Whether servers find the folders below /mnt, in a namespace of their own."""
    descriptor: int
    """Of the last folder, where sockets lie."""

    def inside(self, path: Path) -> str:
        """Name a place in one of the folders as a server finds it."""
        if self.moved:
            for number, folder in enumerate(self.folders):
                if path.is_relative_to(folder):
                    return f"{_MOUNTED_AT}/{number}/{path.relative_to(folder)}".removesuffix("/.")
        return os.fspath(path)

    def socket(self, name: str) -> tuple[str, str]:
        """Name a socket in the last folder, once for servers and once for us: by the open folder, since the path of a
        socket has to be shorter than that of many a folder.
        """
        inside = f"{_MOUNTED_AT}/{len(self.folders) - 1}" if self.moved else f"/proc/self/fd/{self.descriptor}"
        return f"{inside}/{name}", f"/proc/{os.getpid()}/fd/{self.descriptor}/{name}"

    def adopt(self, path: Path) -> None:
        """Let what was made in one of the folders since belong to the server's user, too."""
        if self.user is not None:
            hand_over(path, self.user)

    def run(
        self,
        command: Sequence[str],
        *,
        what: str,
        log: Path,
        timeout_seconds: float,
        standard_input: IO[bytes] | int = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run a program to its end; what it says goes to ``log``.

        Raises ApplicationError with its last words when it fails, RestoreError when it cannot be started, takes too
        long, or lacks something of this machine.
        """
        with log.open("ab") as said:
            child = self._start(command, said, standard_input, environment)
        name = Path(command[0]).name
        with memory.watched(name, child.pid):
            try:
                status = child.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                reason = f"could not {what}: it took longer than {timeout_seconds:g} s"
                raise RestoreError(reason, hint=_LATE_HINT) from None
            finally:
                _end(child, signal.SIGKILL)
            if status != 0:
                raise _failure(f"could not {what}: {name}", status, log)

    @contextmanager
    def serving(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        end: signal.Signals = signal.SIGTERM,
    ) -> Iterator[Server]:
        """Have a server; it ends with ``end``, by force after a minute, and when we die.

        Raises RestoreError when it cannot be started; whether it comes up is for :meth:`Server.wait_until`.
        """
        with log.open("ab") as said:
            child = self._start(command, said, subprocess.DEVNULL, environment)
        name = Path(command[0]).name
        with memory.watched(name, child.pid):
            try:
                yield Server(name, child, log)
            finally:
                _end(child, end)

    def _start(
        self,
        command: Sequence[str],
        said: IO[bytes],
        standard_input: IO[bytes] | int,
        environment: Mapping[str, str] | None,
    ) -> "subprocess.Popen[bytes]":
        given = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
        words, user, group = list(command), None, None
        if self.moved and self.user is not None:
            ids = [str(self.user.pw_uid), str(self.user.pw_gid)]
            folders = [os.fspath(folder) for folder in self.folders]
            words = [*_NAMESPACES, "--", "sh", "-c", _MOVE_IN, "keepwatch", *ids, *folders, "--", *words]
        elif self.user is not None:
            user, group = self.user.pw_uid, self.user.pw_gid
        try:
            return subprocess.Popen(
                words, stdin=standard_input, stdout=said, stderr=said, cwd="/", env=given | dict(environment or {}),
                start_new_session=True, umask=0o077, pass_fds=[self.descriptor], preexec_fn=_die_with_us,
                user=user, group=group, extra_groups=None if user is None else [],
            )  # fmt: skip
        except OSError as error:
            raise RestoreError(
                f"could not start {command[0]}: {(error.strerror or str(error)).lower()}",
                hint="is it installed, and may this user start it?",
            ) from None


@contextmanager
def quarters(*folders: Path) -> Iterator[Quarters]:
    """Prepare folders for a server of ours; they and everything in them become the property of its user.

    Sockets lie in the last one. Raises RestoreError when the server's user could not reach them.
    """
    whole = tuple(folder.resolve() for folder in folders)
    user = pwd.getpwnam(_USER) if os.geteuid() == 0 else None
    moved = user is not None and _may_move()
    if user is not None and not moved:
        _refuse_closed_ways(whole, user)
    descriptor = os.open(whole[-1], os.O_RDONLY | os.O_DIRECTORY)
    try:
        if user is not None:
            for folder in whole:
                hand_over(folder, user)
        yield Quarters(whole, user, moved, descriptor)
    finally:
        os.close(descriptor)


def hand_over(path: Path, user: pwd.struct_passwd) -> None:
    """Make ``path`` and everything below it the property of ``user``."""
    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    for place, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(os.path.join(place, name), user.pw_uid, user.pw_gid, follow_symlinks=False)


def last_words(log: Path) -> str:
    """Return the last lines of a log, behind a colon; empty when there are none."""
    with suppress(OSError), log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - _TOLD_BYTES))
        lines = said.read().decode("utf-8", "replace").strip().splitlines()[-_TOLD_LINES:]
        return f": {' | '.join(line.strip() for line in lines)}" if lines else ""
    return ""


@cache
def _may_move() -> bool:
    """Say whether root may have namespaces here; containers and hardened services may not."""
    if find_program("unshare") is None or find_program("setpriv") is None:
        return False
    tried = subprocess.run(
        [*_NAMESPACES, "--", "mount", "-t", "tmpfs", "keepwatch", _MOUNTED_AT], capture_output=True, check=False
    )
    return tried.returncode == 0


def _refuse_closed_ways(folders: Sequence[Path], user: pwd.struct_passwd) -> None:
    for folder in folders:
        for above in folder.parents:
            status = above.stat()
            if not status.st_mode & 0o001 and status.st_uid != user.pw_uid:
                raise RestoreError(
                    f"could not start a server below {folder}: user {user.pw_name} may not pass through {above}",
                    hint="restore as an ordinary user, or below a folder that everybody may pass through",
                )


def _die_with_us() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    memory.offer_ourselves()


def _end(child: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    if child.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(child.pid, how)
    try:
        child.wait(_ENDS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _failure(what: str, status: int, log: Path) -> ApplicationError | RestoreError:
    """Make the error of a program that ended: by the kernel's hand, or for lack of room or memory, it is no fault of
    the data.
    """
    words = last_words(log)
    ending = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    if status == -signal.SIGKILL or _MACHINES_FAULT.search(words):
        return RestoreError(f"{what} {ending}{words}", hint="look at this machine's memory, disk and load")
    return ApplicationError(f"{what} {ending}{words}")
