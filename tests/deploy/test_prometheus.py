"""Alert rules: promtool accepts them, their cases hold, and what they name exists in /metrics and deploy/runbooks."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from backup.past_drills import PastDrill
from keepwatch.metrics import MetricsPage
from keepwatch.view import (
    AlertView,
    CheckView,
    DutyView,
    ExerciseView,
    JobView,
    PlanView,
    ReadingView,
    RepositoryView,
    RunView,
    View,
)
from keepwatch.wal.status import WalStatus
from monitor.result import Reading, Status

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def promtool(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


FIGURES = dict.fromkeys(("files_unreadable", "bytes_processed", "bytes_added", "bytes_stored"), 3.0)


def exported_metrics() -> set[str]:
    """Names of the series on a real /metrics page of a daemon that has one of everything."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    done = RunView(1, "documents", "full", "local", "partial", at, at, figures=FIGURES)
    duties = tuple(DutyView(k, "local", "every 1h", at, at, at, 7200.0) for k in ("full", "drill", "verify"))
    drill = PastDrill(1, "documents", "local", "abc", "restore", "PASSED", at, at, 1.0, 1.0, 1, 1, "fine")
    job = JobView("documents", "/srv", ("local",), at, 1.0, 1.0, duties, None, done, done, drill, None,
                  log=WalStatus(at, at), keeps_log=True)  # fmt: skip
    reading = ReadingView(1, 0.5, at, 1.0)
    repository = RepositoryView("local", "/srv/repository", 1, 1, 1, at, "damaged", duties, at, reading, at, at)
    check = CheckView("root disk", "/", "disk", Status.CRITICAL, "full", at, readings=(Reading("used", 0.99, "ratio"),))
    sync = CheckView("sync", "", "freshness", Status.OK, "new", at, readings=(Reading("age", 60.0, "seconds"),))
    alert = AlertView("1", "root disk", "root disk", "/", "critical", "firing", at, "full")
    exercise = ExerciseView("SHORT", at, "anna", 2.0, 2.0, 1, ("too late",))
    plan = PlanView("fire", "Fire", "anna", (), (), "disaster", "several", "", 1.0, 1.0, at, at, (), (), (), exercise)
    view = View(
        "erp-1", "0", at, at, "UTC", (check, sync), (alert,), (job,), (done,), (drill,), (), (repository,),
        outbox_oldest_at=at, notifications=(("mail", 1, 1),), plans=(plan,), lags=((1.0, 1), (float("inf"), 1)),
        heartbeat_success_at=at,
    )  # fmt: skip
    page = MetricsPage(lambda: view).render().decode()
    return set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE))


def test_promtool_accepts_the_rules() -> None:
    code, output = promtool("check", "rules", str(PROMETHEUS / "alerts.yml"))
    assert code == 0, output


def test_promtool_accepts_the_scrape_example_and_finds_its_rules() -> None:
    code, output = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert (code, "1 rule files found" in output) == (0, True), output


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should_and_only_then(cases: Path) -> None:
    code, output = promtool("test", "rules", str(cases))
    assert code == 0, output


def test_a_rule_that_was_broken_fails_its_cases(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    rules_file = tmp_path / "prometheus/alerts.yml"
    text = rules_file.read_text(encoding="utf-8")
    broken = text.replace("keepwatch:backup_age_seconds > keepwatch", "keepwatch:backup_age_seconds < keepwatch")
    assert broken != text
    rules_file.write_text(broken, encoding="utf-8")
    code, output = promtool("test", "rules", str(tmp_path / "prometheus/tests/backups.yml"))
    assert code != 0
    assert "KeepwatchBackupOverdue" in output


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    fires, quiet = set(), set()
    for path in CASES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in group.get("alert_rule_test", []):
                fired = case["exp_alerts"]
                (fires if fired else quiet).add(case["alertname"])
                if fired and len(group.get("input_series", [])) > len(fired):
                    quiet.add(case["alertname"])  # exactly these fired, and other series were there that did not
    names = {rule["alert"] for rule in alerts()}
    assert fires == names
    assert quiet == names - {"Watchdog"}, "the watchdog alone never rests"


def test_each_alert_has_a_severity_and_says_what_happened_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "none"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]


def test_each_metric_that_a_rule_names_is_exported() -> None:
    named = {name for rule in rules() for name in re.findall(r"\bkeepwatch_\w+", rule["expr"])}
    assert len(named) > 20
    assert named - exported_metrics() == set()


def test_each_recorded_series_that_a_rule_names_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert {name for rule in rules() for name in re.findall(r"\bkeepwatch:\w+", rule["expr"])} == recorded
