from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backup.catalog import Standing
from config.settings import Settings
from keepwatch.duties import Duty, Facts, due, duties_of, ledger_of, next_due

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def settings(**job):
    return Settings.model_validate(
        {
            "repositories": {"local": {"url": "/r", "password_file": "/p", "verify": "daily 03:30"}},
            "jobs": {
                "docs": {
                    "source": {"type": "files", "paths": ["/srv"]},
                    "repositories": ["local"],
                    "incremental": "every 1h",
                    "full": "sunday 02:00",
                    "keep": {"last": 3},
                    "drill": {"schedule": "daily 04:30"},
                    **job,
                }
            },
        }
    )


DUTIES = duties_of(settings(), NOW, UTC)


def kinds(ledger, now=NOW, duties=DUTIES, zone=UTC):
    return [duty.kind for duty in due(duties, ledger, now, zone)]


def key(kind, job="docs"):
    return kind, job, "local"


def done(at, outcome="succeeded"):
    return Facts(at, at + timedelta(minutes=1), outcome, at if outcome in ("succeeded", "partial", "passed") else None)


def test_a_new_job_is_saved_first_and_proven_right_after():
    assert kinds({}) == ["full"]
    ledger = {key("full"): done(NOW)}
    assert kinds(ledger) == ["incremental", "forget", "drill", "verify"]
    ledger |= {key(k): done(NOW) for k in ("incremental", "drill")} | {key("forget"): done(NOW + HOUR)}
    ledger[key("verify", "")] = done(NOW)
    assert kinds(ledger) == []


def test_an_incremental_comes_after_each_hour_from_the_last_backup_of_either_kind():
    ledger = {key("full"): done(NOW - HOUR / 2), key("incremental"): done(NOW - 3 * HOUR)}
    assert "incremental" not in kinds(ledger)
    assert "incremental" in kinds(ledger, NOW + HOUR)


def test_what_was_missed_for_weeks_is_caught_up_once():
    ledger = {key(k): done(NOW - timedelta(days=30)) for k in ("full", "incremental", "drill")}
    assert kinds(ledger).count("full") == 1
    assert "incremental" not in kinds(ledger), "the full backup stands in for it"
    ledger[key("full")] = done(NOW)
    assert "full" not in kinds(ledger)
    assert "incremental" not in kinds(ledger)


def test_an_interrupted_run_is_due_again_at_once():
    assert "full" in kinds({key("full"): done(NOW, "interrupted")})


def test_a_failed_run_waits_longer_each_time_but_never_past_its_schedule():
    def again(failures):
        facts = replace(done(NOW, "failed"), failures_in_row=failures, last_ended_at=NOW)
        return next_due(duty("full"), {key("full"): facts}, UTC) - NOW

    def duty(kind):
        return next(d for d in DUTIES if d.kind == kind)

    assert [again(n) for n in (1, 2, 3, 4, 50)] == [timedelta(minutes=m) for m in (1, 5, 15, 60, 60)]
    facts = replace(done(NOW, "failed"), failures_in_row=9, last_ended_at=NOW, last_success_at=NOW - HOUR)
    quick = replace(duty("incremental"), schedule=settings(incremental="every 10m").jobs["docs"].incremental)
    ledger = {key("full"): done(NOW - HOUR), key("incremental"): facts}
    assert next_due(quick, ledger, UTC) == NOW + timedelta(minutes=10)


def test_an_incremental_does_not_double_the_failures_of_the_first_full_backup():
    failed = replace(done(NOW, "failed"), failures_in_row=1)
    assert kinds({key("full"): failed}) == []


def test_nothing_is_drilled_verified_or_forgotten_before_a_backup_exists():
    assert kinds({key("full"): replace(done(NOW), running=True, last_success_at=None)}) == []


def test_a_running_duty_is_not_started_again():
    running = replace(done(NOW - 8 * 24 * HOUR), running=True)
    assert "full" not in kinds({key("full"): running})


def test_forget_follows_each_backup_and_only_then():
    ledger = {key("full"): done(NOW - HOUR / 4), key("forget"): done(NOW - HOUR)}
    assert "forget" in kinds(ledger)
    ledger[key("forget")] = done(NOW)
    assert "forget" not in kinds(ledger)


