"""The report of a month of real stores: as one file that needs nothing else, as text and as JSON."""

import json
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from keepwatch.languages import language
from keepwatch.report.gathering import Report, gather
from keepwatch.report.page import as_html
from keepwatch.report.writing import answers, as_text, share
from tests.end_to_end.conftest import keepwatch
from tests.keepwatch.planned import Planned
from tests.keepwatch.reported import Month, month

EN = language("en")


def moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Month:
    return month(tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="module")
def report(office: Month) -> Report:
    return gather(office.settings, office.state, "month", office.now)


class Tags(HTMLParser):
    """Every tag with its attributes, and whether all that opened were closed."""

    VOID = ("meta", "rect", "line", "polyline", "polygon", "circle", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_it_tells_the_job_that_broke_its_promise_and_by_how_much(report: Report) -> None:
    documents, ledger = sorted(report.jobs, key=lambda job: job.name)
    assert (ledger.kept, ledger.loss.worst_seconds) == (True, pytest.approx(3780))
    assert (documents.kept, documents.loss.worst_seconds) == (False, pytest.approx(7 * 3600 + 180))
    assert documents.outcomes == {"succeeded": 714, "failed": 6}
    assert documents.drills == {"PASSED": 29, "FAILED": 1}
    assert len(report.drills) == 60


def test_it_tells_alerts_availability_growth_plans_and_evidence(report: Report) -> None:
    assert (len(report.alerts.episodes), report.alerts.to_acknowledge_seconds) == (3, 720)
    worst = report.checks[0]
    assert (worst.check, round(worst.in_order_ratio, 4)) == ("root disk", round(1 - 53.5 / 720, 4))
    local = next(repository for repository in report.repositories if repository.name == "local")
    assert local.growth[-1][1] == pytest.approx(local.stored_bytes - local.freed_bytes)
    assert len(report.plans[0].improvements) == 1
    assert [(one.name, one.problem) for one in report.evidence] == [("drill journal", None), ("log of plans", None)]


def test_the_short_answers_say_what_is_bad_first(report: Report) -> None:
    assert [(one.answer, one.tone) for one in answers(report, EN)] == [
        ("No", "bad"), ("Not always", "bad"), ("3", "bad"), ("Yes", "open"), ("Yes", "good"),
    ]  # fmt: skip


def test_the_file_needs_nothing_else_and_is_well_formed(report: Report) -> None:
    html = as_html(report, EN, moment)
    found = Tags(html)
    assert found.open == []
    names = {tag for tag, _ in found.tags}
    assert names & {"script", "link", "img", "iframe", "object", "base", "form"} == set()
    assert [a for _, attrs in found.tags for a in attrs if a in ("src", "href", "onload", "style")] == []
    assert re.findall(r"url\(|@import", html) == []
    assert len(html) < 200_000


def test_what_people_and_files_are_called_cannot_break_the_file(office: Month) -> None:
    office.write(("Anna Weber", "<script>alert(1)</script>"), ("Fire", "Fire & <b>smoke</b>"))
    try:
        html = as_html(gather(office.settings, office.state, "month", office.now), EN, moment)
    finally:
        office.write()
    assert "<script" not in html
    assert "Fire &amp; &lt;b&gt;smoke&lt;/b&gt;" in html


def test_a_failed_drill_is_told_however_long_ago_in_the_period(report: Report) -> None:
    assert "invoice-17.pdf came back different" in as_html(report, EN, moment)


def test_the_text_says_the_same(report: Report) -> None:
    text = as_text(report, EN, moment)
    assert "documents: not kept; at most 7h 3m of work at risk (promised 2h)" in text
    assert "(1) everything was back after 4h 26m" in text


def test_evidence_that_was_tampered_with_is_told_on_top_and_by_the_exit_status(tmp_path: Path) -> None:
    office = month(tmp_path, days=2)
    journal = office.state.journal
    journal.write_text(journal.read_text().replace("PASSED", "FAILED", 1))
    found = gather(office.settings, office.state, "month", office.now)
    assert not found.is_trustworthy
    assert answers(found, EN)[-1].answer == "No"
    assert "it was changed after it was written" in as_html(found, EN, moment)
    done = keepwatch("report", "--config", office.config, home=tmp_path)
    assert (done.returncode, "it was changed after it was written" in done.stdout) == (4, True)


def test_a_monitor_database_that_cannot_be_read_makes_the_report_poorer_and_says_so(tmp_path: Path) -> None:
    office = month(tmp_path, days=1)
    office.state.monitor_db.write_bytes(b"this is no database at all" * 100)
    found = gather(office.settings, office.state, "month", office.now)
    assert len(found.unread) == 1
    assert "monitor.db" in as_html(found, EN, moment)
    assert answers(found, EN)[-1].answer == "No"


def test_a_machine_on_its_first_day_is_told_what_is_not_known(tmp_path: Path) -> None:
    office = Planned(tmp_path)
    found = gather(office.settings, office.state, "day", office.now)
    assert [one.answer for one in answers(found, EN)][:3] == ["Not known", "Not proven", "Nothing"]
    assert Tags(as_html(found, EN, moment)).open == []
    assert "not proven: documents, ledger" in as_text(found, EN, moment)


def test_the_command_writes_the_file_whole_or_says_why_not(office: Month, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    done = keepwatch("report", "--period", "month", "--output", target, "--config", office.config, home=tmp_path)
    assert (done.returncode, f"written to {target}" in done.stderr) == (0, True), done.stderr
    assert target.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".report")] == []
    done = keepwatch("report", "--output", tmp_path / "no/such/folder.html", "--config", office.config, home=tmp_path)
    assert (done.returncode, "no such file or directory" in done.stderr) == (2, True)
    done = keepwatch("report", "--json", "--config", office.config, home=tmp_path)
    assert json.loads(done.stdout)["period"]["name"] == "week"


def test_nothing_but_all_is_a_hundred_per_cent() -> None:
    assert [share(ratio) for ratio in (1.0, 0.999999, 0.5, None)] == ["100 %", "99.99 %", "50.00 %", "–"]


def test_the_period_ends_now_and_begins_as_long_ago_as_it_is_called(office: Month) -> None:
    period = gather(office.settings, office.state, "day", office.now).period
    assert (period.until, period.until - period.since) == (office.now, timedelta(days=1))
