"""Runs somebody else's program for a probe, and never waits longer for it than it may take.

It gets little of this process: a session of its own, no terminal, and whatever environment it is given. At its deadline
it is killed with everything it started; output beyond a cap is thrown away. What its output means is not known here.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from monitor.result import ProbeError

OUTPUT_LIMIT_BYTES = 64 * 1024
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_LOOK_SECONDS = 0.1
"""How often a program that has left its output open to somebody else is looked at whether it has ended."""
_REAP_SECONDS = 1.0


def short_environment() -> dict[str, str]:
    """Return what programs need of this process's environment: none of its secrets stands in it."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program left: its exit code (0 to 255), and its output up to the cap."""

    code: int
    output: bytes
    errors: bytes

    @property
    def complaint(self) -> str:
        """What it wrote to stderr, as text."""
        return self.errors.decode("utf-8", "replace").strip()


class Program:
    """One command line, run now and then, never twice at the same time. ``shown`` is what errors call it."""

    def __init__(
        self,
        arguments: Sequence[str],
        timeout_seconds: float,
        *,
        environment: Mapping[str, str] | None = None,
        shown: str = "",
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> None:
        self._arguments = list(arguments)
        self._timeout_seconds = timeout_seconds
        self._environment = environment
        self._shown = shown or " ".join(arguments)
        self._limit = output_limit_bytes
        self._left_behind: subprocess.Popen[bytes] | None = None

    def run(self, given: bytes = b"") -> Ended:
        """Run it with ``given`` as its input, to its end.

        Raises ProbeError when it cannot be started, overruns or is killed; :class:`NotInstalled` when there is no such
        program.
        """
        if self._left_behind and self._left_behind.poll() is None:
            raise ProbeError(f"running {self._shown}: the last run was killed and still hangs in the system")
        self._left_behind = None
        child = self._start(given)
        try:
            output, errors = _read(child, self._limit, time.monotonic() + self._timeout_seconds)
        except TimeoutError:
            self._kill(child)
            raise ProbeError(f"running {self._shown}: no end after {self._timeout_seconds:g} s, killed") from None
        except BaseException:
            self._kill(child)
            raise
        ended = Ended(child.returncode, output, errors)
        if ended.code < 0:
            number = -ended.code
            by = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
            said = f": {ended.complaint}" if ended.complaint else ""
            raise ProbeError(f"running {self._shown}: ended by {by}{said}")
        return ended

    def _start(self, given: bytes) -> "subprocess.Popen[bytes]":
        environment = short_environment() if self._environment is None else dict(self._environment)
        source = subprocess.DEVNULL
        try:
            if given:  # in memory, so that neither a full pipe nor a file with secrets is left
                source = os.memfd_create("input")
                os.pwrite(source, given, 0)
            return subprocess.Popen(
                self._arguments,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise NotInstalled(
                f"running {self._shown}: no such file or directory", hint="is the path right and the file executable?"
            ) from error
        except (OSError, ValueError, IndexError) as error:
            reason = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
            raise ProbeError(
                f"running {self._shown}: {reason.lower()}", hint="is the path right and the file executable?"
            ) from error
        finally:
            if source >= 0:
                os.close(source)

    def _kill(self, child: "subprocess.Popen[bytes]") -> None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            child.kill()
        try:
            child.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            self._left_behind = child
        _close_pipes(child)


class NotInstalled(ProbeError):  # noqa: N818 - often no error at all
    """There is no such program."""


def _read(child: "subprocess.Popen[bytes]", limit: int, deadline: float) -> tuple[bytes, bytes]:
    """Read both outputs up to the cap until the program has ended, and reap it. Raises TimeoutError at the deadline."""
    assert child.stdout
    assert child.stderr
    received: dict[IO[bytes], bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in received:
            selector.register(pipe, selectors.EVENT_READ)
        # A process that the program leaves behind may hold the pipes open for ever: its end is what counts.
        while selector.get_map() and child.poll() is None:
            _read_ready(selector, received, limit, min(_LOOK_SECONDS, _remaining(deadline)))
        while selector.get_map() and _read_ready(selector, received, limit, 0.0):
            _remaining(deadline)
    try:
        child.wait(_remaining(deadline))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    _close_pipes(child)
    return bytes(received[child.stdout]), bytes(received[child.stderr])


def _read_ready(
    selector: selectors.BaseSelector, received: Mapping[IO[bytes], bytearray], limit: int, wait_seconds: float
) -> bool:
    """Read once from each pipe that has something; return whether any had."""
    ready = selector.select(wait_seconds)
    for key, _ in ready:
        pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
        piece = os.read(key.fd, 65_536)
        if not piece:
            selector.unregister(pipe)
        room = limit - len(received[pipe])
        received[pipe] += piece[:room]
    return bool(ready)


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _close_pipes(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdout, child.stderr):
        if pipe:
            pipe.close()
