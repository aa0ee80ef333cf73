"""Alertmanager's configuration: amtool accepts it, alerts go where they should, and it names only alerts we have."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "deploy/alertmanager/alertmanager.yml"


def amtool(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def alerts() -> set[str]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_amtool_accepts_it() -> None:
    code, output = amtool("check-config", str(CONFIG))
    assert code == 0, output
    assert "3 receivers" in output


def test_amtool_would_find_a_receiver_that_is_missing(tmp_path: Path) -> None:
    broken = tmp_path / "alertmanager.yml"
    broken.write_text(CONFIG.read_text(encoding="utf-8").replace("- name: pager", "- name: pagers"), encoding="utf-8")
    code, output = amtool("check-config", str(broken))
    assert code != 0
    assert "pager" in output


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "Watchdog", "severity": "none", "host": "erp-1"}, "dead-man-switch"),
        ({"alertname": "KeepwatchDown", "severity": "critical", "instance": "erp-1:9750"}, "pager"),
        ({"alertname": "root disk", "severity": "critical", "host": "erp-1"}, "pager"),
        ({"alertname": "root disk", "severity": "warning", "host": "erp-1"}, "team"),
    ],
)
def test_alerts_go_to_whom_they_are_for(labels: dict[str, str], receiver: str) -> None:
    code, output = amtool(
        "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}",
        *(f"{name}={value}" for name, value in labels.items()),
    )  # fmt: skip
    assert code == 0, output


def test_each_alert_that_an_inhibition_names_is_one_of_ours() -> None:
    named: set[str] = set()
    for rule in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            if match := re.fullmatch(r'alertname\s*(?:=~|!=|=)\s*"(.+)"', matcher):
                patterns = match[1].split("|")
                named |= set(patterns)
                for pattern in patterns:
                    assert any(re.fullmatch(pattern, alert) for alert in alerts()), pattern
    assert len(named) > 8


def test_each_inhibition_keeps_to_one_machine() -> None:
    """A critical alert of one machine must not silence another one's."""
    for rule in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["inhibit_rules"]:
        assert "instance" in rule["equal"]
