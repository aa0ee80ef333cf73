"""What about plans needs care: each fault planted, found, and told by the running daemon's monitor."""

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backup.journal import Journal
from keepwatch.metric_families import plan_families
from keepwatch.plans.calling import plan_for_alert
from keepwatch.plans.checking import review_due_at
from keepwatch.plans.log import PlanRefused
from keepwatch.plans.records import NOTHING, Exercise, Verdict
from keepwatch.plans.shelf import Shelf
from keepwatch.viewing import Viewer
from keepwatch.watch import Watch
from monitor.result import Result, Status
from tests.keepwatch.planned import Planned


@pytest.fixture
def office(tmp_path: Path) -> Planned:
    """An office whose one plan is in order."""
    office = Planned(tmp_path)
    note_exercise(office)
    return office


def note_exercise(office: Planned, verdict: Verdict = Verdict.PASSED, *shortfalls: str) -> None:
    done = Exercise("fire", "anna", office.now, office.now, verdict, 9.0, 7.0, 60.0, 14400, 3600, (), shortfalls, "")
    office.log.exercised(done, Journal(office.state.journal))


def alarm(office: Planned) -> tuple[str, str]:
    [found] = office.alarms()
    assert found.status is Status.WARNING
    return found.entity, found.message


def test_a_plan_in_order_raises_nothing(office: Planned) -> None:
    assert (office.findings(), office.alarms()) == ([], [])


def test_a_plan_past_its_review_is_found_and_told_from_the_day_after(office: Planned) -> None:
    office.config.write_text(office.config.read_text().replace("[plans]", '[plans]\nexercise_within = "9y"'))
    office.now = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
    assert office.alarms() == []
    office.now = datetime(2026, 7, 1, 0, 0, tzinfo=UTC)
    entity, message = alarm(office)
    assert entity == "fire: review"
    assert "plan fire was to be reviewed by 2026-06-30; read it" in message
    [finding] = office.findings()
    assert str(finding).startswith(f"{office.root}/plans/fire.md:9: plan fire: was to be reviewed")


def test_a_review_by_a_named_person_moves_the_day(office: Planned) -> None:
    office.now = datetime(2026, 7, 15, tzinfo=UTC)
    with pytest.raises(PlanRefused, match="would be over already"):
        office.log.review(office.plan(), by="anna", next_on=date(2026, 7, 15), note="", now=office.now)
    office.log.review(office.plan(), by="anna", next_on=date(2027, 7, 15), note="new numbers", now=office.now)
    assert office.alarms() == []
    [review] = office.log.of("fire").reviews
    assert (review.by, review.note, review.digest) == ("anna", "new numbers", office.plan().digest)


def test_the_day_of_the_review_ends_where_the_operator_lives(office: Planned) -> None:
    due = review_due_at(office.plan(), NOTHING, ZoneInfo("Asia/Shanghai"))
    assert due == datetime(2026, 6, 30, 16, 0, tzinfo=UTC)


def test_a_plan_without_owner_is_found_and_told(office: Planned) -> None:
    office.write(('owner = "Anna Weber"\n', ""))
    entity, message = alarm(office)
    assert (entity, message.startswith("plan fire has no owner")) == ("fire: owner", True)


def test_a_plan_that_was_never_exercised_is_found_and_told(office: Planned) -> None:
    office.state.plan_log.unlink()
    entity, message = alarm(office)
    assert (entity, "was never exercised; exercise it: keepwatch plan exercise fire" in message) == (
        "fire: exercise", True,
    )  # fmt: skip


def test_a_plan_that_was_not_exercised_for_too_long_is_found_and_told(office: Planned) -> None:
    office.config.write_text(office.config.read_text().replace("[plans]", '[plans]\nexercise_within = "30d"'))
    office.pass_time(days=31)
    assert alarm(office)[1].startswith("plan fire was last shown to work 31d ago, allowed 30d")
    note_exercise(office, Verdict.INCONCLUSIVE)
    assert alarm(office)[1].startswith("plan fire was last shown to work 31d ago"), "inconclusive proves nothing"
    note_exercise(office, Verdict.SHORT, "too late")
    assert office.alarms() == []


