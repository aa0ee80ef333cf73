import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from backup.claims import Claims
from backup.crew import Crew
from backup.errors import BackupError, Interrupted, StorageError

EVERYBODY = multiprocessing.get_context("fork").Barrier(2)


class EchoBench:
    """Answers with what it was asked; some words have meanings."""

    def __init__(self) -> None:
        self.done = 0
        self.told_of_next = threading.Event()

    def expect(self, job: str | bytes) -> None:
        if job == "next":
            self.told_of_next.set()

    def do(self, job: str | bytes) -> object:
        self.done += 1
        if job == "pid":
            return os.getpid()
        if job == "meet":
            EVERYBODY.wait(timeout=30)
            return os.getpid()
        if job == "refuse":
            raise StorageError("could not: as asked", permanent=True, hint="ask for something else")
        if job == "bug":
            raise ZeroDivisionError("a bug")
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "until told of the next":
            return self.told_of_next.wait(timeout=60)
        if job == "hang":
            time.sleep(600)
        return job

    def finish(self) -> None:
        self.done += 1000

    def report(self) -> int:
        return self.done

    def close(self) -> None:
        pass


def work(crew: Crew[str | bytes], *jobs: str | bytes) -> list[tuple[object, object]]:
    done = []
    for number, job in enumerate(jobs):
        crew.submit(job, number)
        done += crew.results(block=False)
    while crew.busy:
        done += crew.results(block=True)
    return done


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_job_is_done_once_and_answered_with_its_token(workers: int) -> None:
    crew = Crew[str | bytes](EchoBench, workers)
    done = work(crew, *(f"job {number}" for number in range(50)))
    assert sorted(done, key=lambda item: int(str(item[0]))) == [(number, f"job {number}") for number in range(50)]
    crew.close()


def test_a_single_job_is_done_in_this_process() -> None:
    crew = Crew[str | bytes](EchoBench, 2)
    assert work(crew, "pid") == [(0, os.getpid())]
    crew.close()


def test_several_jobs_are_done_in_others() -> None:
    crew = Crew[str | bytes](EchoBench, 2)
    try:
        pids = {pid for _, pid in work(crew, "meet", "meet", *["pid"] * 20)}
    finally:
        crew.close()
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_large_jobs_and_large_answers_never_wait_for_each_other() -> None:
    crew = Crew[str | bytes](EchoBench, 2)
    assert len(work(crew, *[bytes(3 << 20)] * 12)) == 12
    crew.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_finishing_reports_what_the_benches_left_open(workers: int) -> None:
    reports: list[object] = []
    crew = Crew[str | bytes](EchoBench, workers, reports.append)
    work(crew, "a", "b", "c")
    assert max(map(int, map(str, reports))) < 1000
    crew.finish()
    assert max(map(int, map(str, reports))) >= 1000
    crew.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_refusal_fails_the_run_with_its_reason_and_hint(workers: int) -> None:
    crew = Crew[str | bytes](EchoBench, workers)
    with pytest.raises(StorageError, match="as asked") as error:
        work(crew, "a", "b", "refuse", "c")
    assert error.value.permanent
    assert error.value.hint == "ask for something else"
    crew.close()


def test_a_bug_in_a_worker_shows_its_own_traceback() -> None:
    crew = Crew[str | bytes](EchoBench, 2)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        work(crew, "a", "b", "bug", "c")
    crew.close()


def test_a_worker_that_is_killed_fails_the_run_with_the_signal() -> None:
    crew = Crew[str | bytes](EchoBench, 2)
    with pytest.raises(BackupError, match="ended by signal 9"):
        work(crew, *["a", "b", "die"] + ["c"] * 50)
    crew.close()


def test_a_worker_learns_of_the_next_job_while_it_does_one() -> None:
    with closing(Crew(EchoBench, workers=1)) as crew:
        assert work(crew, "until told of the next", "next") == [(0, True), (1, "next")]


def test_closing_ends_workers_that_hang() -> None:
    before = set(psutil.Process().children())
    crew = Crew[str | bytes](EchoBench, 2)
    crew.submit("a", 0)
    crew.submit("hang", 1)
    children = set(psutil.Process().children()) - before
    assert len(children) == 2
    crew.close()
    assert not any(child.is_running() for child in children)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = os.fork()
    if parent == 0:  # pragma: no cover - another process
        crew = Crew[str | bytes](EchoBench, 2)
        crew.submit("hang", 0)
        crew.submit("hang", 1)
        (tmp_path / "workers").write_text(" ".join(str(child.pid) for child in psutil.Process().children()))
        time.sleep(600)
    try:
        wait_until(lambda: (tmp_path / "workers").exists() and (tmp_path / "workers").read_text().count(" ") == 1)
        workers = [psutil.Process(int(pid)) for pid in (tmp_path / "workers").read_text().split()]
    finally:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    wait_until(lambda: not any(is_alive(worker) for worker in workers))


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


# ---- claims


def test_an_id_can_be_claimed_once() -> None:
    claims = Claims()
    ids = [os.urandom(32) for _ in range(60_000)]  # more than the first table holds
    assert all(claims.claim(name) for name in ids)
    assert not any(claims.claim(name) for name in ids)
    claims.close()


def test_a_claim_is_seen_by_other_processes() -> None:
    claims, name = Claims(), os.urandom(32)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os._exit(0 if claims.claim(name) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not claims.claim(name)
    claims.close()


def test_a_crew_whose_workers_are_all_stuck_notices_that_the_run_is_to_stop() -> None:
    since = time.monotonic()
    crew = Crew[str | bytes](EchoBench, 1, stopped=lambda: time.monotonic() - since > 0.5)
    with pytest.raises(Interrupted):
        work(crew, *["hang"] * 4)
    crew.close()
    assert time.monotonic() - since < 60


def test_waiting_for_results_comes_back_now_and_then_so_that_the_caller_can_look_up() -> None:
    crew = Crew[str | bytes](EchoBench, 1)
    crew.submit("hang", 1)
    crew.submit("hang", 2)
    assert list(crew.results(block=True)) == []
    assert crew.busy
    crew.close()