def test_calendar_schedules_follow_the_operators_zone_over_daylight_saving():
    berlin = ZoneInfo("Europe/Berlin")
    duty = next(d for d in duties_of(settings(), NOW, berlin) if d.kind == "full")
    before = datetime(2026, 3, 22, 1, 30, tzinfo=UTC)  # after Sunday 02:00 CET
    planned = next_due(duty, {key("full"): done(before)}, berlin)
    assert datetime(2026, 3, 29, 1, 0, tzinfo=UTC) <= planned <= datetime(2026, 3, 29, 1, 10, tzinfo=UTC)


def test_jitter_is_fixed_by_name_and_small():
    schedule = settings().jobs["docs"].full
    moments = [next_due(Duty("full", f"job-{n}", "local", schedule), {}, UTC) for n in range(3)]
    assert len(set(moments)) == 1, "nothing delays a first run"

    def planned(name):
        return next_due(Duty("full", name, "local", schedule), {("full", name, "local"): done(NOW)}, UTC)

    spread = {planned(f"job-{n}") for n in range(50)}
    assert planned("job-7") == planned("job-7")
    assert len(spread) > 40
    assert max(spread) - min(spread) <= timedelta(minutes=5)


@pytest.mark.parametrize(("rpo", "expected"), [("2h", timedelta(hours=2)), (None, timedelta(hours=2, minutes=5))])
def test_the_tolerated_age_is_the_promised_rpo_or_two_turns(rpo, expected):
    duties = duties_of(settings(rpo=rpo), NOW, UTC)
    assert next(d for d in duties if d.kind == "incremental").max_age == expected
    assert next(d for d in duties if d.kind == "full").max_age == timedelta(days=14, minutes=5)


BOTH = duties_of(settings(repositories=["local", "offsite"]), NOW, UTC)


def saved(local, offsite, kind="incremental", outcome="succeeded"):
    """A ledger in which both repositories had their full backup, and the last of a kind at these moments."""
    ledger = {("full", "docs", name): done(NOW - 2 * 24 * HOUR) for name in ("local", "offsite")}
    ledger[kind, "docs", "local"] = done(local, outcome)
    ledger[kind, "docs", "offsite"] = done(offsite)
    return ledger


def backups(ledger, now):
    return [d.repository for d in due(BOTH, ledger, now, UTC) if d.kind == "incremental"]


def test_of_several_repositories_the_first_one_is_saved_first():
    assert [d.repository for d in due(BOTH, {}, NOW, UTC)] == ["local", "offsite"]
    ledger = saved(NOW - 2 * HOUR, NOW - 2 * HOUR)
    assert backups(ledger, NOW) == ["local", "offsite"]
    by_name = {d.repository: next_due(d, ledger, UTC) for d in BOTH if d.kind == "incremental"}
    assert by_name["local"] == by_name["offsite"], "no jitter between those that share a read"


def test_a_first_repository_that_is_due_a_little_later_is_brought_forward_once():
    ledger = saved(NOW - timedelta(minutes=58), NOW - timedelta(minutes=59))  # the first one had to be tried again
    local, offsite = (d for d in BOTH if d.kind == "incremental")
    moment = next_due(offsite, ledger, UTC)
    assert moment < next_due(local, ledger, UTC)
    assert backups(ledger, moment) == ["local", "offsite"]
    assert backups(ledger | {local.key: done(moment)}, moment) == ["offsite"], "it had its turn"
    failed = replace(ledger[local.key], failures_in_row=2, last_outcome="failed", last_ended_at=moment)
    assert backups(ledger | {local.key: failed}, moment) == ["offsite"], "nobody waits for one that fails"


def test_a_first_repository_whose_turn_is_far_off_is_not_brought_forward():
    ledger = saved(NOW - timedelta(minutes=40), NOW - timedelta(minutes=59))
    moment = next_due(next(d for d in BOTH if d.key == ("incremental", "docs", "offsite")), ledger, UTC)
    assert backups(ledger, moment) == ["offsite"]


def test_what_was_dated_by_a_clock_that_was_ahead_holds_nothing_up():
    ahead = NOW + timedelta(days=4000)
    standing = Standing(ahead, ahead, "succeeded", ahead, 0, 1, 0, 0, 0)
    ledger = ledger_of({key(kind): standing for kind in ("full", "incremental", "drill")}, set(), NOW)
    assert kinds(ledger) == ["full"]
    assert ledger[key("full")].last_success_at is None
    slightly = Standing(NOW + timedelta(minutes=1), NOW, "succeeded", NOW, 0, 1, 0, 0, 0)
    ledger = ledger_of({key("full"): slightly, key("incremental"): slightly}, set(), NOW)
    assert kinds(ledger) == ["forget", "drill", "verify"]
