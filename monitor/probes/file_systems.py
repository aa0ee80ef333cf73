"""Sizes of file systems, asked for in a child process that can be given up.

``statvfs`` on a dead NFS mount sleeps in the kernel, and a thread that sleeps there can neither be ended nor waited
out. So one small child answers such questions for the whole daemon. A question that is not answered in time costs the
child its life; the next one gets a new child. While a killed child still hangs in the kernel, nothing more is asked
about its path, so that a dead mount holds one process, not one more each minute.
"""

import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.result import ProbeError

_CHILD = """
import os, sys
for line in sys.stdin.buffer:
    try:
        s = os.statvfs(bytes.fromhex(line.decode()))
        answer = "ok %d %d %d %d %d %d" % (s.f_frsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_favail)
    except OSError as error:
        answer = "error %d" % error.errno
    sys.stdout.write(answer + "\\n")
    sys.stdout.flush()
"""
CHILD_COMMAND = (sys.executable, "-I", "-S", "-c", _CHILD)
"""Without site packages: under 3 MiB of its own memory. It ends by itself when its input closes."""
_BUSY_WAIT_SECONDS = 0.5
"""How long a second question waits for the child before it gets one of its own: answers take microseconds."""
_REAP_SECONDS = 0.5
_MOST_AT_ONCE, _MOST_BYTES_AT_ONCE = 32, 4096
"""How much is asked before answers are read: it fits into a pipe of a single page, and so do the answers."""
_HINT = "a network mount whose server is gone does this; umount -l ends the wait"


@dataclass(frozen=True, slots=True)
class FileSystemUsage:
    """What statvfs(3) says, in bytes and counts. ``available_bytes`` is what an ordinary user may still take."""

    total_bytes: int
    free_bytes: int
    available_bytes: int
    inodes: int
    """0 on file systems without a fixed number of them (btrfs)."""
    inodes_available: int


class NoAnswer(ProbeError):  # noqa: N818 - the tree's root carries the word
    """A file system did not answer in time, or has not yet answered an earlier question."""