def test_a_plan_without_anything_to_restore_is_shown_to_work_by_carrying_it_out(office: Planned) -> None:
    text = (office.root / "plans/fire.md").read_text()
    (office.root / "plans/fire.md").write_text(text.partition("[[restore]]")[0] + "+++" + text.rpartition("+++")[2])
    office.state.plan_log.unlink()
    assert "keepwatch plan start fire" in alarm(office)[1]
    office.log.start(office.plan(), by="anna", reason="", rehearsal=True, now=office.now)
    assert "never exercised" in alarm(office)[1]
    office.log.finish(office.plan(), by="anna", note="only talked through", now=office.now)
    assert office.alarms() == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('job = "ledger"\nrepository', 'job = "leger"\nrepository', "restores job 'leger', which is not there"),
        ('repository = "offsite"\n+++', 'repository = "ofsite"\n+++', "where it is not saved; did you mean 'offsite'?"),
        ('"root disk"', '"rot disk"', "names alert 'rot disk', which no check gives; did you mean 'root disk'?"),
        ('"backup documents"', '"backup docs"', "names alert 'backup docs', which no check gives"),
    ],
)
def test_a_name_that_leads_nowhere_is_found_and_told(office: Planned, old: str, new: str, words: str) -> None:
    changes = [(old, new)] + ([('after = ["ledger"]', 'after = ["leger"]')] if "leger" in new else [])
    office.write(*changes)
    entity, message = alarm(office)
    assert (entity, words in message) == ("fire: names", True), message


def test_an_alert_may_be_named_with_its_entity(office: Planned) -> None:
    office.write(('"root disk"', '"root disk /"'))
    assert office.alarms() == []


def test_a_risk_without_plan_is_found_and_told_and_all_of_them_count_once_there_is_a_plan(office: Planned) -> None:
    config = office.config.read_text()
    office.config.write_text(config.replace('risks = ["disaster"]', 'risks = ["disaster", "attack"]'))
    assert alarm(office) == ("risks", f"no plan for the risk of attack; {office.findings()[0].hint}")
    office.config.write_text(config.replace('risks = ["disaster"]\n', ""))
    assert len(office.findings()) == 5
    (office.root / "plans/fire.md").unlink()
    assert office.findings() == [], "who has no plans at all is not nagged"
    office.config.write_text(config)
    assert len(office.findings()) == 1


def test_a_plan_that_cannot_be_read_is_told_and_refuses_nothing_else(office: Planned) -> None:
    office.write(('rto = "4h"', 'rto = "4"'), name="flood")
    entity, message = alarm(office)
    assert (entity, message.startswith("rto: not a duration")) == ("flood: file", True)
    assert office.settings.jobs, "the daemon's settings are as good as before"


def test_the_shelf_reads_a_plan_again_when_its_file_changed(office: Planned) -> None:
    shelf = Shelf(office.settings, office.state.plan_log)
    assert [plan.head.owner for plan in shelf.book.plans] == ["Anna Weber"]
    office.write(("Anna Weber", "Karin Vogt-Li"))
    assert [plan.head.owner for plan in shelf.book.plans] == ["Karin Vogt-Li"]


def test_a_log_that_cannot_be_read_is_a_problem_of_the_daemon(office: Planned) -> None:
    office.state.plan_log.unlink()
    office.state.plan_log.mkdir()
    shelf = Shelf(office.settings, office.state.plan_log)
    shelf.results(office.now)
    assert "could not read" in (shelf.problem or "")


