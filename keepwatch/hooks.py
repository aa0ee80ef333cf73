"""The operator's own commands around a run: ``before`` must succeed, ``after`` always runs and is told how it went.

They run by /bin/sh in the run's own process group, so that whoever kills the run kills them with it. They see
$KEEPWATCH_JOB and $KEEPWATCH_KIND, and ``after`` also $KEEPWATCH_OUTCOME.
"""

import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from backup.errors import Interrupted
from keepwatch.errors import KeepwatchError

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 3600.0
_OUTPUT_BYTES = 4096


@contextmanager
def around(
    before: Sequence[str], after: Sequence[str], environment: Mapping[str, str], stop: threading.Event
) -> Iterator[None]:
    """Run the commands around what is inside.

    Raises KeepwatchError when one of ``before`` fails, Interrupted when ``stop`` is set meanwhile. What fails in
    ``after`` is logged: by then the run has its outcome.
    """
    outcome = "failed"
    try:
        for command in before:
            _run(command, environment, stop)
        yield
        outcome = "succeeded"
    finally:
        for command in after:
            try:
                _run(command, {**environment, "KEEPWATCH_OUTCOME": outcome}, threading.Event())
            except KeepwatchError as error:
                log.error("hook failed", extra={"problem": error})


def _run(command: str, environment: Mapping[str, str], stop: threading.Event) -> None:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        problem = _wait(process, stop)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_BYTES))
        said = output.read().decode(errors="replace").strip().splitlines()
    if problem:
        last = f": {said[-1]}" if said else ""
        raise KeepwatchError(
            f"running the hook '{command}': {problem}{last}", hint="run it by hand as the user keepwatch runs as"
        )


def _wait(process: "subprocess.Popen[bytes]", stop: threading.Event) -> str | None:
    """Wait for a hook; end it, with all it started, at its time limit or a stop. Return what is wrong with it."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while True:
        try:
            status = process.wait(0.2)
        except subprocess.TimeoutExpired:
            if not stop.is_set() and time.monotonic() < deadline:
                continue
            _end(process)
            if stop.is_set():
                raise Interrupted("stopped while a hook ran") from None
            return f"no end after {_LONGEST_SECONDS:.0f} s"
        return f"exit status {status}" if status else None


def _end(process: "subprocess.Popen[bytes]") -> None:
    import psutil  # few hooks have to be ended

    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait()
