"""Emergency plans on the page: who, promises, what needs care, and the checklist while one is carried out."""

import re
from pathlib import Path

import pytest

from backup.journal import Journal
from keepwatch.plans.records import Exercise, Verdict
from keepwatch.plans.shelf import Shelf
from keepwatch.view import View
from keepwatch.viewing import Viewer
from keepwatch.web.page import PageRenderer
from tests.keepwatch.planned import Planned


@pytest.fixture
def office(tmp_path: Path) -> Planned:
    return Planned(tmp_path)


def view_of(office: Planned, *firing: tuple[str, str]) -> View:
    viewer = Viewer(office.settings, office.now, office.clock)
    viewer.put(plans=Shelf(office.settings, office.state.plan_log).part(office.now, firing))
    return viewer.view()


def page(office: Planned, *firing: tuple[str, str]) -> str:
    """The text of the plans' part of the page, white space folded."""
    html = PageRenderer(office.clock).fragment(view_of(office, *firing)).decode()
    [part] = re.findall(r'<section class="panel" id="plans".*?</section>', html, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


def test_a_machine_without_plans_shows_nothing_of_them(office: Planned) -> None:
    office.config.write_text(office.config.read_text().replace('risks = ["disaster"]\n', ""))
    (office.root / "plans/fire.md").unlink()
    assert 'id="plans"' not in PageRenderer(office.clock).fragment(view_of(office)).decode()


def test_owner_promise_steps_and_what_needs_care_are_shown(office: Planned) -> None:
    shown = page(office)
    assert "needs care Fire fire; owner Anna Weber; never exercised" in shown
    assert "back within 4h, data at most 1h old" in shown
    assert "Read the repository Li Wei; goal: the snapshots are listed" in shown
    assert "keepwatch plan start fire" in shown


def test_what_fell_short_stays_until_it_is_closed(office: Planned) -> None:
    done = Exercise(
        "fire", "anna", office.now, office.now, Verdict.SHORT, 9, 18000, 60, 14400, 3600, (), ("back after 5h",), ""
    )
    office.log.exercised(done, Journal(office.state.journal))
    shown = page(office)
    assert "to improve Fire" in shown
    assert "Improve (1) back after 5h open since just now" in shown
    office.log.close(1, by="li", note="a faster line", now=office.now)
    assert "back after 5h" not in page(office)


def test_an_alert_that_fires_shows_which_plan_it_calls_for(office: Planned) -> None:
    shown = page(office, ("root disk", "root disk /srv"))
    assert "called for Fire" in shown
    assert "called for by root disk /srv" in shown


def test_steps_are_a_checklist_with_who_and_when_while_the_plan_is_carried_out(office: Planned) -> None:
    office.log.start(office.plan(), by="anna", reason="smoke <b>", rehearsal=False, now=office.now)
    office.pass_time(minutes=7)
    office.log.tick(office.plan(), 1, by="li", note="by phone", now=office.now)
    office.pass_time(minutes=5)
    shown = page(office)
    assert "under way Fire" in shown
    assert "Carried out for 12 min ; begun by anna: smoke &lt;b&gt;; promised within 4h" in shown
    assert "done by li, 7m after the start: by phone" in shown
    assert "keepwatch plan tick fire 1" not in shown
    assert "keepwatch plan tick fire 2" in shown
    assert "keepwatch plan finish fire" in shown


def test_a_plan_that_cannot_be_read_is_named_with_its_line(office: Planned) -> None:
    office.write(('rto = "4h"', 'rto = "4"'), name="flood")
    assert "plans/flood.md:6: plan flood: rto: not a duration" in page(office)
