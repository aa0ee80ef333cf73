"""Emergency plans as files: read whole, and every problem of every file at its line."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from config.loading import load
from config.plan_files import Plan, read_plan, read_plans
from config.problems import Problem

GOOD = """+++
title = "Fire"
owner = "Anna Weber"
deputies = ["Li Wei"]
contacts = [{ name = "Bank", role = "the password", reach = "+49 30 5550" }]
scope = "several"
rto = "4h"
rpo = "1h"
alerts = ["root disk"]
review_by = 2027-05-01

[risk]
kind = "disaster"
likelihood = "rare"
impact = "severe"
prevention = ["smoke detector"]

[[restore]]
job = "documents"
after = ["ledger"]

[[restore]]
job = "ledger"
repository = "offsite"
+++
Nothing is left.

## 1. Everybody out
person: whoever is there
goal: all are counted

Use the stairs.

```
## this is code, no step
```

## Read the repository
Goal: the snapshots are listed
Person: Li Wei
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_plan(text: str, name: str = "fire.md") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write_plan


def good(write: Write, text: str = GOOD) -> Plan:
    plan = read_plan(write(text))
    assert isinstance(plan, Plan), plan
    return plan


def bad(write: Write, text: str) -> list[Problem]:
    problems = read_plan(write(text))
    assert isinstance(problems, list)
    return problems


def test_a_plan_is_read_whole(write: Write) -> None:
    plan = good(write)
    assert (plan.name, plan.head.owner, plan.head.rto, plan.head.review_by) == (
        "fire", "Anna Weber", timedelta(hours=4), date(2027, 5, 1),
    )  # fmt: skip
    assert plan.introduction == "Nothing is left."
    assert [(step.number, step.title, step.person, step.goal) for step in plan.steps] == [
        (1, "Everybody out", "whoever is there", "all are counted"),
        (2, "Read the repository", "Li Wei", "the snapshots are listed"),
    ]
    assert plan.steps[0].text.startswith("Use the stairs.")
    assert "this is code" in plan.steps[0].text


def test_jobs_come_after_those_that_they_need(write: Write) -> None:
    assert [restore.job for restore in good(write).in_order] == ["ledger", "documents"]


def test_a_plan_without_owner_is_read_since_that_is_a_finding_and_no_typing_error(write: Write) -> None:
    assert good(write, GOOD.replace('owner = "Anna Weber"\n', "")).head.owner == ""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('owner = "Anna Weber"', 'ovner = "Anna Weber"', 3, "ovner: unknown key; did you mean 'owner'?"),
        ('rto = "4h"', 'rto = "4 hours"', 7, "rto: not a duration"),
        ("review_by = 2027-05-01", 'review_by = "May"', 10, "review_by: must be a date without quotes"),
        ("review_by = 2027-05-01\n", "", 1, "review_by: is missing: day until which"),
        ('kind = "disaster"', 'kind = "flood"', 13, "risk.kind: must be 'hardware' or 'software'"),
        ('after = ["ledger"]', 'after = ["leger"]', 20, "restores no job named 'leger'; did you mean 'ledger'?"),
        ('job = "ledger"', 'job = "documents"', 23, "job 'documents' is restored twice"),
        ('repository = "offsite"', 'after = ["documents"]', 18, "wait for each other in a circle"),
        ("person: whoever is there\n", "", 28, "step 1: has no person"),
        ("Goal: the snapshots are listed\n", "", 38, "step 2: has no goal"),
        ('title = "Fire"', "title = Fire", 2, "not valid TOML"),
        ("+++\ntitle", "title", 1, "must begin with a line +++"),
        ("+++\nNothing", "Nothing", 1, "never ends"),
    ],
)
def test_a_planted_fault_is_found_on_its_line(write: Write, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    problems = bad(write, GOOD.replace(old, new, 1))
    assert [(p.line, words in str(p)) for p in problems if words in str(p)] == [(line, True)], list(map(str, problems))


def test_all_problems_of_all_plans_come_at_once(write: Write, tmp_path: Path) -> None:
    write(GOOD.replace('rto = "4h"', 'rto = "4"').replace('rpo = "1h"', 'rpo = "1"').replace("goal: all", "all"))
    (tmp_path / "flood.md").write_bytes(b"+++\n\xff")
    (tmp_path / "two words.md").write_text(GOOD)
    (tmp_path / "README.md").write_text("no plan")
    book = read_plans(tmp_path)
    assert [(p.file.name, p.line) for p in book.problems if p.file] == [
        ("fire.md", 7), ("fire.md", 8), ("fire.md", 28), ("flood.md", 2), ("two words.md", None),
    ]  # fmt: skip
    assert (book.plans, book.unread) == ((), {"fire", "flood", "two words"})


def test_a_plan_without_steps_and_one_that_is_no_file_are_problems(write: Write, tmp_path: Path) -> None:
    assert "has no steps" in str(bad(write, GOOD.partition("## 1.")[0])[0])
    (tmp_path / "folder.md").mkdir()
    assert "cannot be read: is a directory" in str(read_plans(tmp_path).problems[-1])


def test_plans_lie_beside_the_configuration_unless_it_says_otherwise(tmp_path: Path) -> None:
    config = tmp_path / "keepwatch.toml"
    config.write_text("")
    assert load(config, environ={}).plans.folder == tmp_path / "plans"
    config.write_text('[plans]\nfolder = "/srv/plans"\n')
    assert load(config, environ={}).plans.folder == Path("/srv/plans")
    assert load(None, environ={}, state_dir=tmp_path / "state").plans.folder == tmp_path / "state/plans"


def test_a_folder_that_is_not_there_holds_no_plan(tmp_path: Path) -> None:
    assert read_plans(tmp_path / "nowhere").plans == ()


def test_the_plans_of_the_demo_office_are_good() -> None:
    book = read_plans(Path(__file__).resolve().parents[2] / "deploy/demo/plans")
    assert [str(problem) for problem in book.problems] == []
    assert {plan.name for plan in book.plans} == {"database-lost", "disk-failure", "fire", "ransomware"}
