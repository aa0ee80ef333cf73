"""Programs that speak the Nagios plugin protocol: the exit code is the verdict, the output explains it.

A plugin gets little of this process: no input, a session of its own, a short environment in which none of the daemon's
secrets stand. At its time-out it is killed with everything it started; output beyond a cap is thrown away.
"""

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import IO

from monitor.probes.perfdata import parse_output
from monitor.result import Finding, Measurement, ProbeError, Status

OUTPUT_LIMIT_BYTES = 64 * 1024
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_LOOK_SECONDS = 0.1
"""How often a plugin that has left its output open to somebody else is looked at whether it has ended."""
_REAP_SECONDS = 1.0
_STATUSES = (Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)


class CommandProbe:
    """Runs ``command`` (split as a shell would, run without one) with ``environment`` added to its own."""

    def __init__(self, command: str, environment: Mapping[str, str], timeout_seconds: float) -> None:
        self._command = command
        self._environment = environment
        self._timeout_seconds = timeout_seconds
        self._left_behind: subprocess.Popen[bytes] | None = None

    def measure(self) -> Measurement:
        """Return the plugin's performance data as readings and its exit code (0 to 3) as finding.

        Raises ProbeError when it cannot be started, overruns, is killed, or exits with another code.
        """
        if self._left_behind and self._left_behind.poll() is None:
            raise ProbeError(f"running {self._command}: the last run was killed and still hangs in the system")
        self._left_behind = None
        child = self._start()
        try:
            output, errors = _read(child, time.monotonic() + self._timeout_seconds)
        except TimeoutError:
            self._kill(child)
            raise ProbeError(f"running {self._command}: no end after {self._timeout_seconds:g} s, killed") from None
        except BaseException:
            self._kill(child)
            raise
        return self._measurement(child.returncode, output, errors)

    def _start(self) -> "subprocess.Popen[bytes]":
        own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            return subprocess.Popen(
                shlex.split(self._command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=own | dict(self._environment),
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            reason = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
            raise ProbeError(
                f"running {self._command}: {reason.lower()}", hint="is the path right and the file executable?"
            ) from error

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

    def _measurement(self, code: int, output: bytes, errors: bytes) -> Measurement:
        complaint = errors.decode("utf-8", "replace").strip()
        if code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
            raise ProbeError(f"running {self._command}: ended by {name}" + (f": {complaint}" if complaint else ""))
        if code >= len(_STATUSES):
            said = complaint or output.decode("utf-8", "replace").strip()
            raise ProbeError(
                f"running {self._command}: exit code {code} is not one of a plugin (0 to 3)"
                + (f": {said}" if said else "")
            )
        plugin = parse_output(output.decode("utf-8", "replace"))
        status = _STATUSES[code]
        message = plugin.text or plugin.details or complaint or f"exit code {code} and no output"
        if plugin.faults:
            message += f" (performance data not understood: {', '.join(plugin.faults[:3])[:80]})"
        return Measurement(plugin.readings, Finding(status, message))


def _read(child: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, bytes]:
    """Read both outputs up to the cap until the plugin has ended, and reap it. Raises TimeoutError at the deadline."""
    assert child.stdout
    assert child.stderr
    received: dict[IO[bytes], bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in received:
            selector.register(pipe, selectors.EVENT_READ)
        # A process that the plugin leaves behind may hold the pipes open for ever: its end is what counts.
        while selector.get_map() and child.poll() is None:
            _read_ready(selector, received, min(_LOOK_SECONDS, _remaining(deadline)))
        while selector.get_map() and _read_ready(selector, received, 0.0):
            _remaining(deadline)
    try:
        child.wait(_remaining(deadline))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    _close_pipes(child)
    return bytes(received[child.stdout]), bytes(received[child.stderr])


def _read_ready(
    selector: selectors.BaseSelector, received: Mapping[IO[bytes], bytearray], wait_seconds: float
) -> bool:
    """Read once from each pipe that has something; return whether any had."""
    ready = selector.select(wait_seconds)
    for key, _ in ready:
        pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
        piece = os.read(key.fd, 65_536)
        if not piece:
            selector.unregister(pipe)
        room = OUTPUT_LIMIT_BYTES - len(received[pipe])
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
