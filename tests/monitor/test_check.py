"""One run of a check: total, timed, judged; nothing that a probe does gets out of it but results."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from config.checks import Bound
from monitor.check import Check, given_up, run_check
from monitor.result import Finding, Measurement, NoData, ProbeError, Reading, Result, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FULL = Bound.model_validate({"raise": "> 85%"})


def clock() -> datetime:
    return NOW


class Scripted:
    """A probe that does one thing after the other."""

    def __init__(self, *acts: Measurement | Exception | Callable[[], Measurement]) -> None:
        self._acts = list(acts)

    def measure(self) -> Measurement:
        act = self._acts.pop(0)
        if isinstance(act, Exception):
            raise act
        return act if isinstance(act, Measurement) else act()


def disk(used: float, entity: str = "") -> Measurement:
    free = (1 - used) * 100 * 2**30
    return Measurement([Reading("used", used, "ratio", entity), Reading("free_bytes", free, "bytes", entity)])


def check(
    probe: Scripted, warning: Sequence[Bound] = (FULL,), critical: Sequence[Bound] = (), optional: Sequence[str] = ()
) -> Check:
    return Check(
        "root disk", "disk", probe, "/", warning=tuple(warning), critical=tuple(critical), labels={"team": "ops"},
        optional=frozenset(optional),
    )  # fmt: skip


def run(probe: Scripted, *, runs: int = 1, **about: Sequence[Bound]) -> list[Result]:
    it = check(probe, **about)
    results: list[Result] = []
    for _ in range(runs):
        results = run_check(it, {result.entity: result for result in results}, clock)
    return results


def test_a_good_reading_gives_one_result_that_says_so() -> None:
    (result,) = run(Scripted(disk(0.41)))
    assert (result.status, result.message) == (Status.OK, "/ is 41 % full, 59 GiB free")
    assert (result.check, result.entity, result.at, dict(result.labels)) == ("root disk", "", NOW, {"team": "ops"})
    assert [reading.name for reading in result.readings] == ["used", "free_bytes"]
    assert result.took_seconds >= 0


def test_a_breach_is_told_with_value_and_bound() -> None:
    (result,) = run(Scripted(disk(0.91)))
    assert (result.status, result.message) == (Status.WARNING, "/ is 91 % full, warning at > 85%, 9 GiB free")


def test_a_held_status_says_where_it_ends() -> None:
    (result,) = run(Scripted(disk(0.91), disk(0.8)), runs=2)
    assert (result.status, result.message) == (Status.WARNING, "/ is 80 % full, warning until <= 76.5 %, 20 GiB free")


def test_a_failing_probe_is_unknown_with_its_reason_and_hint() -> None:
    (result,) = run(Scripted(ProbeError("asking the disk: no answer", hint="is it plugged in?")))
    assert (result.status, result.message) == (Status.UNKNOWN, "asking the disk: no answer; is it plugged in?")


def test_a_machine_without_the_thing_is_absent() -> None:
    (result,) = run(Scripted(NoData("this machine has no fan")))
    assert (result.status, result.message) == (Status.ABSENT, "this machine has no fan")


def test_a_bug_in_a_probe_is_unknown_and_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    (result,) = run(Scripted(KeyError("idle"), KeyError("idle")), runs=2)
    assert result.status is Status.UNKNOWN
    assert "KeyError: 'idle'" in result.message
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.__dict__["check"] == "root disk"


def test_a_probe_that_returns_nonsense_is_a_bug_like_any_other() -> None:
    (result,) = run(Scripted(lambda: None))  # type: ignore[arg-type, return-value]
    assert result.status is Status.UNKNOWN


def test_a_run_beyond_its_timeout_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 120.0])
    monkeypatch.setattr("monitor.check.time.perf_counter", lambda: next(moments))
    (result,) = run(Scripted(disk(0.1)))
    assert (result.status, result.message) == (Status.UNKNOWN, "took 20 s, and may take 10 s")


def test_a_failed_run_is_unknown_for_every_entity_known_before() -> None:
    two = Measurement([*disk(0.1, "sda").readings, *disk(0.9, "sdb").readings])
    results = run(Scripted(two, ProbeError("no answer")), runs=2)
    assert [(result.entity, result.status) for result in results] == [
        ("sda", Status.UNKNOWN), ("sdb", Status.UNKNOWN),
    ]  # fmt: skip


def test_a_status_outlives_a_run_that_could_not_measure() -> None:
    (result,) = run(Scripted(disk(0.91), ProbeError("no answer"), disk(0.8)), runs=3)
    assert result.status is Status.WARNING


def test_a_restart_needs_only_the_last_status() -> None:
    (held,) = run_check(check(Scripted(disk(0.8))), {"": Status.WARNING}, clock)
    (fresh,) = run_check(check(Scripted(disk(0.8))), {"": Status.UNKNOWN}, clock)
    assert (held.status, fresh.status) == (Status.WARNING, Status.OK)


def test_a_vanished_entity_gives_no_result() -> None:
    two = Measurement([*disk(0.1, "sda").readings, *disk(0.9, "sdb").readings])
    results = run(Scripted(two, disk(0.1, "sda")), runs=2)
    assert [result.entity for result in results] == ["sda"]


def test_an_entity_that_the_settings_name_and_that_is_not_there_is_critical() -> None:
    results = run(Scripted(Measurement(disk(0.1, "sda").readings, missing=["sdb"])))
    assert {result.entity: result.status for result in results} == {"sda": Status.OK, "sdb": Status.CRITICAL}


def test_a_finding_counts_without_any_threshold() -> None:
    (result,) = run(Scripted(Measurement([], Finding(Status.CRITICAL, "connection refused"))), warning=())
    assert (result.status, result.message) == (Status.CRITICAL, "connection refused")


def test_a_threshold_may_be_worse_than_the_finding() -> None:
    measured = Measurement([Reading("used", 0.9, "ratio")], Finding(Status.OK, "DISK OK"))
    assert run(Scripted(measured))[0].status is Status.WARNING
    unsure = Measurement([Reading("used", 0.9, "ratio")], Finding(Status.UNKNOWN, "DISK UNKNOWN"))
    assert run(Scripted(unsure))[0].status is Status.WARNING


def test_a_good_finding_is_told_in_its_own_words() -> None:
    (result,) = run(Scripted(Measurement([Reading("used", 0.1, "ratio")], Finding(Status.OK, "DISK OK"))))
    assert (result.status, result.message) == (Status.OK, "DISK OK")


def test_a_threshold_on_a_reading_that_did_not_come_is_unknown_and_never_ok() -> None:
    bound = Bound.model_validate({"reading": "inodes", "raise": "> 1"})
    (result,) = run(Scripted(disk(0.1)), warning=[bound])
    assert (result.status, "inodes" in result.message) == (Status.UNKNOWN, True)
    (lacking,) = run_check(check(Scripted(disk(0.1)), [bound], optional=["inodes"]), {}, clock)
    assert lacking.status is Status.OK


def test_a_reading_that_is_not_a_number_is_unknown_and_not_passed_on() -> None:
    (result,) = run(Scripted(Measurement([Reading("used", math.nan, "ratio"), Reading("free_bytes", 1, "bytes")])))
    assert result.status is Status.UNKNOWN
    assert [reading.name for reading in result.readings] == ["free_bytes"]


def test_a_probe_that_measures_nothing_is_unknown() -> None:
    assert run(Scripted(Measurement([])), warning=())[0].status is Status.UNKNOWN


def test_a_message_is_one_line_of_bounded_length() -> None:
    (result,) = run(Scripted(ProbeError("first\nsecond\x1b[31m" + "x" * 10_000)))
    assert result.message.startswith("first second [31m")
    assert len(result.message) <= 500


def test_a_run_that_never_came_back_is_unknown_for_every_known_entity() -> None:
    known = {"sda": Status.OK, "sdb": Status.WARNING}
    results = given_up(check(Scripted()), known, NOW + timedelta(minutes=1), 15.0)
    assert [(result.entity, result.status) for result in results] == [
        ("sda", Status.UNKNOWN), ("sdb", Status.UNKNOWN),
    ]  # fmt: skip
    assert "15 s" in results[0].message


def test_a_name_of_any_bytes_is_written_out_so_that_it_can_be_recorded_and_printed() -> None:
    strange = "/media/\udcff\x1b[2J\n盘"
    full = replace(disk(0.9, strange), notes={strange: "ext4"}, missing=["\udc80"])
    first, second = run(Scripted(full, full), runs=2)
    assert (first.entity, first.status) == ("\\udc80", Status.CRITICAL)
    assert (second.entity, second.status) == ("/media/\\udcff\\x1b[2J\\n盘", Status.WARNING)
    assert {reading.entity for reading in second.readings} == {second.entity}
    assert second.message.isprintable()
    assert "ext4" in second.message
