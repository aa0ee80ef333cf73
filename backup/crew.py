"""The worker processes of one run: hands out jobs, brings results home.

Workers are forked, so they share the index and the claims without a copy, and only once there is work for more than
one: a run with little to do happens in this process. A worker ends when its pipe does, so none outlives a parent that
was killed. Any failure in a worker fails the run with the worker's reason; no job is retried behind anyone's back.
"""

import gc
import multiprocessing
import os
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Thread
from typing import Generic, Protocol, TypeVar

from backup.errors import BackupError, Interrupted

_JOBS_IN_FLIGHT = 2
"""Jobs a worker holds: one that it does and one that is waiting, so that it never waits for its parent."""

_LOOK_EVERY_SECONDS = 0.25
"""How long anybody here waits without looking up."""
_COLLECT_EVERY = 100_000
"""Objects between two looks for cycles in a worker."""

Token = object
Done = tuple[Token, object]
"""The token a job was submitted with, and its result."""
JobT = TypeVar("JobT", contravariant=True)


class Bench(Protocol[JobT]):
    """Does jobs one after the other, in whatever process."""

    def expect(self, job: JobT) -> None:
        """Learn of a job as soon as it has come, while another is being done, in another thread. Must not raise."""
        ...

    def do(self, job: JobT) -> object:
        """Do one job and give its result. Raises BackupError to fail the run."""
        ...

    def finish(self) -> None:
        """Make durable what the jobs done so far left open. Raises BackupError."""
        ...

    def report(self) -> object:
        """Give what the run must learn besides results; None when there is nothing. Asked after each job."""
        ...

    def close(self) -> None:
        """End threads and files."""
        ...


@dataclass(frozen=True, slots=True)
class _Reply:
    result: object
    report: object


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    waiting: deque[Token] = field(default_factory=deque)


