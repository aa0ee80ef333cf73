"""What jobs report and others push: kept before it is judged, over restarts, and nothing from strangers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from config.checks import CheckSettings
from monitor.build import build_checks
from monitor.check import run_check
from monitor.inbox import LONGEST_LOG, Inbox, UnknownSender, Unreadable
from monitor.memory import Memories
from monitor.probes.file_systems import FileSystems
from monitor.result import Result, Status

START = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Machine:
    """One check with an inbox and a clock; ``restart`` is a daemon that comes back."""

    def __init__(self, folder: Path, **about: Any) -> None:
        self.folder, self.now = folder, START
        self.settings = TypeAdapter(CheckSettings).validate_python({"name": "nightly import", **about})
        self.restart()

    def restart(self) -> None:
        memories = Memories(self.folder)
        self.inbox = Inbox(memories)
        self.inbox.expect([self.settings], self.now)
        (self.check,) = build_checks(
            [self.settings], file_systems=FileSystems(), clock=lambda: self.now, memories=memories, inbox=self.inbox
        )

    def ping(self, kind: str = "success", log: str = "") -> None:
        self.inbox.ping("nightly import", kind, log, self.now)

    def look(self) -> Result:
        (result,) = run_check(self.check, {}, lambda: self.now)
        return result

    def status_after(self, time: timedelta) -> Status:
        self.now += time
        return self.look().status

    def readings(self) -> dict[str, float]:
        return {reading.name: reading.value for reading in self.look().readings}


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Machine]:
    return lambda **about: Machine(tmp_path, **({"type": "heartbeat", "every": "1d", "grace": "1h"} | about))


def test_a_job_is_looked_at_more_often_than_it_runs(job: Callable[..., Machine]) -> None:
    assert job().check.every == timedelta(seconds=30)
    assert job(every="10s").check.every == timedelta(seconds=10)


def test_a_job_that_never_reports_is_late_after_its_rhythm_and_grace(job: Callable[..., Machine]) -> None:
    machine = job()
    assert machine.look().message == "waits for its first report"
    assert machine.status_after(25 * HOUR) is Status.OK
    machine.restart()
    assert machine.status_after(MINUTE) is Status.CRITICAL
    assert machine.look().message == "is 1h 1m late: it never reported"


def test_a_job_that_reports_is_well_until_it_misses_a_turn(job: Callable[..., Machine]) -> None:
    machine = job()
    machine.ping()
    assert machine.look().message == "succeeded 0 ms ago"
    assert machine.status_after(25 * HOUR) is Status.OK
    assert machine.status_after(MINUTE) is Status.CRITICAL
    assert machine.look().message == "is 1h 1m late: the last report was 1d 1h ago"
    machine.ping()
    assert machine.look().status is Status.OK


def test_a_failure_is_critical_until_a_success_and_shows_the_last_line_of_its_log(job: Callable[..., Machine]) -> None:
    machine = job()
    machine.ping("3", "reading\ncannot reach the tax authority\n")
    assert machine.look().message == "failed with exit code 3: cannot reach the tax authority"
    assert machine.readings()["exit_code"] == 3
    machine.restart()
    assert machine.look().status is Status.CRITICAL
    machine.ping("start")
    assert machine.look().status is Status.CRITICAL
    machine.ping("0")
    assert machine.look().status is Status.OK
    machine.ping("fail")
    assert machine.look().message.startswith("failed with exit code 1")


def test_a_run_that_takes_too_long_is_critical_also_over_a_restart(job: Callable[..., Machine]) -> None:
    machine = job(run_limit="2h")
    machine.ping("start")
    assert machine.status_after(2 * HOUR) is Status.OK
    machine.restart()
    assert machine.status_after(MINUTE) is Status.CRITICAL
    assert machine.look().message == "has been running for 2h 1m, and may take 2h"
    machine.ping()
    assert (machine.look().status, machine.readings()["run_time"]) == (Status.OK, 7260)


def test_a_job_that_hangs_without_a_limit_is_late_for_its_next_run(job: Callable[..., Machine]) -> None:
    machine = job()
    machine.ping("start")
    assert machine.status_after(25 * HOUR) is Status.OK
    assert machine.status_after(MINUTE) is Status.CRITICAL


def test_a_long_run_is_not_late_by_its_end(job: Callable[..., Machine]) -> None:
    machine = job(every="2h")
    for _ in range(3):
        machine.ping("start")
        machine.now += HOUR
        machine.ping()
        assert machine.look().status is Status.OK
        machine.now += HOUR
    assert machine.look().status is Status.OK


@pytest.mark.parametrize("by", [5 * HOUR, -5 * HOUR])
def test_a_clock_that_is_set_makes_no_job_late_and_no_run_longer(job: Callable[..., Machine], by: timedelta) -> None:
    machine = job(every="2h", run_limit="1h")
    machine.ping()
    machine.now += MINUTE
    machine.ping("start")
    machine.now += MINUTE + by
    machine.inbox.clock_stepped(by)
    assert machine.look().message == "has been running for 1m"
    machine.restart()
    machine.ping()
    assert machine.readings() == {"age": 0, "late": 0, "run_time": 60, "exit_code": 0}
    assert machine.status_after(2 * HOUR) is Status.OK
    assert machine.status_after(HOUR) is Status.CRITICAL


def test_a_calendar_says_when_a_job_is_late(job: Callable[..., Machine]) -> None:
    machine = job(schedule="monthly 1 03:00")
    machine.now = datetime(2026, 4, 1, 3, 30, tzinfo=UTC)
    machine.ping()
    machine.now = datetime(2026, 5, 1, 3, 59, tzinfo=UTC)
    assert machine.look().status is Status.OK
    assert machine.status_after(2 * MINUTE) is Status.CRITICAL


def test_strangers_and_unknown_words_are_refused(job: Callable[..., Machine]) -> None:
    machine = job(token="s3cret")
    for token in ("nightly import", "", "s3cre", "s3cret2"):
        with pytest.raises(UnknownSender):
            machine.inbox.ping(token, "success", "", machine.now)
    for kind in ("256", "-1", "done", "٣", "9" * 5000):
        with pytest.raises(Unreadable):
            machine.inbox.ping("s3cret", kind, "", machine.now)
    machine.inbox.ping("s3cret", "log", "x" * 50_000, machine.now)
    kept = "".join(path.read_text(encoding="utf-8") for path in machine.folder.iterdir())
    assert "s3cret" not in kept
    assert len(machine.inbox.heartbeat("nightly import", machine.now).log) == LONGEST_LOG


PUSH = {"type": "push", "token": "s3cret", "max_age": "5m"}


def push(machine: Machine, body: Any, token: str = "s3cret") -> int:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return machine.inbox.push("nightly import", token, data, machine.now)


def test_pushed_readings_are_judged_like_any_other_and_age(tmp_path: Path) -> None:
    machine = Machine(tmp_path, **PUSH, warning={"reading": "queue", "raise": "> 100"})
    assert (machine.look().status, "nothing was pushed yet" in machine.look().message) == (Status.UNKNOWN, True)
    assert push(machine, {"queue": 7, "rate": 0.5}) == 2
    assert machine.look().status is Status.OK
    push(machine, {"queue": 700})
    assert machine.look().message == "queue is 700, warning at > 100"
    machine.restart()
    assert machine.look().status is Status.WARNING
    machine.now += 6 * MINUTE
    assert (machine.look().status, "nothing was pushed for 6m" in machine.look().message) == (Status.UNKNOWN, True)


def test_a_sender_may_give_units_entities_and_its_own_verdict(tmp_path: Path) -> None:
    machine = Machine(tmp_path, **PUSH)
    used = {"name": "used", "unit": "ratio"}
    rows = [{**used, "value": 0.5, "entity": "a"}, {**used, "value": 0.9}]
    push(machine, {"readings": rows, "status": "critical", "message": "the press has stopped"})
    results = {result.entity: result for result in run_check(machine.check, {}, lambda: machine.now)}
    assert results["a"].message == "used is 50 %"
    assert (results[""].status, results[""].message) == (Status.CRITICAL, "the press has stopped")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[1]", b"[" * 100_000, {"a": "x"}, {"a": True}, b'{"a": NaN}', b'{"a": 1e999}', {"": 1},
        {"readings": [1]}, {"readings": [{"name": "a"}]}, {"readings": [{"name": "a", "value": 1, "unit": "miles"}]},
        {"readings": [{"name": "a", "value": 1, "entity": 3}]}, {"readings": [], "status": "fine"},
        {"readings": [], "message": 3}, {f"r{n}": 1 for n in range(501)}, {"x" * 101: 1}, {"a": 10**400},
        {"readings": [], "status": []}, {"readings": [{"name": "a", "value": 1, "unit": {}}]}, {"\ud800": 1},
    ],
)  # fmt: skip
def test_what_is_no_reading_is_refused_whole(tmp_path: Path, body: Any) -> None:
    machine = Machine(tmp_path, **PUSH)
    with pytest.raises(Unreadable):
        push(machine, body)
    assert machine.inbox.pushed("nightly import") is None


def test_a_push_without_the_token_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path, **PUSH)
    for token in ("", "wrong"):
        with pytest.raises(UnknownSender):
            push(machine, {"a": 1}, token)
    with pytest.raises(UnknownSender):
        machine.inbox.push("another", "", b"{}", machine.now)
