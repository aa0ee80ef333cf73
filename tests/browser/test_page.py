"""The page in a real browser: fits every screen, keeps itself fresh, says so when the daemon is gone, leaks nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from keepwatch.view import View
from keepwatch.web.app import create_app
from keepwatch.web.server import WebServer
from tests.browser.chromium import Browser, Tab, wait_for
from tests.keepwatch import web_samples as samples

WIDTHS = (360, 390, 641, 760, 761, 1100, 1239, 1240, 1440, 1920)
VIEWS = (samples.healthy, samples.bad_day, samples.first_second, samples.nothing_set_up)

OVERFLOWING = """
(() => {
  const found = [];
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) found.push(`page is ${wide} wide`);
  for (const box of document.querySelectorAll(".panel, .answer, .alert, .bar, footer")) {
    if (box.scrollWidth > box.clientWidth + 1) found.push(`${box.id} ${box.className} holds ${box.scrollWidth}`);
    const edge = box.getBoundingClientRect().right + 0.5;
    for (const inner of box.querySelectorAll("*")) {
      const r = inner.getBoundingClientRect();
      if (r.width > 1 && r.right > edge) found.push(inner.outerHTML.slice(0, 80));
    }
  }
  return found;
})()
"""
CONTRASTS = """
(() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const alpha = (colour) => (colour.length > 3 ? colour[3] : 1);
  const mix = (top, under, a) => [0, 1, 2].map((i) => top[i] * a + under[i] * (1 - a));
  const light = (rgb) => {
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    const chain = [];
    for (let n = node; n; n = n.parentElement) chain.unshift(parse(getComputedStyle(n).backgroundColor));
    return chain.reduce((under, top) => mix(top, under, alpha(top)), [255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest(".hidden, .skip, #lost, svg, script, details:not([open]) > :not(summary)")) continue;
    const style = getComputedStyle(node);
    let opacity = 1;
    for (let n = node; n; n = n.parentElement) opacity *= Number(getComputedStyle(n).opacity);
    const under = ground(node);
    const colour = parse(style.color);
    const shown = mix(colour, under, alpha(colour) * opacity);
    const [a, b] = [light(shown), light(under)].sort((x, y) => y - x);
    texts += 1;
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${walker.currentNode.nodeValue.trim().slice(0, 40)}`);
  }
  return { texts, found };
})()
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    yield chromium
    for tab in list(chromium.tabs):
        tab.close()
    chromium.events.clear()


class Served:
    """A served page whose view can be exchanged."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.server = WebServer(create_app(lambda: self.view, lambda: samples.NOW), "127.0.0.1", 0)
        self.server.start()


@pytest.fixture
def serve() -> Iterator[Callable[[View], Served]]:
    made: list[Served] = []

    def start(view: View) -> Served:
        made.append(Served(view))
        return made[-1]

    yield start
    for served in made:
        served.server.stop()


def refresh_soon(tab: Tab) -> None:
    """Load the page anew with its five seconds between refreshes shortened to a tenth of one."""
    hurry = "{ const later = window.setTimeout; window.setTimeout = (f, ms) => later(f, ms === 5000 ? 100 : ms); }"
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=hurry)
    tab.call("Page.reload")
    wait_for(
        lambda: tab.ask("performance.getEntriesByName(new URL('fragment', location).href).length > 0"), "a refresh"
    )


@pytest.mark.parametrize("make", VIEWS, ids=lambda make: make.__name__)
def test_nothing_sticks_out_at_any_width(
    browser: Browser, serve: Callable[[View], Served], make: Callable[[], View]
) -> None:
    served = serve(make())
    for width in WIDTHS:
        tab = browser.open(served.server.url, width)
        assert tab.ask("innerWidth") == width
        assert tab.ask(OVERFLOWING) == [], f"at {width} px"
        tab.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert tab.ask(OVERFLOWING) == [], f"at {width} px, everything unfolded"
        tab.close()


def test_something_that_sticks_out_would_be_seen(browser: Browser, serve: Callable[[View], Served]) -> None:
    tab = browser.open(serve(samples.healthy()).server.url, 390)
    tab.ask(
        "document.querySelector('.answer').insertAdjacentHTML('beforeend', '<pre>' + 'wide '.repeat(200) + '</pre>')"
    )
    assert len(tab.ask(OVERFLOWING)) >= 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("make", [samples.healthy, samples.bad_day], ids=lambda make: make.__name__)
def test_every_text_stands_out_from_its_ground(
    browser: Browser, serve: Callable[[View], Served], make: Callable[[], View], dark: bool
) -> None:
    tab = browser.open(serve(make()).server.url, 1440, dark=dark)
    measured = tab.ask(CONTRASTS)
    assert measured["texts"] > 150
    assert measured["found"] == []
    tab.ask("document.querySelector('.reason').attributeStyleMap.set('opacity', 0.3)")
    assert len(tab.ask(CONTRASTS)["found"]) == 1, "a faint text must be seen"


def test_the_browser_has_nothing_to_complain_about_and_asks_nobody_else(
    browser: Browser, serve: Callable[[View], Served]
) -> None:
    served = serve(samples.bad_day())
    tab = browser.open(served.server.url, 1440)
    refresh_soon(tab)
    assert tab.complaints() == []
    asked = [url for url in tab.requested() if not url.startswith("data:")]
    assert asked
    assert [url for url in asked if not url.startswith(served.server.url)] == []


def test_a_complaint_would_be_seen(browser: Browser, serve: Callable[[View], Served]) -> None:
    tab = browser.open(serve(samples.healthy()).server.url, 1440)
    tab.ask("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.invalid/x.png\">')")
    wait_for(lambda: any("Content Security Policy" in text for text in tab.complaints()), "the CSP violation")


def test_hostile_names_are_text(browser: Browser, serve: Callable[[View], Served]) -> None:
    tab = browser.open(serve(samples.bad_day()).server.url, 1440)
    refresh_soon(tab)
    assert tab.ask("document.querySelectorAll('#view script, #view img, #view iframe').length") == 0
    assert samples.EVIL in tab.ask("document.getElementById('alerts').innerText")


def test_the_page_follows_the_view_and_keeps_what_the_reader_opened(
    browser: Browser, serve: Callable[[View], Served]
) -> None:
    served = serve(samples.healthy())
    tab = browser.open(served.server.url, 1440)
    refresh_soon(tab)
    assert tab.ask("document.title") == "✓ well · erp-1"
    good_icon = tab.ask("document.getElementById('favicon').href")
    tab.ask("document.querySelector('[data-key=\"memory/\"] details').open = true")
    tab.ask("document.querySelector('summary').focus(); scrollTo(0, 300); window.mark = 1")
    served.view = samples.bad_day()
    wait_for(lambda: tab.ask("document.title") == "✖ 4 firing · erp-1", "the new title")
    assert tab.ask("document.querySelector('#well .verdict strong').textContent") == "No"
    assert tab.ask("document.querySelectorAll('.alert').length") == 5
    assert tab.ask("document.getElementById('favicon').href") != good_icon
    assert tab.ask("document.querySelector('[data-key=\"memory/\"] details').open") is True
    assert tab.ask("[Math.round(scrollY) > 0, window.mark, document.activeElement.nodeName]") == [True, 1, "SUMMARY"]
    served.view = samples.healthy()
    wait_for(lambda: tab.ask("document.title") == "✓ well · erp-1", "the old title")
    assert tab.ask("document.querySelectorAll('.alert').length") == 0
    assert tab.complaints() == []


def test_what_the_page_shows_after_many_changes_is_what_a_fresh_one_shows(
    browser: Browser, serve: Callable[[View], Served]
) -> None:
    served = serve(samples.nothing_set_up())
    tab = browser.open(served.server.url, 1440)
    refresh_soon(tab)
    bad = samples.bad_day()
    shuffled = replace(bad, checks=bad.checks[::-1], alerts=bad.alerts[::-1], runs=bad.runs[3:], jobs=bad.jobs[1:])
    fresh = (
        "fetch('fragment').then((a) => a.text()).then((t) => new DOMParser().parseFromString(t, 'text/html')"
        ".getElementById('view').isEqualNode(document.getElementById('view')))"
    )
    for view in (samples.healthy(), shuffled, samples.first_second(), bad):
        served.view = view
        wait_for(lambda: tab.ask(fresh), "the page to equal a fresh one")
    assert tab.complaints() == []


def test_a_silent_daemon_is_told_and_forgiven(browser: Browser, serve: Callable[[View], Served]) -> None:
    served = serve(samples.healthy())
    tab = browser.open(served.server.url, 390)
    refresh_soon(tab)
    assert tab.ask("document.getElementById('lost').hidden") is True
    served.server.stop()
    wait_for(lambda: tab.ask("!document.getElementById('lost').hidden"), "the banner")
    told = tab.ask("document.getElementById('lost').innerText")
    assert told.startswith("No answer since ")
    assert "keepwatch cannot be reached" in told
    assert tab.ask("document.title").startswith("✖ no answer since ")
    assert tab.ask("document.documentElement.scrollWidth") == 390
    again = WebServer(create_app(samples.bad_day, lambda: samples.NOW), "127.0.0.1", served.server.port)
    again.start()
    wait_for(lambda: tab.ask("document.getElementById('lost').hidden"), "the banner to go")
    wait_for(lambda: tab.ask("document.title") == "✖ 4 firing · erp-1", "the news")
    again.stop()


def test_a_daemon_that_answers_with_errors_is_told_too(browser: Browser) -> None:
    views: list[View | None] = [samples.healthy()]

    def view() -> View:
        if views[-1] is None:
            raise RuntimeError("planted")
        return views[-1]

    server = WebServer(create_app(view, lambda: samples.NOW), "127.0.0.1", 0)
    server.start()
    tab = browser.open(server.url, 1440)
    refresh_soon(tab)
    views.append(None)
    wait_for(lambda: tab.ask("document.getElementById('lost').innerText").find("it answered 500") > 0, "the banner")
    server.stop()


def test_without_scripts_everything_is_there_and_no_dead_button(
    browser: Browser, serve: Callable[[View], Served]
) -> None:
    tab = browser.open(serve(samples.bad_day()).server.url, 1440, scripts=False)
    assert "INCONCLUSIVE" in tab.ask("document.body.innerText")
    assert tab.ask("[...document.querySelectorAll('button')].filter((b) => b.checkVisibility()).length") == 0


def test_a_command_is_copied_by_its_button(browser: Browser, serve: Callable[[View], Served]) -> None:
    tab = browser.open(serve(samples.bad_day()).server.url, 1440)
    tab.ask("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    tab.ask("document.querySelector('button.copy').click()")
    wait_for(lambda: tab.ask("window.copied"), "the clipboard")
    assert tab.ask("window.copied") == "keepwatch ack 7f31"


def test_tables_and_headings_make_sense_without_eyes(browser: Browser, serve: Callable[[View], Served]) -> None:
    tab = browser.open(serve(samples.bad_day()).server.url, 1440)
    levels = tab.ask("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.nodeName[1]))")
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert tab.ask("[...document.querySelectorAll('table')].filter((t) => !t.querySelector('th[scope]')).length") == 0
    assert (
        tab.ask("[...document.querySelectorAll('time')].every((t) => !isNaN(Date.parse(t.dateTime)) && t.title)")
        is True
    )
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    names = {node["name"]["value"] for node in tree if "name" in node and node["name"].get("value")}
    assert {"Is this machine well?", "Can we get it back?", "fresh", "overdue"} <= names
    words = tab.ask("[...document.querySelectorAll('.status')].map((s) => s.textContent.trim())")
    assert all(words), "a status without a word"


@pytest.mark.parametrize("make", [samples.healthy, samples.bad_day], ids=lambda make: make.__name__)
def test_the_keyboard_reaches_every_control(
    browser: Browser, serve: Callable[[View], Served], make: Callable[[], View], tmp_path: Path
) -> None:
    tab = browser.open(serve(make()).server.url, 1440)
    total = tab.ask("document.querySelectorAll('a, button, summary').length")
    reached = tab.ask("""(() => {
      let seen = 0;
      for (const node of document.querySelectorAll('a, button, summary')) {
        node.focus();
        seen += document.activeElement === node;
      }
      return seen; })()""")
    hidden = tab.ask("document.querySelectorAll('details:not([open]) > :not(summary) :is(a, button, summary)').length")
    assert reached == total - hidden
    tab.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