class Crew(Generic[JobT]):
    """Runs jobs on ``make_bench()``, in up to ``workers`` processes; 0 does everything in this one.

    ``on_report`` is called in this process with what the benches report. A bench is made after the fork. ``stopped`` is
    asked while the crew waits: a storage that does not answer can keep all workers for a long time.
    """

    def __init__(
        self,
        make_bench: Callable[[], Bench[JobT]],
        workers: int | None = None,
        on_report: Callable[[object], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._make_bench = make_bench
        self._limit = _cores() if workers is None else workers
        self._on_report = on_report
        self._stopped = stopped
        self._bench: Bench[JobT] | None = None
        self._workers: list[_Worker] = []
        self._held: tuple[JobT, Token] | None = None
        self._done: deque[Done] = deque()

    def submit(self, job: JobT, token: Token) -> None:
        """Take a job; waits while every worker has its hands full.

        Raises BackupError when a worker failed, Interrupted when the run is to stop meanwhile.
        """
        if not self._workers:
            if self._held is None and self._limit > 0:
                self._held = (job, token)
                return
            if self._limit == 0:
                self._do_here(job, token)
                return
            self._start()
            self._release_held()
        self._send(job, token)

    def results(self, *, block: bool) -> Iterator[Done]:
        """Give what is done; when ``block``, wait a moment for something, if anything is under way."""
        if self._workers:
            self._receive(0 if self._done or not block else _LOOK_EVERY_SECONDS)
        elif self._held is not None and block:
            self._release_held()
        while self._done:
            yield self._done.popleft()

    @property
    def busy(self) -> bool:
        """Whether results are still to come."""
        return bool(self._held or self._done or any(worker.waiting for worker in self._workers))

    def finish(self) -> None:
        """Make all packs durable and report them. Call it when nothing is under way any more."""
        if self._bench is not None:
            self._bench.finish()
            self._note(self._bench.report())
        for worker in self._workers:
            self._put(worker, None, None)
        while any(worker.waiting for worker in self._workers):
            self._receive(None)
        self._done.clear()

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(timeout=2)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()
        if self._bench is not None:
            self._bench.close()

    # ---- in this process

    def _release_held(self) -> None:
        if self._held is None:
            return
        (job, token), self._held = self._held, None
        if self._workers:
            self._send(job, token)
        else:
            self._do_here(job, token)

    def _do_here(self, job: JobT, token: Token) -> None:
        if self._bench is None:
            self._bench = self._make_bench()
        self._done.append((token, self._bench.do(job)))
        self._note(self._bench.report())

    def _note(self, report: object) -> None:
        if report is not None and self._on_report is not None:
            self._on_report(report)

    # ---- in workers

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        gc.freeze()  # objects that the collector never touches stay shared; collecting first costs 44 ms, frees little
        try:
            for number in range(self._limit):
                ours, theirs = context.Pipe()
                inherited = [worker.pipe for worker in self._workers] + [ours]
                process = context.Process(
                    target=_work, args=(self._make_bench, theirs, inherited), name=f"seal-{number}", daemon=True
                )
                with warnings.catch_warnings():
                    # the only other thread refreshes the repository's lock and holds nothing that a worker needs
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                theirs.close()
                self._workers.append(_Worker(process, ours))
        finally:
            gc.unfreeze()

    def _send(self, job: JobT, token: Token) -> None:
        while True:
            worker = min(self._workers, key=lambda candidate: len(candidate.waiting))
            if len(worker.waiting) < _JOBS_IN_FLIGHT:
                self._put(worker, job, token)
                self._receive(0)
                return
            self._receive(_LOOK_EVERY_SECONDS)
            if self._stopped():
                raise Interrupted("stopped while all workers were busy", hint="the next run goes on from here")

    def _put(self, worker: _Worker, job: JobT | None, token: Token) -> None:
        worker.waiting.append(token)
        try:
            worker.pipe.send(job)
        except (BrokenPipeError, ConnectionResetError):
            self._receive(None)  # its last words, or its exit status

    def _receive(self, timeout: float | None) -> None:
        by_pipe = {worker.pipe: worker for worker in self._workers if worker.waiting}
        if not by_pipe:
            return
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]  # only pipes were asked about
            try:
                reply = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                raise BackupError(_last_words(worker.process), hint="see the system's log for what ended it") from None
            if isinstance(reply, BaseException):
                raise reply
            self._note(reply.report)
            self._done.append((worker.waiting.popleft(), reply.result))


def _last_words(process: BaseProcess) -> str:
    process.join(timeout=2)
    code = process.exitcode
    ended = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
    return f"could not go on with the backup: worker process {process.name} {ended}"


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _work(make_bench: Callable[[], Bench[JobT]], pipe: Connection, inherited: list[Connection]) -> None:
    """Do jobs until the pipe ends; None means to make everything durable."""
    for other in inherited:
        other.close()  # or this process would keep its own pipe, or a sibling's, from ending with the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all of us, and the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    # a worker makes a few tuples a blob, none of them in a cycle: looking for cycles took 5 % of its time
    gc.set_threshold(_COLLECT_EVERY)
    jobs: SimpleQueue[JobT | None] = SimpleQueue()
    try:
        bench = make_bench()
        Thread(target=_listen, args=(pipe, jobs, bench), name="listen", daemon=True).start()
        while True:
            job = jobs.get()
            result = None
            if job is None:
                bench.finish()
            else:
                result = bench.do(job)
            pipe.send(_Reply(result, bench.report()))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BackupError as error:
        pipe.send(error)
    except Exception:  # noqa: BLE001 - a bug: the parent shows it as its own, with the worker's traceback
        pipe.send(RuntimeError(f"a worker process failed:\n{traceback.format_exc()}"))
    os._exit(1)


def _listen(pipe: Connection, jobs: "SimpleQueue[JobT | None]", bench: Bench[JobT]) -> None:
    """Take jobs off the pipe at once, so that parent and worker never both wait for the other to read."""
    try:
        while True:
            job = pipe.recv()
            if job is not None:
                bench.expect(job)
            jobs.put(job)
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone or has enough
