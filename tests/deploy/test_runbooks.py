"""Runbooks: each one that anything points to is there, has the four parts, and is itself pointed to."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from config import default
from keepwatch import bridge

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = {path.stem: path for path in sorted((ROOT / "deploy/runbooks").glob("*.md"))}
LONGEST = 45
"""Lines. At three in the morning nobody reads more."""


def named_by_alert_rules() -> set[str]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["annotations"]["runbook"] for group in groups for rule in group["rules"] if "alert" in rule}


def named_by_default_checks() -> set[str]:
    checks = tomllib.loads(default.text(Path("/state")))["checks"]
    return {check["runbook"] for check in checks if "runbook" in check}


def named_by_keepwatch_itself() -> set[str]:
    return {policy.runbook for policy in bridge.policies(["job"], ["repository"]).values() if policy.runbook}


def links(path: Path) -> set[str]:
    return set(re.findall(r"\]\(([\w-]+)\.md\)", path.read_text(encoding="utf-8")))


def test_each_runbook_that_an_alert_names_is_there() -> None:
    named = named_by_alert_rules() | named_by_default_checks() | named_by_keepwatch_itself()
    assert len(named) > 15
    assert named - set(RUNBOOKS) == set()


def test_each_link_between_runbooks_leads_somewhere() -> None:
    assert {target for path in RUNBOOKS.values() for target in links(path)} - set(RUNBOOKS) == set()


def test_no_runbook_is_left_that_nothing_points_to() -> None:
    named = named_by_alert_rules() | named_by_default_checks() | named_by_keepwatch_itself()
    assert set(RUNBOOKS) - named - {target for path in RUNBOOKS.values() for target in links(path)} == set()


@pytest.mark.parametrize("path", RUNBOOKS.values(), ids=list(RUNBOOKS))
def test_a_runbook_is_short_and_says_what_it_means_where_to_look_what_to_do_and_what_comes_after(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    parts = re.findall(r"^(?:# .+|\*\*Means\.\*\*|## .+)", text, re.MULTILINE)
    assert parts[0].startswith("# ")
    assert parts[1:] == ["**Means.**", "## Look", "## Do", "## Afterwards"]
    assert len(text.splitlines()) <= LONGEST
