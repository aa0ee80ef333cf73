"""The report in a real browser: fits a desk and a phone, prints on A4, asks for nothing, complains of nothing."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepwatch.languages import language
from keepwatch.report.gathering import gather
from keepwatch.report.page import as_html
from tests.browser.chromium import Browser
from tests.keepwatch.reported import month

PAST_THE_EDGE = """
[...document.querySelectorAll("td, th, article, figure, dd")]
  .filter((box) => box.getBoundingClientRect().right > innerWidth + 1).map((box) => box.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same month in each language."""
    root = tmp_path_factory.mktemp("office")
    office = month(root, days=14)
    office.write(("Fire", "A title that is as long as people make them when nobody stops them: fire, flood and famine"))
    report = gather(office.settings, office.state, "month", office.now)
    made = {}
    for tag in ("en", "zh-CN"):
        made[tag] = root / f"{tag}.html"
        made[tag].write_text(as_html(report, language(tag), lambda at: at.strftime("%Y-%m-%d %H:%M")))
    return made


@pytest.mark.parametrize("tag", ["en", "zh-CN"])
@pytest.mark.parametrize("width", [360, 760, 1200])
def test_it_fits_every_screen_and_asks_for_nothing(
    browser: Browser, files: dict[str, Path], tag: str, width: int
) -> None:
    tab = browser.open(files[tag].as_uri(), width)
    try:
        assert tab.ask("document.documentElement.scrollWidth - innerWidth") <= 0
        assert tab.ask(PAST_THE_EDGE) == []
        assert tab.complaints() == []
        assert tab.requested() == [files[tag].as_uri()]
    finally:
        tab.close()


def test_it_prints_on_a_few_pages_of_a4_across(browser: Browser, files: dict[str, Path]) -> None:
    tab = browser.open(files["en"].as_uri(), 1200)
    try:
        pdf = base64.b64decode(tab.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    finally:
        tab.close()
    [size, *_] = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert [round(float(side)) for side in size] == [842, 595]
    assert 2 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 5
