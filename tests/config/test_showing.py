"""The sample, the schema and the settings in force: complete, true, and without secrets."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import default
from config.checks import TYPES, CheckBase, model_of, readings_of
from config.docstrings import descriptions
from config.fields import key_of, models_in, models_of
from config.loading import load, load_document
from config.machine import Machine
from config.model import Model
from config.sample import sample
from config.settings import Settings
from config.showing import masked_url, show
from config.writing import to_toml

MACHINE = Machine("erp-1", "Europe/Berlin", Path("/var/lib/keepwatch"))
SECRET = "hunter2hunter2"
Write = Callable[..., Path]

EVERYTHING_SECRET = """
[repositories.a]
url = "/srv/${WHERE}"
password_command = "echo hunter2hunter2"
[repositories.b]
url = "/srv/plain"
password_file = "/p"
[[notify]]
name = "ops"
url = "mailtos://user:hunter2hunter2@mail.example.com"
[[notify]]
name = "hook"
url = "json://${WHERE}"
[heartbeat]
url = "https://ping.example/hunter2hunter2"
[[checks]]
name = "web"
type = "http"
url = "https://user:hunter2hunter2@example.com/health?token=hunter2hunter2&x=1"
headers = { Authorization = "Bearer ${WHERE}", Plain = "hunter2hunter2" }
body = "hunter2hunter2"
[[checks]]
name = "plugin"
type = "command"
run = "/bin/true"
environment = { PGPASSWORD = "hunter2hunter2" }
"""


def every_model() -> list[type[Model]]:
    found = models_of(Settings)
    assert len(found) > 20
    return found


def test_the_sample_does_exactly_what_the_embedded_default_does(write: Write) -> None:
    path = write(sample(MACHINE.state_dir))
    usual = load(None, environ={}, machine=MACHINE)
    made = load(path, environ={}, machine=MACHINE)
    assert made.plans.folder == path.parent / "plans", "plans lie beside the file"
    assert made.model_copy(update={"plans": usual.plans}) == usual


def test_the_sample_tells_every_key_of_every_model_with_its_description() -> None:
    text = sample(MACHINE.state_dir)
    prose = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    left_out = {  # shown by example within one line
        "ActionSettings", "AssertSettings", "Bound", "SnmpUser", "QuietHours", "ForecastSettings", "ForecastLevel",
        "SideSettings", "SqlSource", "HttpSource", "JsonSource", "FolderSource",
    }  # fmt: skip
    for model in every_model():
        for name, field in model.model_fields.items():
            if model is not Settings and model.__name__ not in left_out:
                key = key_of(name, field)
                assert f"\n{key} = " in text or f"\n#{key} = " in text or f".{key}]" in text, (model, key)
                if key != "type" and not models_in(field.annotation):
                    assert " ".join(descriptions(model).get(name, "?").split()) in prose, (model, key)


def test_every_example_in_the_sample_loads_once_its_mark_is_taken_away(write: Write) -> None:
    text = re.sub(r"^#(?! )", "", sample(MACHINE.state_dir), flags=re.MULTILINE)
    before_checks, checks = text.split("# Every check may have:")
    defaults_file = 'defaults_file = "/etc/mysql/debian.cnf"\n'
    for either in ('password_command = "pass show keepwatch"\n', 'profile = "backup"\n', defaults_file):
        assert either in before_checks
        before_checks = before_checks.replace(either, "")
    before_checks, replaced = re.subn(r'url = "/[^"]*repository"', 'url = "s3:https://host/bucket"', before_checks)
    assert replaced == 1, "the keys of S3 load with a URL of S3"
    checks, replaced = re.subn(r"^user = \{ name.*\n", "", checks, flags=re.MULTILINE)
    assert replaced == 4, "a device is asked by a community or as a user"
    checks, replaced = re.subn(r"^(file|http) = .*\n", "", checks, flags=re.MULTILINE)
    assert replaced == 2, "a freshness check looks at one thing"
    common, checks = checks.split("[[checks]]", 1)
    path = write(before_checks + "[[checks]]" + checks)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x")
    settings = load(path, environ=environ, machine=MACHINE)
    assert {check.type for check in settings.checks} == set(TYPES)
    alone = common + '\ntype = "disk"\n[other]\n'
    check = alone.split("[other]")[0]
    assert load(write("[[checks]]\n" + check), environ=environ, machine=MACHINE).checks[0].on_critical


def test_the_schema_is_one_and_accepts_the_sample_and_the_default() -> None:
    schema = Settings.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for text in (sample(MACHINE.state_dir), default.text(MACHINE.state_dir)):
        jsonschema.validate(tomllib.loads(text), schema)


@pytest.mark.parametrize(
    "text",
    [
        "[daemon]\nhots = 1", "[web]\nlisten = 9750", "[jobs.a]\nrepositories = []",
        "[[checks]]\nname = 'a'\ntype = 'dsk'", "[[checks]]\nname = 'a'\ntype = 'cpu'\nfor_ = '5m'",
    ],
)  # fmt: skip
def test_the_schema_refuses_planted_faults(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), Settings.json_schema())


def test_no_secret_is_shown_whatever_way_it_was_written(write: Write) -> None:
    settings, document = load_document(write(EVERYTHING_SECRET), environ={"WHERE": SECRET}, machine=MACHINE)
    shown = show(settings, document)
    for text in (shown.as_toml(), str(shown.data), repr(settings)):
        assert SECRET not in text
    assert shown.data["repositories"]["a"]["url"] == "/srv/${WHERE}"
    assert shown.data["repositories"]["b"]["url"] == "/srv/plain"
    assert shown.data["checks"][0]["url"] == "https://**********@example.com/health?token=**********&x=**********"


def test_what_nobody_wrote_is_marked_as_default(write: Write) -> None:
    path = write('[daemon]\nlog_format = "text"\n[[checks]]\nname = "a"\ntype = "cpu"\nevery = "1m"\n')
    shown = show(*load_document(path, environ={}, machine=MACHINE))
    assert 'log_format = "text"\n' in shown.as_toml()
    assert 'host = "erp-1"  # default\n' in shown.as_toml()
    assert 'every = "1m"\n' in shown.as_toml()
    assert 'timeout = "10s"  # default\n' in shown.as_toml()
    assert {"daemon.host", "checks[a].for", "web.listen"} <= set(shown.default_names())
    assert "checks[a].every" not in shown.default_names()


def test_settings_without_secrets_load_again_as_they_are_shown(write: Write) -> None:
    settings, document = load_document(None, environ={}, machine=MACHINE)
    assert load(write(show(settings, document).as_toml()), environ={}, machine=MACHINE) == settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/srv/repository", "/srv/repository"),
        ("https://example.com/a?b=c#d", "https://example.com/a?b=**********#d"),
        ("rest:https://u:p@host/", "rest:https://**********@host/"),
        ("${URL}", "${URL}"),
    ],
)
def test_a_url_is_shown_without_what_may_open_it(url: str, shown: str) -> None:
    assert masked_url(url) == shown


keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = st.one_of(keys, st.integers(-999, 999), st.booleans(), st.lists(keys, max_size=3))
tables = st.recursive(
    st.dictionaries(keys, leaves, max_size=3), lambda t: st.dictionaries(keys, st.one_of(leaves, t), max_size=3)
)


@given(st.dictionaries(keys, st.one_of(leaves, tables, st.lists(tables, max_size=3)), max_size=4))
def test_whatever_is_written_as_toml_is_read_back_as_it_was(data: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(data, lambda _: "a remark")) == data


def test_every_check_type_has_its_readings_as_its_docstring_names_them() -> None:
    units = {"ratio", "bytes", "bytes_per_second", "seconds", "celsius", "rpm", "per_second", "count", "number"}
    for tag in TYPES:
        readings = readings_of(tag)
        assert set(readings.values()) <= units
        text = (model_of(tag).__doc__ or "").split("Critical when")[0]
        assert [name for name in readings if f"`{name}`" not in text] == []
        assert not readings or f"Main reading `{next(iter(readings))}`" in text


def test_every_setting_has_a_description() -> None:
    for model in every_model():
        assert model.__doc__
        undescribed = [name for name in model.model_fields if name not in descriptions(model) and name != "type"]
        assert undescribed == [], model
    assert CheckBase in {base for model in every_model() for base in model.__mro__}
