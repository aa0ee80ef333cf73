"""The guard at work in real runs: what is suspicious is taken, flagged and told, and holds forget and prune."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backup.guard import Figures, Past, judge
from backup.suspicions import Suspicions
from config.jobs import JobSettings
from keepwatch.cli.app import run
from keepwatch.errors import UsageError
from keepwatch.guarding import agree, bounds_for
from keepwatch.metrics import MetricsPage
from keepwatch.web.page import PageRenderer
from monitor.result import Status
from tests.keepwatch.guarded import Guarded, without_waiting

Capture = pytest.CaptureFixture[str]
TOLD = "keepwatch agree documents -c"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.fixture
def office(tmp_path: Path) -> Guarded:
    made = Guarded(tmp_path)
    assert made.back_up().outcome == "succeeded"
    return made


def encrypt(office: Guarded) -> None:
    for path in [*office.documents.iterdir(), *office.archive.iterdir()]:
        size = path.stat().st_size
        path.unlink()
        path.with_suffix(".txt.locked").write_bytes(os.urandom(size))


def unmount(office: Guarded) -> None:
    shutil.rmtree(office.archive)
    office.archive.mkdir()


@pytest.fixture
def held(office: Guarded) -> Guarded:
    """An office whose files were just encrypted and backed up."""
    encrypt(office)
    ending = office.back_up()
    assert ending.outcome == "succeeded"
    assert "suspicious: " in ending.message
    assert TOLD in ending.hint
    return office


@pytest.mark.parametrize(("disaster", "words"), [(encrypt, "'.locked'; renamed?"), (unmount, "archive is empty")])
def test_a_disaster_is_saved_flagged_and_told_with_the_command_that_ends_it(
    office: Guarded, disaster: Callable[[Guarded], None], words: str
) -> None:
    assert office.judged("guard documents").status is Status.OK
    disaster(office)
    assert words in office.back_up().message
    assert ["suspicious" in tags for tags in office.tags()] == [False, True]
    told = office.judged("guard documents")
    assert told.status is Status.CRITICAL
    assert words in told.message
    assert TOLD in told.message


def test_what_the_guard_says_reaches_a_page_in_another_language(held: Guarded) -> None:
    page = PageRenderer(held.clock).page(replace(held.view(), language="zh-CN")).decode()
    assert "65 个文件中有 65 个的扩展名前所未有" in page
    assert "files have endings" not in page


def test_forget_and_prune_are_held_and_say_why(held: Guarded) -> None:
    for kind in ("forget", "prune"):
        ending = held.run(kind)
        assert ending.outcome == "held"
        assert "nobody agreed to the suspicious snapshot" in ending.message
        assert TOLD in ending.hint
    assert len(held.tags()) == 2
    with held.catalog() as catalog:
        standings = catalog.standings()
    assert standings["prune", "", "local"].failures == 0, "nothing failed: it waits for a person"


def test_agreeing_lets_go_on_and_makes_a_new_normal(held: Guarded) -> None:
    with held.catalog() as catalog:
        (agreed,) = agree(catalog, "documents", None, "weber", "it was the exercise", held.clock)
        assert Suspicions(catalog).agreed("local") == {agreed.snapshot}
    assert held.judged("guard documents").status is Status.OK
    assert "suspicious" not in held.back_up().message
    assert held.run("forget").outcome == "succeeded"
    assert held.run("prune").outcome == "succeeded"
    assert len(held.tags()) == 1


def test_a_source_that_came_back_still_waits_for_somebody_who_looked(office: Guarded) -> None:
    unmount(office)
    assert "suspicious" in office.back_up().message
    for number in range(25):
        office.write(office.archive / f"{number}.txt", number)
    assert "suspicious" not in office.back_up().message
    assert office.run("forget").outcome == "held"
    assert office.judged("guard documents").status is Status.CRITICAL


def test_a_lost_catalog_loses_the_reasons_and_not_the_hold(held: Guarded) -> None:
    held.state.backup_db.unlink()
    for suffix in ("-wal", "-shm"):
        held.state.backup_db.with_name(held.state.backup_db.name + suffix).unlink(missing_ok=True)
    ending = held.run("forget")
    assert ending.outcome == "held"
    assert "the reasons were lost with the catalog" in ending.message


def test_ordinary_days_are_silent_and_nothing_is_held(office: Guarded) -> None:
    for day in range(3):
        office.write(office.documents / f"{day}.txt", 1000 + day)
        office.write(office.documents / f"new-{day}.txt", 2000 + day)
        assert "suspicious" not in office.back_up().message
        assert office.run("forget").outcome == "succeeded"
    assert office.run("prune").outcome == "succeeded"
    assert office.judged("guard documents").status is Status.OK


def test_a_job_may_do_without_the_guard(office: Guarded) -> None:
    office.config.write_text(office.config.read_text() + "[jobs.documents.guard]\noff = true\n")
    encrypt(office)
    assert "suspicious" not in office.back_up().message
    assert office.run("forget").outcome == "succeeded"


def test_one_of_several_can_be_agreed_to_by_its_id(office: Guarded) -> None:
    unmount(office)
    first, second = office.back_up(), office.back_up()
    with office.catalog() as catalog:
        with pytest.raises(UsageError, match="no suspicious snapshot ffff0000"):
            agree(catalog, "documents", "ffff0000", "weber", "why", office.clock)
        with pytest.raises(UsageError, match="needs a reason"):
            agree(catalog, "documents", None, "weber", " ", office.clock)
        assert [s.snapshot for s in Suspicions(catalog).pending()] in ([first.snapshot, second.snapshot],
                                                                       [first.snapshot])  # fmt: skip
        agree(catalog, "documents", first.snapshot[:10], "weber", "why", office.clock)
        assert first.snapshot not in [s.snapshot for s in Suspicions(catalog).pending()]
        with pytest.raises(UsageError, match="no suspicious snapshot of ledger waits"):
            agree(catalog, "ledger", None, "weber", "why", office.clock)


# ---- what people see and type


def test_page_and_metrics_show_what_waits_for_agreement(held: Guarded) -> None:
    page = PageRenderer(held.clock).page(held.view()).decode()
    assert TOLD in page.replace("&#39;", "'")
    assert "renamed?" in page
    metrics = MetricsPage(held.view).render().decode()
    assert 'keepwatch_backup_suspicious_snapshots{job="documents",repository="local"} 1\n' in metrics


def test_commands_refuse_until_somebody_agrees_and_obey_who_insists(held: Guarded, capsys: Capture) -> None:
    where = ["--config", str(held.config)]
    assert run(["forget", *where, "--dry-run"]) == 0
    for command in ("forget", "prune"):
        assert run([command, *where]) == 1
        assert f"hint: if it is right: {TOLD}" in capsys.readouterr().err
    assert run(["prune", *where, "--in-spite-of-guard"]) == 0
    assert run(["forget", *where, "--in-spite-of-guard"]) == 0
    assert len(held.tags()) == 1
    capsys.readouterr()
    assert run(["agree", "documents", "--author", "weber", "-c", "seen", "--json", *where]) == 0
    (agreed,) = json.loads(capsys.readouterr().out)
    assert agreed["job"] == "documents"
    assert run(["agree", "documents", "-c", "seen", *where]) == 2
    assert run(["prune", *where]) == 0


def test_a_repository_given_by_its_url_is_not_pruned_while_it_has_a_tagged_snapshot(
    held: Guarded, capsys: Capture
) -> None:
    where = ["--repository-url", f"{held.root}/repository", "--password-file", f"{held.root}/password"]
    assert run(["prune", *where]) == 1
    assert "--in-spite-of-guard" in capsys.readouterr().err
    assert run(["prune", *where, "--in-spite-of-guard"]) == 0


@pytest.mark.parametrize(
    ("source", "stored", "suspicious"),
    [
        ({"type": "files", "paths": ["/srv"]}, 4 << 20, True),
        ({"type": "postgres", "dsn": "service=ledger", "method": "physical"}, 4 << 20, False),
        ({"type": "mariadb", "method": "physical"}, 4 << 20, False),
        ({"type": "mariadb", "method": "physical"}, 20 << 20, True),
    ],
)
def test_a_busy_database_writes_into_all_of_its_files_and_is_suspicious_only_when_nothing_compresses(
    source: dict[str, object], stored: int, suspicious: bool
) -> None:
    job = JobSettings.model_validate({"source": source, "repositories": ["local"]})
    before, now = Figures(200, 30 << 20, 0, 30 << 20, 6 << 20), Figures(200, 31 << 20, 0, 20 << 20, stored)
    said = judge(now, before, Past([before]), [], lambda: 0.2, lambda: None, bounds_for(job))
    assert bool(said) == suspicious, said
