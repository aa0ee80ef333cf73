"""The two answers at the top: never a yes that the view does not prove."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keepwatch.view import AlertView, JobView, View
from keepwatch.web import verdicts
from keepwatch.web.page import duty_state, overall
from keepwatch.web.verdicts import Tone
from monitor.result import Status
from tests.keepwatch import web_samples as samples
from tests.keepwatch.web_samples import NOW, ago


def well(view: View) -> verdicts.Verdict:
    return verdicts.well(view, NOW)


def test_a_healthy_machine_is_well() -> None:
    verdict = well(samples.healthy())
    assert (verdict.tone, verdict.answer, verdict.short) == (Tone.OK, "Yes", "well")
    assert "all 15 checks are ok" in verdict.reason


def test_firing_alerts_are_counted_by_severity() -> None:
    verdict = well(samples.bad_day())
    assert (verdict.tone, verdict.answer) == (Tone.CRITICAL, "No")
    assert verdict.reason == "4 alerts firing: 3 critical, 1 warning."
    assert verdict.notes == ("1 pending", "1 acknowledged", "messages of 1 held back")


def test_a_silenced_alert_still_means_no() -> None:
    alert = AlertView(
        "1", "disk", "disk", "/", "critical", "firing", ago(hours=1), "full", suppressed_by=("silence 1",)
    )
    assert well(replace(samples.healthy(), alerts=(alert,))).tone is Tone.CRITICAL


def test_warnings_alone_mean_mostly() -> None:
    alert = AlertView("1", "disk", "disk", "/", "warning", "firing", ago(hours=1), "nearly full")
    verdict = well(replace(samples.healthy(), alerts=(alert,)))
    assert (verdict.tone, verdict.answer, verdict.reason) == (Tone.WARNING, "Mostly", "1 alert firing: 1 warning.")


def test_a_check_that_could_not_measure_means_not_sure() -> None:
    good = samples.healthy()
    view = replace(good, checks=(replace(good.checks[0], status=Status.UNKNOWN), *good.checks[1:]))
    assert (well(view).tone, well(view).answer) == (Tone.UNKNOWN, "Not sure")


def test_a_daemon_that_has_just_started_does_not_say_yes() -> None:
    assert well(samples.first_second()).answer == "Starting"
    assert well(samples.nothing_set_up()).answer == "Unknown"


def test_a_breach_that_has_to_last_first_is_so_far() -> None:
    good = samples.healthy()
    view = replace(good, checks=(replace(good.checks[0], status=Status.CRITICAL), *good.checks[1:]))
    assert well(view).answer == "So far"
    assert "1 of 15" in well(view).reason


def test_a_view_that_is_not_renewed_is_no_news_whatever_it_says() -> None:
    old = replace(samples.healthy(), made_at=ago(minutes=6))
    assert (well(old).tone, well(old).short) == (Tone.UNKNOWN, "no news")
    assert well(replace(old, made_at=ago(minutes=4))).tone is Tone.OK


def test_checks_are_tallied_worst_first() -> None:
    assert [(count, word) for _, count, word in verdicts.tally(samples.bad_day().checks)] == [
        (2, "critical"), (1, "warning"), (1, "unknown"), (13, "ok"), (1, "absent")
    ]  # fmt: skip
    assert [(count, word) for _, count, word in verdicts.tally(samples.first_second().checks)] == [(6, "waiting")]


def proof(job: JobView, view: View | None = None) -> verdicts.Proof:
    return verdicts.proof_of(job, (view or samples.healthy()).drills, NOW)


def recoverable(view: View) -> verdicts.Verdict:
    return verdicts.recoverable(view.jobs, [verdicts.proof_of(j, view.drills, NOW) for j in view.jobs])


def test_jobs_that_came_back_in_time_are_proven() -> None:
    verdict = recoverable(samples.healthy())
    assert (verdict.tone, verdict.answer) == (Tone.OK, "Yes")
    job = proof(samples.healthy().jobs[0])
    assert (job.word, job.rto.text, job.rto.word, job.rpo.text) == ("proven", "3m 12s", "of 30m", "18m")
    assert job.rpo.share == pytest.approx(0.15)


def test_a_failed_drill_means_no_and_names_the_job() -> None:
    verdict = recoverable(samples.bad_day())
    assert (verdict.tone, verdict.answer, verdict.short) == (Tone.CRITICAL, "No", "1 drill failed")
    assert verdict.reason == "The last restore drill of documents failed."


def test_no_jobs_means_no() -> None:
    assert (recoverable(samples.nothing_set_up()).answer, recoverable(samples.nothing_set_up()).tone) == (
        "No",
        Tone.WARNING,
    )


def test_what_was_never_drilled_is_not_proven() -> None:
    job = replace(samples.first_second().jobs[0], newest_snapshot=samples.snapshot(1, "documents", 0.1))
    assert (proof(job, samples.first_second()).tone, proof(job, samples.first_second()).word) == (
        Tone.UNKNOWN,
        "not drilled yet",
    )
    undrilled = replace(job, duties=tuple(d for d in job.duties if d.kind != "drill"))
    assert (proof(undrilled, samples.first_second()).tone, proof(undrilled, samples.first_second()).word) == (
        Tone.WARNING,
        "no drill set up",
    )


def test_a_proof_older_than_it_may_be_is_a_warning() -> None:
    job = samples.healthy().jobs[0]
    old = replace(job, duties=samples.duties("documents", drill_hours=49), last_drill=None)
    view = replace(samples.healthy(), drills=())
    assert (proof(old, view).tone, proof(old, view).word) == (Tone.WARNING, "proof too old")


def test_an_inconclusive_drill_neither_proves_nor_disproves() -> None:
    chinese = samples.bad_day().jobs[2]
    assert (proof(chinese).tone, proof(chinese).word) == (Tone.UNKNOWN, "proven, last drill inconclusive")
    never = replace(chinese, duties=(replace(chinese.duties[2], last_success_at=None),))
    assert proof(never).word == "drill inconclusive"


def test_a_snapshot_older_than_the_rpo_breaks_the_promise_though_proven() -> None:
    job = replace(samples.healthy().jobs[0], newest_snapshot=samples.snapshot(1, "documents", 3))
    assert (proof(job).tone, proof(job).word, proof(job).rpo.share) == (Tone.WARNING, "proven, loss above RPO", 1.0)


def test_a_restore_slower_than_the_rto_breaks_the_promise_though_proven() -> None:
    job = replace(samples.healthy().jobs[0], rto_seconds=60)
    assert (proof(job).tone, proof(job).word, proof(job).rto.word) == (
        Tone.WARNING,
        "proven, slower than RTO",
        "of 1m, too slow",
    )


def test_without_objectives_the_meters_only_measure() -> None:
    job = replace(samples.healthy().jobs[0], rto_seconds=None, rpo_seconds=None)
    assert proof(job).tone is Tone.OK
    assert (proof(job).rto.share, proof(job).rto.word) == (None, "no objective")


def test_the_tab_tells_the_worse_of_the_two_answers() -> None:
    failed = replace(samples.bad_day(), alerts=())
    assert overall(failed, NOW).short == "1 drill failed"
    assert overall(samples.bad_day(), NOW).short == "4 firing"
    assert overall(samples.healthy(), NOW).short == "well"


@pytest.mark.parametrize(
    ("success", "configured", "word"),
    [
        (timedelta(hours=1), timedelta(days=9), "fresh"),
        (timedelta(hours=3), timedelta(days=9), "overdue"),
        (None, timedelta(hours=1), "not yet"),
        (None, timedelta(hours=3), "overdue"),
        (timedelta(hours=3), timedelta(hours=1), "fresh"),
    ],
)
def test_a_duty_is_overdue_by_the_same_rule_as_its_alert(
    success: timedelta | None, configured: timedelta, word: str
) -> None:
    duty = replace(samples.duties("documents")[0], last_success_at=None if success is None else NOW - success)
    assert duty_state(duty, NOW - configured, NOW)[1] == word


@pytest.mark.parametrize(
    ("outcome", "tone"),
    [("succeeded", Tone.OK), ("PASSED", Tone.OK), ("partial", Tone.WARNING), ("FAILED", Tone.CRITICAL),
     ("interrupted", Tone.WARNING), ("inconclusive", Tone.UNKNOWN), ("running", Tone.UNDERWAY)],
)  # fmt: skip
def test_every_outcome_has_its_look(outcome: str, tone: Tone) -> None:
    assert verdicts.tone_of_outcome(outcome) is tone


@pytest.mark.parametrize(
    ("level", "word"),
    [("sample", "only sampled"), ("read", "read, not restored"), ("metadata", "structure whole, not restored")],
)
def test_a_drill_that_had_not_everything_back_proves_nothing_and_says_what_it_did(level: str, word: str) -> None:
    job = next(job for job in samples.healthy().jobs if job.last_drill)
    assert job.last_drill is not None
    shallow = replace(job, last_drill=replace(job.last_drill, level=level))
    proof = verdicts.proof_of(shallow, [], NOW)
    assert (proof.tone, proof.word, proof.proven_at) == (verdicts.Tone.UNKNOWN, word, None)
    assert verdicts.recoverable([shallow], [proof]).answer == "Not sure"
