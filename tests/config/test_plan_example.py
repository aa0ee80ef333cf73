"""The plan in the documents is a good one."""

import re
from pathlib import Path

from config.plan_files import Plan, read_plan

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/emergency-plans.md"


def test_the_example_in_the_documents_is_a_good_plan(tmp_path: Path) -> None:
    [example] = re.findall(r"^```\n(\+\+\+.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "fire.md").write_text(example, encoding="utf-8")
    plan = read_plan(tmp_path / "fire.md")
    assert isinstance(plan, Plan), plan
    assert [restore.job for restore in plan.in_order] == ["ledger", "documents"]
