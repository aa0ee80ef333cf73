"""Types of checks: their own defaults, which of many things they mean, and the page that tells of them all."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from config.checks import TYPES, CheckBase, CheckSettings, model_of
from config.checks_page import checks_page
from config.documents import Document
from config.references import reference_problems
from config.selection import EVERYTHING, Selection

ROOT = Path(__file__).resolve().parents[2]
CHECK_TYPES = {kind: model_of(kind) for kind in TYPES}
WITH_DEFAULTS = [kind for kind, model in CHECK_TYPES.items() if model.defaults]


def check(**about: Any) -> CheckBase:
    settings: CheckBase = TypeAdapter(CheckSettings).validate_python({"name": "it", **about})
    return settings


def test_a_type_brings_its_thresholds_and_its_rhythm() -> None:
    smart = check(type="smart")
    assert (smart.every, smart.timeout) == (timedelta(minutes=10), timedelta(minutes=1))
    assert [bound.raise_.written for bound in smart.warning][:2] == ["> 0", "> 80%"]
    assert smart.critical[0].reading == "passed"


def test_thresholds_of_the_operator_replace_those_of_the_type_and_none_is_a_choice() -> None:
    mine = check(type="smart", critical={"reading": "wear", "raise": "> 50%"})
    assert (len(mine.warning), len(mine.critical)) == (0, 1)
    assert mine.every == timedelta(minutes=10)
    silent = check(type="smart", warning=[])
    assert (silent.warning, silent.critical) == ([], [])
    assert check(type="conntrack", **{"for": "9m"}).for_ == timedelta(minutes=9)
    assert CHECK_TYPES["conntrack"](name="it", type="conntrack", for_="9m").for_ == timedelta(minutes=9)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", WITH_DEFAULTS)
def test_the_defaults_of_a_type_are_what_an_operator_could_write(kind: str) -> None:
    written = {"name": "it", "type": kind, **CHECK_TYPES[kind].defaults}
    document = Document({"checks": [written]}, files=[None])
    assert [str(problem) for problem in reference_problems(document)] == []


def test_a_default_that_names_no_reading_would_be_seen() -> None:
    wrong = {"name": "it", "type": "smart", "warning": {"reading": "wera", "raise": "> 1"}}
    document = Document({"checks": [wrong]}, files=[None])
    assert len(list(reference_problems(document))) == 1


def test_editors_are_told_the_defaults_of_the_type() -> None:
    smart, cpu = (CHECK_TYPES[kind].model_json_schema()["properties"] for kind in ("smart", "cpu"))
    assert (smart["every"]["default"], cpu["every"]["default"]) == ("10m", "30s")


@pytest.mark.parametrize("wrong", [{}, {"type": "smrt"}, {"type": ["cpu"]}, {"type": None}])
def test_a_check_of_no_known_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="type"):
        check(**wrong)


def test_the_place_of_a_fault_has_the_type_in_it_as_in_any_union() -> None:
    with pytest.raises(ValidationError) as refused:
        check(type="cpu", evry="1s")
    assert refused.value.errors()[0]["loc"] == ("cpu", "evry")


def test_what_is_selected_by_names_and_patterns() -> None:
    assert EVERYTHING.takes("anything")
    some = Selection(["eth*", "lo"], ["eth9"])
    assert [name for name in ("eth0", "eth9", "lo", "lo1", "wlan0") if some.takes(name)] == ["eth0", "lo"]
    assert some.named == ("lo",)
    assert some.missing(["eth0"]) == ["lo"]
    assert some.missing(["lo"]) == []
    assert not Selection(exclude=["*"]).takes("x")


def test_what_is_included_by_its_full_name_is_expected_to_be_there() -> None:
    assert check(type="network", include=["eth0", "wl*"]).named_entities == {"eth0"}
    assert check(type="network").named_entities == frozenset()
    assert check(type="cpu").named_entities == {""}
    assert check(type="cpu", per_core=True).named_entities == frozenset()
    assert check(type="permissions", paths=["/etc/shadow"]).named_entities == {"/etc/shadow"}


@pytest.mark.parametrize("ports", [["22"], ["0/tcp"], ["70000/tcp"], ["30-20/tcp"], ["22/sctp"]])
def test_what_is_no_port_is_refused(ports: list[str]) -> None:
    with pytest.raises(ValidationError, match="port"):
        check(type="listening_ports", allowed=ports)


def test_the_page_of_all_checks_is_up_to_date() -> None:
    written = (ROOT / "docs/checks.md").read_text(encoding="utf-8")
    assert written == checks_page(), "write it anew: .venv/bin/python -m config.checks_page >docs/checks.md"


def test_of_the_types_only_those_that_are_named_are_held() -> None:
    script = (
        "import os, sys, keepwatch.daemon; from pathlib import Path; from config.loading import load;"
        "load(None, environ=os.environ, state_dir=Path('/var/lib/keepwatch'));"
        "print(*(name for name in sys.modules if name.startswith('config.checks.')))"
    )
    held = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "config.checks.host" in held.split()
    foreign = {f"config.checks.{name}" for name in ("data", "databases", "extensions", "services", "snmp")}
    assert foreign & set(held.split()) == set()