class FileSystems:
    """Answers :meth:`usage` for any number of threads. ``kill`` is how a silent child is ended."""

    def __init__(
        self,
        command: Sequence[str] = CHILD_COMMAND,
        kill: Callable[["subprocess.Popen[bytes]"], None] = subprocess.Popen.kill,
    ) -> None:
        self._command = command
        self._kill = kill
        self._lock = threading.Lock()
        self._child_free = threading.Semaphore()
        self._idle: subprocess.Popen[bytes] | None = None
        self._stuck: dict[str, tuple[subprocess.Popen[bytes], float]] = {}

    @property
    def stuck_children(self) -> int:
        """How many killed children still hang in the kernel, one for each dead path."""
        with self._lock:
            return sum(child.poll() is None for child, _ in self._stuck.values())

    def usage(self, path: str, timeout_seconds: float) -> FileSystemUsage:
        """Return the usage of the file system that ``path`` is on.

        Raises ProbeError when there is no such path, or no answer within the time.
        """
        found = self.usages([path], timeout_seconds)[path]
        if isinstance(found, ProbeError):
            raise found
        return found

    def usages(self, paths: Sequence[str], timeout_seconds: float) -> "dict[str, FileSystemUsage | ProbeError]":
        """Do the same for many paths, each once, at the price of one question; each answer may take that long."""
        found: dict[str, FileSystemUsage | ProbeError] = {}
        waiting = []
        for path in paths:
            if (stuck := self._stuck_since(path)) is None:
                waiting.append(path)
            else:
                found[path] = stuck
        try:
            while waiting:
                answered = self._ask_some(_batch(waiting), timeout_seconds)
                found |= answered
                waiting = waiting[len(answered) :]
        except ProbeError as error:
            found |= dict.fromkeys(waiting, error)
        return found

    def _ask_some(self, paths: Sequence[str], timeout_seconds: float) -> "dict[str, FileSystemUsage | ProbeError]":
        """Return what became of the first of ``paths``, at least of one: up to all, or to one that is not answered."""
        deadline = time.monotonic() + timeout_seconds
        shared = self._child_free.acquire(timeout=min(_BUSY_WAIT_SECONDS, timeout_seconds))
        try:
            child = (self._take_idle() if shared else None) or self._start()
            answers, is_silent = _ask(child, paths, deadline, timeout_seconds)
            if not answers and not is_silent:  # it died since the last question: of the OOM killer, or of an operator
                _end(child)
                child = self._start()
                answers, is_silent = _ask(child, paths, deadline, timeout_seconds)
            found = {path: _usage(path, answer) for path, answer in zip(paths, answers, strict=False)}
            if is_silent:
                path = paths[len(answers)]
                self._give_up(child, path)
                message = f"looking at the file system of {path}: no answer within {timeout_seconds:g} s"
                found[path] = NoAnswer(message, hint=_HINT)
            elif shared and len(answers) == len(paths):
                self._put_idle(child)
            else:
                _end(child)
                if not answers:
                    found[paths[0]] = _usage(paths[0], b"")
        finally:
            if shared:
                self._child_free.release()
        return found

    def close(self) -> None:
        """End the child, if there is one."""
        child = self._take_idle()
        if child:
            _end(child)

    def _take_idle(self) -> "subprocess.Popen[bytes] | None":
        with self._lock:
            child, self._idle = self._idle, None
        return child

    def _put_idle(self, child: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._idle = child

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            # In "/", so that it holds no mount; in its own session, so that Ctrl-C is the daemon's business only.
            return subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd="/", start_new_session=True
            )
        except OSError as error:
            raise ProbeError(f"starting the child that looks at file systems: {error}") from error

    def _stuck_since(self, path: str) -> NoAnswer | None:
        """Return why nothing is asked about a path now; None when something may be."""
        with self._lock:
            if path not in self._stuck:
                return None
            child, since = self._stuck[path]
            if child.poll() is None:
                waited = f"an earlier try hangs in the kernel since {time.monotonic() - since:.0f} s"
                return NoAnswer(f"looking at the file system of {path}: {waited}", hint=_HINT)
            del self._stuck[path]
            return None

    def _give_up(self, child: "subprocess.Popen[bytes]", path: str) -> None:
        self._kill(child)
        try:
            child.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            with self._lock:
                self._stuck[path] = child, time.monotonic()
        _close_pipes(child)


def _batch(paths: Sequence[str]) -> Sequence[str]:
    """Return as many of the first paths as may be asked for at once; at least one."""
    left = _MOST_BYTES_AT_ONCE
    for number, path in enumerate(paths[:_MOST_AT_ONCE]):
        left -= len(_question(path))
        if left < 0 and number:
            return paths[:number]
    return paths[:_MOST_AT_ONCE]


def _question(path: str) -> bytes:
    return os.fsencode(path).hex().encode() + b"\n"


def _ask(
    child: "subprocess.Popen[bytes]", paths: Sequence[str], deadline: float, patience_seconds: float
) -> tuple[list[bytes], bool]:
    """Return the child's answers in order, and whether it kept silent about the next path: until ``deadline`` about the
    first, for ``patience_seconds`` about each other one. Fewer answers and no silence: it died.
    """
    assert child.stdin
    assert child.stdout
    try:
        child.stdin.write(b"".join(map(_question, paths)))
    except BrokenPipeError:
        return [], False
    heard = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while (complete := heard.count(b"\n")) < len(paths):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return heard.split(b"\n")[:complete], True
            piece = os.read(child.stdout.fileno(), 4096)
            if not piece:
                break
            heard += piece
            if b"\n" in piece:
                deadline = time.monotonic() + patience_seconds
    return heard.split(b"\n")[:complete], False


def _usage(path: str, answer: bytes) -> FileSystemUsage | ProbeError:
    word, *numbers = answer.decode("ascii", "replace").split() or [""]
    if word == "error":
        return ProbeError(f"looking at the file system of {path}: {os.strerror(int(numbers[0]))}")
    if word != "ok":
        return ProbeError(f"looking at the file system of {path}: the child that does it died")
    block, blocks, free, available, inodes, inodes_available = map(int, numbers)
    return FileSystemUsage(block * blocks, block * free, block * available, inodes, inodes_available)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    _close_pipes(child)


def _close_pipes(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
