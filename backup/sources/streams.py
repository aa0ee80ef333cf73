"""What sources of streams have in common: the files they make up, and programs whose output is read.

A program's output counts only when the program says so: its exit status is judged before the stream ends, so that a
dump that fails half-way is an error in the middle of a file, never a short file.
"""

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from backup.errors import SourceError
from backup.sources.base import Enter, Kept, Leave, Problem, Step, Stream

PART_BYTES = 1 << 20
_TOLD_BYTES = 2000
_ENDS_WITHIN_SECONDS = 10


@dataclass(frozen=True, slots=True)
class StreamSource:
    """What every source of streams says of itself: all that it gives lies in a folder of its job's name."""

    name: str
    """The job's."""
    clock: Callable[[], datetime]

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder that is made up for it."""
        return (f"/{self.name}",)

    @property
    def live_paths(self) -> tuple[str, ...]:
        """None: a drill has nothing to compare with on this machine's file systems."""
        return ()

    @property
    def excludes(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def consistency(self) -> str:
        """One moment, as the program that gives the streams makes it."""
        return "application"


class NoFiles:
    """The admission of a source that has no regular files."""

    def takes(self, name: str, folder: int, status: os.stat_result) -> bool:  # noqa: ARG002 - the seam
        """Take whatever there might be."""
        return True

    def forgives(self, error: OSError) -> bool:  # noqa: ARG002
        """Forgive nothing."""
        return False


class StreamCapture:
    """A capture that gives the steps of one iterator; ``manifest`` may be filled in while they are taken."""

    def __init__(self, steps: Iterable[Step], manifest: Mapping[str, object] | None = None) -> None:
        self.problems: list[Problem] = []
        self.left_out = 0
        self.manifest: Mapping[str, object] = {} if manifest is None else manifest
        self.admission = NoFiles()
        self._steps = steps

    def walk(self) -> Iterator[Step]:
        """Give every step once."""
        yield from self._steps


@contextmanager
def emptied(workspace: Path) -> Iterator[Path]:
    """Give an empty folder that only we may enter, and remove it afterwards; what a killed run left there goes first.

    Raises SourceError when that fails.
    """
    try:
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise SourceError(
            f"could not make the folder {workspace}: {(error.strerror or str(error)).lower()}",
            hint="look at the rights and the free space there",
        ) from None
    try:
        yield workspace
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def folder(path: str, steps: Iterable[Step], *, at: datetime) -> Iterator[Step]:
    """Put steps into a directory of our own making, such as ``/ledger``."""
    yield Enter(path, os.path.basename(path), made_up(stat.S_IFDIR | 0o700, at), ())
    yield from steps
    yield Leave()


def file(path: str, content: Iterable[bytes | Kept], *, at: datetime, page_bytes: int = 0, mode: int = 0o600) -> Stream:
    """Make a stream of a whole path; it belongs to the user that we are, and only they may read it."""
    above, name = os.path.split(path)
    return Stream(above, name, made_up(stat.S_IFREG | mode, at), content, page_bytes)


def made_up(mode: int, at: datetime) -> os.stat_result:
    """Return the status of a file that lies nowhere: ``mode`` with its type, changed at ``at``, ours."""
    seconds = int(at.timestamp())
    nanoseconds = seconds * 10**9 + at.microsecond * 1000
    ten = (mode, 0, 0, 1, os.geteuid(), os.getegid(), 0, seconds, seconds, seconds)
    return os.stat_result(
        ten, {"st_atime_ns": nanoseconds, "st_mtime_ns": nanoseconds, "st_ctime_ns": nanoseconds, "st_rdev": 0}
    )


def output_of(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, what: str, hint: str = "",
    fed: Iterable[bytes] | None = None,
) -> Generator[bytes, None, None]:  # fmt: skip
    """Run a program and give its standard output in parts of at most a MiB; its exit status is judged at the end.

    ``environment`` replaces ours. ``what`` says what it does, for the error: ``dump database shop``. ``fed`` is written
    to its standard input meanwhile, by a thread. Raises SourceError with the last lines of its standard error when it
    cannot be started, fails, or is killed, and what ``fed`` raises. When the reader gives up, the program is ended.
    """
    with tempfile.TemporaryFile() as told:
        try:
            program = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL if fed is None else subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=told, env=environment, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise SourceError(
                f"could not {what}: {command[0]}: {(error.strerror or str(error)).lower()}",
                hint=hint or "is the program installed, and on the PATH of the daemon?",
            ) from None
        assert program.stdout is not None
        feeder = _Feeder(program, fed) if fed is not None else None
        try:
            while part := program.stdout.read(PART_BYTES):
                yield part
            status = program.wait()
        finally:
            program.stdout.close()
            _end(program)
            if feeder is not None:
                feeder.join()
        if feeder is not None and feeder.failure is not None:
            raise feeder.failure
        if status != 0:
            raise SourceError(f"could not {what}: {_ending(command[0], status)}{_last_words(told)}", hint=hint or "")


class _Feeder(threading.Thread):
    """Writes to a program until it has all, or wants no more."""

    def __init__(self, program: subprocess.Popen[bytes], parts: Iterable[bytes]) -> None:
        super().__init__(name="feed", daemon=True)
        assert program.stdin is not None
        assert program.stdout is not None
        self.failure: BaseException | None = None
        self._input = program.stdin
        self._parts = parts
        for pipe in (program.stdin, program.stdout):
            with suppress(OSError, AttributeError):  # Linux has it; a user may have taken too many pages already
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PART_BYTES)
        self.start()

    def run(self) -> None:
        """Write it."""
        try:
            with self._input as pipe:
                for part in self._parts:
                    rest = memoryview(part)
                    while rest:
                        rest = rest[pipe.write(rest) :]
        except BrokenPipeError:
            pass  # its exit status says whether it failed or has enough
        except BaseException as error:  # noqa: BLE001 - raised where the output is read
            self.failure = error


def _end(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(program.pid, 15)
    try:
        program.wait(_ENDS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, 9)
        program.wait()


def _ending(name: str, status: int) -> str:
    return f"{name} was killed by signal {-status}" if status < 0 else f"{name} ended with status {status}"


def _last_words(told: BinaryIO) -> str:
    size = told.seek(0, os.SEEK_END)
    told.seek(max(0, size - _TOLD_BYTES))
    lines = told.read().decode("utf-8", "replace").strip().splitlines()
    return f": {' | '.join(line.strip() for line in lines[-5:])}" if lines else ""
