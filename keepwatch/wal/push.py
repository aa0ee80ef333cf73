"""``keepwatch wal push``: hands one file of a server's log to the receiver, and waits until it is durable.

PostgreSQL starts this for every segment and waits for it, so nothing is imported here but what the interpreter has
loaded anyway, and the C module below ``socket``: that one takes longer to import than the interpreter to start, and
``collections.abc`` as long. The file goes over as an open descriptor: the receiver needs no right to read the server's
data, and the server's user none to reach the repository. Without a receiver it is refused here, and the command line
does it the direct way where it may; a server keeps what it could not archive, and tries again.
"""

import _socket
import os
import sys

RUN_DIRECTORY = "/run/keepwatch"
_TIMEOUT_SECONDS = 600
_LONGEST_ANSWER = 4096


class NoReceiver(Exception):  # noqa: N818 - it says what is the case
    """Nobody listens."""


def main(arguments: list[str]) -> int | None:
    """Push ``[--job JOB] [--socket PATH] FILE``; gives the exit status, or None when somebody else has to do it.

    Exit status: 0 the file is durable; 1 it is not, and standard error says why.
    """
    job, path, file = "", "", ""
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--job":
            job = value if equals else next(words, "")
        elif name == "--socket":
            path = value if equals else next(words, "")
        elif word.startswith("-") or file:
            return None
        else:
            file = word
    if not file:
        return None
    try:
        answer = push(path or find(job), job, file)
    except NoReceiver:
        return None
    except OSError as error:
        sys.stderr.write(f"keepwatch: could not push WAL {file}: {(error.strerror or str(error)).lower()}\n")
        return 1
    if answer.startswith("ok"):
        return 0
    sys.stderr.write(f"keepwatch: could not push WAL {os.path.basename(file)}: {answer or 'the receiver broke off'}\n")
    return 1


def push(path: str, job: str, file: str) -> str:
    """Hand a file over and return the receiver's answer. Raises NoReceiver, OSError for the file."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            channel.settimeout(_TIMEOUT_SECONDS)
            try:
                channel.connect(path)
            except OSError as error:
                raise NoReceiver(path) from error
            request = f"{os.path.basename(file)}\n{job}\n".encode()
            handed_over = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))
            channel.sendmsg([request], [handed_over])
            channel.shutdown(_socket.SHUT_WR)
            answer = b""
            while part := channel.recv(_LONGEST_ANSWER):
                answer += part
            return answer.decode("utf-8", "replace").strip()
        finally:
            channel.close()
    finally:
        os.close(descriptor)


def find(job: str) -> str:
    """Return the socket of a job's receiver, or of the only one there is. Raises NoReceiver."""
    for folder in (RUN_DIRECTORY, *_state_directories()):
        if job:
            place = f"{folder}/wal-{job}.sock"
            if os.path.exists(place):
                return place
            continue
        try:
            names = [name for name in os.listdir(folder) if name.startswith("wal-") and name.endswith(".sock")]
        except OSError:
            continue
        if len(names) == 1:
            return f"{folder}/{names[0]}"
    raise NoReceiver(job)


def _state_directories() -> list[str]:
    named = os.environ.get("KEEPWATCH_STATE_DIR")
    home = os.path.expanduser("~/.local/state/keepwatch")
    return [f"{folder}/wal" for folder in (named, "/var/lib/keepwatch", home) if folder]
