from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backup.past_drills import PastDrill
from keepwatch import bridge
from keepwatch.view import DutyView, JobView, ReadingView, RepositoryView, RunView, SuspicionView
from monitor.result import Status

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR, DAY = 3600.0, 86_400.0


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def duty(kind, success_ago, max_age, repository="local"):
    success = None if success_ago is None else ago(success_ago)
    return DutyView(kind, repository, "every 1h", NOW, success, success, max_age)


def run(outcome, message=""):
    return RunView(1, "docs", "incremental", "local", outcome, ago(60), ago(30), message)


def drill(verdict="PASSED", rto=30.0, rpo=600.0):
    times = ago(HOUR), ago(HOUR)
    return PastDrill(1, "docs", "local", "ab", "restore", verdict, *times, rto, rpo, 9, 99, "pack 12ab is gone")


def reading(oldest_ago, within=30 * DAY):
    return ReadingView(9, 0.8, ago(oldest_ago), within)


GOOD = JobView(
    name="docs", source="files: /srv", repositories=("local",), configured_at=ago(30 * DAY), rpo_seconds=2 * HOUR,
    rto_seconds=600.0, running=None, last_run=None, last_backup=run("succeeded"), last_drill=drill(),
    newest_snapshot=None,
    duties=(duty("full", DAY, 14 * DAY), duty("incremental", HOUR, 2 * HOUR), duty("drill", HOUR, 2 * DAY)),
)  # fmt: skip
SOUND = RepositoryView("local", "/r", 3, 10 << 30, 100 << 30, ago(HOUR), None, (duty("verify", HOUR, 2 * DAY),))


def judge(job=GOOD, repository=SOUND, problems=None):
    """Return status and message by check."""
    found = bridge.results([job], [repository], problems or {}, NOW)
    return {result.check: (result.status, result.message) for result in found}


def with_duties(**changed):
    kinds = {d.kind: d for d in GOOD.duties} | changed
    return replace(GOOD, duties=tuple(kinds.values()))


def test_what_is_saved_proven_and_sound_is_ok():
    assert {status for status, _ in judge().values()} == {Status.OK}


FAULTS = {
    "no backup for longer than the RPO": (
        with_duties(full=duty("full", DAY, 14 * DAY), incremental=duty("incremental", 3 * HOUR, 2 * HOUR)),
        "backup docs", Status.CRITICAL, "last good backup 3h ago, allowed 2h",
    ),
    "never a backup": (
        with_duties(full=duty("full", None, 14 * DAY), incremental=duty("incremental", None, 2 * HOUR)),
        "backup docs", Status.CRITICAL, "no good backup yet",
    ),
    "a full backup overdue": (
        with_duties(full=duty("full", 20 * DAY, 14 * DAY)), "backup docs", Status.WARNING, "last full backup 20d ago",
    ),
    "the last run failed": (
        replace(GOOD, last_backup=run("failed", "disk gone")), "backup docs", Status.WARNING, "failed: disk gone",
    ),
    "the last run was partial": (
        replace(GOOD, last_backup=run("partial", "2 files")), "backup docs", Status.WARNING, "partial: 2 files",
    ),
    "a failed drill": (
        replace(GOOD, last_drill=drill("FAILED")), "drill docs", Status.CRITICAL, "pack 12ab is gone",
    ),
    "an inconclusive drill": (
        replace(GOOD, last_drill=drill("INCONCLUSIVE")), "drill docs", Status.WARNING, "inconclusive",
    ),
    "no passed drill for too long": (
        with_duties(drill=duty("drill", 3 * DAY, 2 * DAY)), "drill docs", Status.CRITICAL, "last passed drill 3d ago",
    ),
    "a restore slower than promised": (
        replace(GOOD, last_drill=drill(rto=700.0)), "drill docs", Status.WARNING, "restore took 11m 40s, promised 10m",
    ),
    "data older than promised": (
        replace(GOOD, last_drill=drill(rpo=3 * HOUR)), "drill docs", Status.WARNING, "3h old, promised 2h",
    ),
    "a suspicious snapshot": (
        replace(GOOD, suspicions=(SuspicionView("12ab34cd56", "local", ago(HOUR), ("/srv is empty", "9 % left")),)),
        "guard docs", Status.CRITICAL,
        "is empty; 9 % left; nothing is forgotten or pruned until somebody agrees: keepwatch agree docs -c 'WHY",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_job_is_told(fault):
    job, check, status, words = FAULTS[fault]
    found = judge(job)[check]
    assert found[0] is status
    assert words in found[1]


@pytest.mark.parametrize(
    ("repository", "status", "words"),
    [
        (replace(SOUND, problem="3 errors, first pack 12ab"), Status.CRITICAL, "first pack 12ab"),
        (replace(SOUND, duties=(duty("verify", 3 * DAY, 2 * DAY),)), Status.WARNING, "last verified 3d ago"),
        (replace(SOUND, reading=reading(31 * DAY)), Status.WARNING, "last read and verified 31d ago, allowed 30d"),
        (replace(SOUND, free_bytes=500 << 20, size_bytes=1 << 20), Status.WARNING, "500 MiB free"),
        (replace(SOUND, free_bytes=5 << 30, size_bytes=100 << 30), Status.WARNING, "at least 10 GiB wanted"),
    ],
)
def test_each_fault_of_a_repository_is_told(repository, status, words):
    found = judge(repository=repository)["repository local"]
    assert found[0] is status
    assert words in found[1]


@pytest.mark.parametrize("found", [reading(29 * DAY), reading(99 * DAY, None), ReadingView(0, 1.0, None, 30 * DAY)])
def test_packs_that_were_read_in_time_are_no_news(found):
    assert judge(repository=replace(SOUND, reading=found))["repository local"][0] is Status.OK


def test_a_suspicion_in_one_repository_is_not_told_of_the_other():
    waiting = SuspicionView("12ab", "offsite", ago(HOUR), ("/srv is empty",))
    job = replace(GOOD, repositories=("local", "offsite"), suspicions=(waiting,))
    found = {r.entity: r.status for r in bridge.results([job], [], {}, NOW) if r.check == "guard docs"}
    assert found == {"local": Status.OK, "offsite": Status.CRITICAL}


def test_a_job_configured_a_minute_ago_is_not_overdue():
    new = replace(
        GOOD, configured_at=ago(60), last_backup=None, last_drill=None,
        duties=(duty("full", None, 14 * DAY), duty("incremental", None, 2 * HOUR), duty("drill", None, 2 * DAY)),
    )  # fmt: skip
    assert {status for status, _ in judge(new).values()} == {Status.OK}


def test_a_job_in_two_repositories_is_judged_in_each():
    job = replace(
        GOOD, repositories=("local", "offsite"),
        duties=(*GOOD.duties, duty("incremental", None, 2 * HOUR, repository="offsite")),
    )  # fmt: skip
    found = {r.entity: r.status for r in bridge.results([job], [], {}, NOW) if r.check == "backup docs"}
    assert found == {"local": Status.OK, "offsite": Status.CRITICAL}


def test_the_daemons_own_troubles_are_told_by_part():
    found = bridge.results([], [], {"configuration": "line 3: no", "monitor.db": None}, NOW)
    assert {(r.entity, r.status) for r in found} == {("configuration", Status.CRITICAL), ("monitor.db", Status.OK)}


def test_everything_that_is_judged_has_a_policy():
    policies = bridge.policies(["docs"], ["local"])
    assert {r.check for r in bridge.results([GOOD], [SOUND], {"configuration": None}, NOW)} <= set(policies)
