"""Every text of page and report has its translation, keeps its values, and none is left that nobody says."""

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import Environment
from jinja2.ext import extract_from_ast

from config.loading import load
from keepwatch import languages
from keepwatch.languages import WORDS, Language, PageLanguage, language
from keepwatch.plans.shelf import Shelf
from keepwatch.report.gathering import gather
from keepwatch.report.page import as_html
from keepwatch.report.writing import as_text
from keepwatch.view import View
from keepwatch.web.page import PageRenderer
from tests.keepwatch import web_samples as samples
from tests.keepwatch.planned import Planned
from tests.keepwatch.reported import month

ROOT = Path(languages.__file__).parents[1]
TAGS = [file.stem for file in (ROOT / "languages").glob("*.toml")]
PLACE = re.compile(r"%\(\w+\)s")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
ROOMS = ("config", "monitor", "backup", "keepwatch")
WITH_NAMED_TEXTS = ("keepwatch/report/writing.py", "keepwatch/web/verdicts.py")
"""Modules whose texts without values have names of their own at the top, too."""


def said_in_templates() -> set[str]:
    found: set[str] = set()
    for template in [*(ROOT / "web/templates").glob("*.html"), *(ROOT / "report/templates").glob("*.html")]:
        parsed = Environment(autoescape=True).parse(template.read_text(encoding="utf-8"))
        for _, _, text in extract_from_ast(parsed, ("_",)):
            first = text[0] if isinstance(text, tuple) else text
            if first is not None:  # a word that comes as a value; those stand in WORDS
                found.add(first)
    return found


def said_in(source: str) -> set[str]:
    """What is said in a module: what is handed to ``_`` or ``Said``, and every template, wherever it stands."""
    tree = ast.parse(source)
    strings = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    documentation = {ast.get_docstring(one, clean=False) for one in ast.walk(tree) if isinstance(one, DOCUMENTED)}
    documentation |= {one.value.value for one in ast.walk(tree) if isinstance(one, ast.Expr) and is_text(one.value)}
    return {text for text in strings if PLACE.search(text) and text not in documentation} | {
        inner.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("_", "Said")
        for first in call.args[:1]
        for inner in ([first.body, first.orelse] if isinstance(first, ast.IfExp) else [first])
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    }


def named_in(source: str) -> set[str]:
    values = [node.value for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return {value.value for value in values if is_text(value)}


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def speaking() -> list[Path]:
    """Every module that says something, known by what it imports, or by what it says it holds."""
    files = [file for room in ROOMS for file in (ROOT.parent / room).rglob("*.py")]
    marks = ("from config.said", "from keepwatch.languages", "(config/said.py)")
    return [file for file in files if any(mark in file.read_text(encoding="utf-8") for mark in marks)]


def texts() -> set[str]:
    spoken = [said_in(file.read_text(encoding="utf-8")) for file in speaking()]
    named = [named_in((ROOT.parent / module).read_text(encoding="utf-8")) for module in WITH_NAMED_TEXTS]
    return said_in_templates().union(*spoken, *named, WORDS)


class Listening(dict[str, str]):
    """A catalogue that notes what was asked for and not there."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(texts)
        self.missed: set[str] = set()

    def get(self, text: str, default: str) -> str:  # type: ignore[override]
        if text not in self:
            self.missed.add(text)
        return super().get(text, default)


@pytest.mark.parametrize("tag", TAGS)
def test_each_text_has_its_translation_and_each_translation_its_text(tag: str) -> None:
    translated = set(language(tag).texts)
    assert (texts() - translated, translated - texts()) == (set(), set())
    assert len(translated) > 200


@pytest.mark.parametrize("tag", TAGS)
def test_a_translation_has_the_same_values_as_its_text(tag: str) -> None:
    def values(text: str) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)s|%(?!\()", text))

    assert [text for text, said in language(tag).texts.items() if values(text) != values(said)] == []


def test_the_settings_offer_the_languages_that_there_are(tmp_path: Path) -> None:
    config = tmp_path / "keepwatch.toml"
    for tag in ("en", *TAGS):
        config.write_text(f'[daemon]\nlanguage = "{tag}"\n')
        assert language(load(config, environ={}).daemon.language).tag == tag
    with pytest.raises(KeyError):
        language("tlh")


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("sample", [samples.healthy, samples.bad_day, samples.first_second, samples.nothing_set_up])
def test_no_word_that_comes_as_a_value_is_missed_on_the_page(
    tag: str, sample: type[View], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = Listening(language(tag).texts)
    monkeypatch.setattr("keepwatch.web.page.language", lambda _tag: Language(tag, heard))
    office = Planned(tmp_path)
    office.log.start(office.plan(), by="anna", reason="smoke", rehearsal=True, now=office.now)
    part = Shelf(office.settings, office.state.plan_log).part(office.now)
    view = replace(sample(), language=tag, plans=part.plans)
    html = PageRenderer(lambda: samples.NOW).page(view).decode()
    assert heard.missed == set()
    assert f'<html lang="{tag}">' in html


@pytest.mark.parametrize("tag", TAGS)
def test_no_word_is_missed_in_a_report(tag: str, tmp_path: Path) -> None:
    office = month(tmp_path, days=12)
    heard = Listening(language(tag).texts)
    report = gather(office.settings, office.state, "month", office.now)
    html = as_html(report, Language(tag, heard), lambda at: at.isoformat())
    text = as_text(report, Language(tag, heard), lambda at: at.isoformat())
    assert heard.missed == set()
    assert "承诺兑现了吗？" in html
    assert "各任务的承诺与实测" in text


def test_a_text_without_translation_is_said_in_english_and_values_go_in() -> None:
    assert Language("xx", {})("%(count)s files", count=3) == "3 files"
    assert language("zh-CN")("%(count)s files", count=3) == "3 个文件"


def test_what_goes_into_a_text_of_the_page_is_escaped() -> None:
    assert PageLanguage(language("en"))("by %(who)s", who="<b>") == "by &lt;b&gt;"


def test_what_is_usual_is_said_in_the_language_of_the_settings() -> None:
    view = samples.healthy()
    checks = tuple(replace(check, usual=(0.1, 0.2)) if check.type == "memory" else check for check in view.checks)
    said = {"en": "usual at this hour of the week: 10 % to 20 %", "zh-CN": "每周此时通常为：10 % 至 20 %"}
    for tag, words in said.items():
        html = PageRenderer(lambda: samples.NOW).page(replace(view, checks=checks, language=tag)).decode()
        assert f'title="{words}"' in html


def test_the_page_speaks_the_language_of_the_settings(tmp_path: Path) -> None:
    view = replace(samples.healthy(), language="zh-CN")
    html = PageRenderer(lambda: samples.NOW).page(view).decode()
    assert "这台机器正常吗？" in html
    assert "Is this machine well?" not in html
    english = PageRenderer(lambda: samples.NOW).page(samples.healthy()).decode()
    assert re.findall(r"[\u4e00-\u9fff]", english) == re.findall(r"[\u4e00-\u9fff]", str(samples.healthy()))
