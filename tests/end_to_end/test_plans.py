"""A running daemon with a plan: alerted when it needs care, exercised and carried out by the command line."""

import json

from tests.end_to_end.conftest import keepwatch

PLAN = """+++
title = "The documents are gone"
owner = "Anna Weber"
scope = "single"
rto = "4h"
rpo = "1h"
alerts = ["root disk"]
review_by = 2099-12-31
[risk]
kind = "hardware"
likelihood = "rare"
impact = "severe"
prevention = ["two disks"]
[[restore]]
job = "documents"
+++
## Restore
person: Li Wei
goal: all are back
"""
def test_a_plan_that_was_never_exercised_is_an_alert_until_an_exercise_ends_it(office, tmp_path):
    daemon = office(extra='[plans]\nrisks = ["hardware"]\n')
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans/gone.md").write_text(PLAN)
    daemon.start()

    def alert(state: str) -> bool:
        return any(a["entity"] == "gone: exercise" and a["state"] == state for a in daemon.view()["alerts"])

    daemon.until(lambda: alert("firing"), "the plan that was never exercised is an alert")
    daemon.until(lambda: daemon.runs(kind="drill", outcome="passed"), "the job has its snapshot and drill")
    done = keepwatch("plan", "exercise", "gone", "--author", "anna", "--config", daemon.config, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "exercise of gone PASSED" in done.stdout
    daemon.until(lambda: daemon.view()["plans"][0]["last_exercise"], "the page shows the exercise")
    daemon.until(lambda: alert("resolved"), "the plan's alert is over", 60)
    assert 'keepwatch_plan_last_proven_timestamp_seconds{plan="gone"}' in daemon.get("/metrics")
    assert daemon.stop() == 0


def test_the_commands_of_a_plan_from_its_check_to_its_log(office, tmp_path):
    daemon = office(extra='[plans]\nrisks = ["hardware", "attack"]\n')
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans/gone.md").write_text(PLAN)

    def plan(*arguments: str, status: int = 0) -> str:
        done = keepwatch("plan", *arguments, "--config", daemon.config, home=tmp_path)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    assert "no plan for the risk of attack" in plan("check", status=1)
    assert "never" in plan("list")
    assert plan("exercise", "gone", "--quiet", status=4).count("improvement 1 is open: documents") == 1
    assert "improvement 1 of plan gone: documents" in plan("list")
    assert "without a word" in plan("review", "--close", "1", status=1)
    assert "closed by anna: made a backup" in plan(
        "review", "--close", "1", "--note", "made a backup", "--author", "anna"
    )
    assert "next by 2100-06-30" in plan("review", "gone", "--next", "2100-06-30")
    assert "is not a day" in plan("review", "gone", "--next", "soon", status=2)
    assert "1. Restore (Li Wei)" in plan("start", "gone", "--reason", "the disk is dead")
    assert "[ ] 1. Restore" in plan("show", "gone")
    assert "step 1 done by li" in plan("tick", "gone", "1", "--author", "li")
    assert "finished by" in plan("finish", "gone")
    assert "there are: gone" in plan("show", "flood", status=2)
    assert json.loads(plan("show", "gone", "--json"))["review_due_on"] == "2100-06-30"
    events = [line["record"]["event"] for line in json.loads(plan("log", "--json"))]
    assert events == ["exercised", "improvement closed", "reviewed", "started", "step done", "finished"]
    assert "6 lines, unbroken" in plan("log", "--verify")
    assert "which was noted elsewhere" in plan("log", "--verify", "--holds", "0" * 64, status=4)
    log = tmp_path / "state/plans.jsonl"
    log.write_text(log.read_text().replace("made a backup", "did nothing at all"))
    assert "line 2" in plan("log", "--verify", status=4)
    (tmp_path / "plans/gone.md").write_text(PLAN.replace('rto = "4h"', 'rto = "4"'))
    assert "plans/gone.md:5: plan gone: rto: not a duration" in plan("check", status=2)