def test_a_line_of_the_log_that_somebody_edited_is_a_problem_and_stops_nothing(office: Planned) -> None:
    log = Journal(office.state.plan_log)
    for record in ({"event": "a kind of later"}, {"event": "reviewed", "plan": "fire", "by": "Anna"}):
        log.append(record, now=office.now)
    shelf = Shelf(office.settings, office.state.plan_log)
    assert shelf.results(office.now)
    assert "could not read line 3 of the log of plans: KeyError" in (shelf.problem or "")


def test_the_metrics_tell_when_the_review_is_due(office: Planned) -> None:
    shelf = Shelf(office.settings, office.state.plan_log)
    viewer = Viewer(office.settings, office.now, office.clock)
    viewer.put(plans=shelf.part(office.now))
    text = "".join(plan_families(viewer.view()))
    due = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
    [line] = [row for row in text.splitlines() if row.startswith("keepwatch_plan_review_due_timestamp_seconds{")]
    assert (line.split()[0].endswith('{plan="fire"}'), float(line.split()[1])) == (True, due)


def test_an_alert_calls_for_the_plan_that_names_it(office: Planned) -> None:
    called = plan_for_alert(office.book.plans, "root disk", "/srv")
    assert called.text() == "fire (Fire), owner Anna Weber, deputy Li Wei: keepwatch plan show fire"
    office.write(('"root disk"', '"root disk /srv"'), name="disk")
    named = [plan_for_alert(office.book.plans, "root disk", entity) for entity in ("/srv", "/")]
    assert [plan and plan.name for plan in named] == ["disk", "fire"]
    assert plan_for_alert(office.book.plans, "cpu") is None


def test_a_message_of_such_an_alert_names_the_plan_and_its_owner(office: Planned) -> None:
    channel = '[[notify]]\nname = "ops"\nurl = "json://127.0.0.1:9/"\ngroup_wait = "0s"\n'
    office.config.write_text(office.config.read_text() + channel)
    shelf = Shelf(office.settings, office.state.plan_log)
    watch = Watch(office.settings, office.state.monitor_db, office.clock, shelf.called_for)
    try:
        for minutes in (1, 10):
            office.pass_time(minutes=minutes)
            watch.take([Result("root disk", "/srv", Status.CRITICAL, "99 % used", office.now, 0.0)], office.now)
        watch._engine.tick(office.now)
        with watch._store.database.read() as connection:
            [row] = connection.execute("SELECT payload FROM outbox").fetchall()
    finally:
        watch.close()
    assert "emergency plan: fire (Fire), owner Anna Weber, deputy Li Wei: keepwatch plan show fire" in row["payload"]


def test_steps_are_ticked_once_timed_and_left_only_with_a_reason(office: Planned) -> None:
    plan, log = office.plan(), office.log
    with pytest.raises(PlanRefused, match="not being carried out"):
        log.tick(plan, 1, by="li", note="", now=office.now)
    log.start(plan, by="anna", reason="smoke", rehearsal=False, now=office.now)
    with pytest.raises(PlanRefused, match="is being carried out by anna"):
        log.start(plan, by="li", reason="", rehearsal=False, now=office.now)
    office.pass_time(minutes=7)
    log.tick(plan, 2, by="li", note="from the hotel", now=office.now)
    with pytest.raises(PlanRefused, match="was done at 12:07 UTC by li"):
        log.tick(plan, 2, by="anna", note="", now=office.now)
    with pytest.raises(PlanRefused, match="no step 3"):
        log.tick(plan, 3, by="anna", note="", now=office.now)
    shown = Shelf(office.settings, office.state.plan_log).part(office.now).plans[0]
    assert shown.under_way is not None
    assert (shown.under_way.by, shown.under_way.reason) == ("anna", "smoke")
    assert [(step.done_by, step.note) for step in shown.steps] == [("", ""), ("li", "from the hotel")]
    with pytest.raises(PlanRefused, match="steps 1 of plan fire are not done"):
        log.finish(plan, by="anna", note="", now=office.now)
    log.finish(plan, by="anna", note="nobody was in", now=office.now)
    assert log.of("fire").under_way is None
