"""Exercises: real drills of real repositories, in order, under one clock, and what falls short is not forgotten."""

import shutil
import threading
from pathlib import Path

import pytest

from backup.journal import Journal
from keepwatch.errors import AlreadyRunning, UsageError
from keepwatch.orders import Ending, Order
from keepwatch.plans.exercising import exercise, judge
from keepwatch.plans.log import PlanRefused
from keepwatch.plans.records import DrilledJob, Verdict
from tests.keepwatch.guarded import without_waiting
from tests.keepwatch.planned import Planned


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    without_waiting(monkeypatch)
    return Planned(tmp_path)


def test_an_exercise_brings_the_jobs_back_from_the_off_site_repository_alone_each_after_what_it_needs(
    office: Planned,
) -> None:
    office.back_up()
    shutil.rmtree(office.root / "local")
    office.pass_time(minutes=10)
    done = office.exercise()
    assert [(one.job, one.repository, one.outcome) for one in done.drilled] == [
        ("ledger", "offsite", "passed"), ("documents", "offsite", "passed"),
    ]  # fmt: skip
    assert (done.verdict, done.shortfalls, done.rpo_seconds) == (Verdict.PASSED, (), 600.0)
    assert done.rto_seconds is not None
    slowest = max(one.rto_seconds or 0 for one in done.drilled)
    assert slowest <= done.rto_seconds <= done.took_seconds
    [kept] = office.log.of("fire").exercises
    assert (kept.verdict, kept.drilled, kept.by) == (done.verdict, done.drilled, "anna")
    assert office.alarms() == []


def test_the_log_ties_an_exercise_to_the_journal_of_drills(office: Planned) -> None:
    office.back_up()
    office.exercise()
    journal = Journal(office.state.journal).verify()
    [line] = office.log.journal.lines()
    assert (line.record["drill_journal_lines"], line.record["drill_journal_hash"]) == (2, journal.last_hash)
    assert office.log.journal.verify().broken_line is None
    office.state.plan_log.write_text(office.state.plan_log.read_text().replace('"PASSED"', '"FAILED"'))
    assert office.log.journal.verify().broken_line == 1


def test_data_that_came_back_too_old_opens_an_improvement_that_only_a_person_with_a_word_closes(
    office: Planned,
) -> None:
    office.back_up()
    office.pass_time(hours=2)
    done = office.exercise()
    assert done.verdict is Verdict.SHORT
    assert done.shortfalls == ("the data of ledger was 2h old, promised 1h",)
    [improvement] = office.log.of("fire").open_improvements
    with pytest.raises(PlanRefused, match="without a word"):
        office.log.close(improvement.number, by="li", note=" ", now=office.now)
    with pytest.raises(PlanRefused, match="no improvement 7"):
        office.log.close(7, by="li", note="done", now=office.now)
    office.log.close(improvement.number, by="li", note="hourly backups", now=office.now)
    assert office.log.of("fire").open_improvements == ()
    with pytest.raises(PlanRefused, match="was closed by li"):
        office.log.close(improvement.number, by="li", note="again", now=office.now)


def test_a_job_that_does_not_come_back_fails_the_exercise_and_those_that_need_it_are_left_out(office: Planned) -> None:
    office.back_up()
    packs = [path for path in (office.root / "offsite/data").rglob("*") if path.is_file()]
    for pack in packs:
        pack.unlink()
    done = office.exercise()
    assert (done.verdict, done.rto_seconds, done.rpo_seconds) == (Verdict.FAILED, None, None)
    assert [one.outcome for one in done.drilled] == ["failed", "left out"]
    assert len(office.log.of("fire").open_improvements) == 1
    assert "ledger failed" in office.log.of("fire").open_improvements[0].what
    [alarm] = office.alarms()
    assert "was never shown to work; its last exercise ended FAILED: ledger failed" in alarm.message


def test_what_nobody_can_say_is_inconclusive_and_proves_nothing(office: Planned) -> None:
    done = judge(
        office.plan(), (DrilledJob("ledger", "offsite", "inconclusive", "no scratch space"),), "anna", office.now,
        office.now, 1.0,
    )  # fmt: skip
    assert (done.verdict, done.verdict.proves) == (Verdict.INCONCLUSIVE, False)
    assert done.shortfalls == ("ledger inconclusive: no scratch space",)


def test_everything_back_too_late_names_who_took_longest_and_does_not_count_the_proofs(office: Planned) -> None:
    office.write(('rto = "4h"', 'rto = "10m"'))
    fast = DrilledJob("ledger", "offsite", "passed", "", "", 60.0, 0.0, 600.0)
    slow = DrilledJob("documents", "offsite", "passed", "", "", 700.0, 0.0, 900.0)
    in_time = judge(office.plan(), (fast,), "anna", office.now, office.now, 601.0)
    assert (in_time.verdict, in_time.rto_seconds) == (Verdict.PASSED, 61.0)
    late = judge(office.plan(), (fast, slow), "anna", office.now, office.now, 1501.0)
    assert (late.verdict, late.rto_seconds) == (Verdict.SHORT, 761.0)
    assert late.shortfalls == ("everything was back after 12m 41s, promised 10m; documents took longest",)


def test_an_exercise_waits_until_a_jobs_own_run_is_over(office: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepwatch.plans.exercising._LOOK_EVERY_SECONDS", 0.01)
    asked: list[str] = []

    def busy_at_first(order: Order) -> Ending:
        asked.append(order.job)
        if len(asked) < 3:
            raise AlreadyRunning("a run of job ledger is already running as process 7")
        return Ending("passed", "fine", figures={"rto_seconds": 0.0, "rpo_seconds": 0.0})

    done = exercise(
        office.plan(), office.settings, office.state, by="anna", clock=office.clock, carry_out=busy_at_first,
        stop=threading.Event(),
    )  # fmt: skip
    assert (asked, done.verdict) == (["ledger", "ledger", "ledger", "documents"], Verdict.PASSED)


def test_an_exercise_that_is_stopped_opens_no_improvement(office: Planned) -> None:
    stop = threading.Event()

    def stopped(order: Order) -> Ending:
        stop.set()
        return Ending("interrupted", "asked to stop", exit_code=130)

    done = exercise(
        office.plan(), office.settings, office.state, by="anna", clock=office.clock, carry_out=stopped, stop=stop
    )
    assert (done.verdict, done.shortfalls) == (Verdict.INCONCLUSIVE, ())


def test_a_plan_that_restores_nothing_or_what_is_not_there_is_not_exercised(office: Planned) -> None:
    office.write(('job = "ledger"', 'job = "books"'), ('after = ["ledger"]', 'after = ["books"]'))
    with pytest.raises(UsageError, match="restores job books, which is not there"):
        office.exercise()
    office.write(('repository = "offsite"\n+++', 'repository = "moon"\n+++'))
    with pytest.raises(UsageError, match="from repository moon, where it is not saved"):
        office.exercise()
    text = (office.root / "plans/fire.md").read_text()
    (office.root / "plans/fire.md").write_text(text.partition("[[restore]]")[0] + "+++" + text.rpartition("+++")[2])
    with pytest.raises(UsageError, match="restores no job") as refused:
        office.exercise()
    assert "plan start fire --rehearsal" in str(refused.value.hint)
