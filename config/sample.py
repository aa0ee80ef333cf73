"""A keepwatch.toml to begin with, made from the models: every key with its description, and its default or an example.

What is in force in it is the embedded default; everything else is commented out. Nothing of it is kept by hand, so a
new setting is in the sample as soon as it is in a model.
"""

import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from config import default
from config.checks import TYPES, CheckBase, model_of
from config.checks.choosing import tag_of
from config.docstrings import descriptions
from config.fields import key_of, models_in
from config.model import Model
from config.settings import Settings
from config.sources import SourceSettings
from config.writing import assignment, header

_WIDTH = 110
_HEAD = """\
# keepwatch.toml: every setting there is. `#key = value`, without a space, shows the default, or an example where
# there is none; take away the '#' to use it. Files in conf.d/ beside this one are merged into it.
# `keepwatch config check` finds what is wrong in it, `keepwatch config schema` makes editors complete it.
"""


def sample(state_dir: Path) -> str:
    """Return the text of a commented keepwatch.toml that does what the embedded default does."""
    values = tomllib.loads(default.text(state_dir))
    lines = [_HEAD]
    for section, field in Settings.model_fields.items():
        lines += ["", *_banner(section)]
        model = models_in(field.annotation)
        written = values.get(section, {})
        if section == "checks":
            lines += _checks(written)
        elif section in ("notify", "maintenance"):
            lines += _commented(_table(_item_model(field), (section,), {}, item=True))
        elif model and not field.is_required() and field.default is None:
            lines += _commented(_table(model[0], (section,), {}))
        elif model:
            lines += _table(model[0], (section,), written)
        else:
            for name, table in written.items():
                lines += _table(_item_model(field), (section, name), table)
            if section == "jobs":
                lines += _commented(_other_sources(written))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _banner(section: str) -> Iterator[str]:
    yield f"# {section}: {descriptions(Settings)[section]} ".ljust(_WIDTH, "-")


def _item_model(field: FieldInfo) -> type[Model]:
    """Return the model of the items of a list or table of tables."""
    return models_in(field.annotation.__args__[-1])[0]  # type: ignore[union-attr]


def _table(
    model: type[Model], names: tuple[str, ...], written: Mapping[str, Any], *, item: bool = False
) -> Iterator[str]:
    """Write one table; keys in ``written`` are in force, the others commented out; tables in it follow."""
    yield header(names, item=item)
    inner, optional = [], []
    for name, field in model.model_fields.items():
        key = key_of(name, field)
        if models_in(field.annotation) and isinstance(written.get(key), dict):
            inner.append((_chosen(field, written[key]), key))
            continue
        if models_in(field.annotation) and not field.examples:
            if isinstance(field.default, Model):
                optional.append((type(field.default), key))
            continue
        yield from _described(model, name)
        if key in written:
            yield assignment(key, written[key])
        else:
            yield f"#{assignment(key, _example(model, key, field))}"
    for inner_model, key in inner:
        yield ""
        yield from _table(inner_model, (*names, key), written[key])
    for inner_model, key in optional:
        yield ""
        yield from _commented(_table(inner_model, (*names, key), {}))
    yield ""


def _chosen(field: FieldInfo, written: Mapping[str, Any]) -> type[Model]:
    """Return the model that stands in a field, by its tag where there is a choice."""
    models = models_in(field.annotation)
    return next((model for model in models if tag_of(model) == written.get("type")), models[0])


def _other_sources(written: Mapping[str, Any]) -> Iterator[str]:
    """Write a job for each type of source that none of ``written`` has."""
    used = {job["source"]["type"] for job in written.values()}
    repositories = next(iter(written.values()))["repositories"]
    for model in models_in(SourceSettings):
        if (tag := tag_of(model)) in used or tag is None:
            continue
        yield from _comment(f"{tag}: {' '.join((model.__doc__ or '').split())}")
        yield header(("jobs", f"my-{tag}"), item=False)
        yield assignment("repositories", repositories)
        yield ""
        yield from _table(model, ("jobs", f"my-{tag}", "source"), {"type": tag})


def _checks(written: list[dict[str, Any]]) -> Iterator[str]:
    yield from _comment("Every check may have:")
    for name, field in CheckBase.model_fields.items():
        yield from _described(CheckBase, name)
        yield f"#{assignment(key_of(name, field), _example(CheckBase, name, field))}"
    for check in written:
        yield from check_table(check["type"], check)
    for tag in [tag for tag in TYPES if tag not in {check["type"] for check in written}]:
        yield from _commented(check_table(tag, {"name": f"my {tag}", "type": tag}))


def check_table(tag: str, written: Mapping[str, Any]) -> Iterator[str]:
    """Write one check: what is set, what its type alone has, and what its type has other defaults for."""
    model = model_of(tag)
    own = {name: field for name, field in model.model_fields.items() if name not in CheckBase.model_fields}
    yield ""
    yield from _about(model, tag)
    yield header(("checks",), item=True)
    yield from (assignment(key, value) for key, value in written.items() if key not in own or key == "type")
    for name, field in own.items():
        key = name
        if key != "type":
            yield from _described(model, name)
            comes = written.get(key)
            yield f"#{assignment(key, _example(model, key, field))}" if comes is None else assignment(key, comes)
    yield from (f"#{assignment(key, value)}" for key, value in model.defaults.items() if key not in written)


def _about(model: type[CheckBase], tag: str) -> Iterator[str]:
    text = " ".join((model.__doc__ or "").split())
    yield from _comment(f"{tag}: {text}")
    if not model.readings:
        yield from _comment("Its readings have the names that the plugin gives them.")


def _described(model: type[Model], name: str) -> Iterator[str]:
    """Write a field's description; ``type`` needs none."""
    if name != "type" and name in descriptions(model):
        yield from _comment(" ".join(descriptions(model)[name].split()))


def _example(model: type[Model], key: str, field: FieldInfo) -> Any:
    """Return the default, or the example where the default is empty, missing or the machine's business."""
    if field.examples:
        return field.examples[0]
    if field.is_required() or field.default is None:
        tag = tag_of(model) if key == "type" else None
        if tag is None:
            raise LookupError(f"{model.__name__}.{key} has neither a default nor an example")
        return tag
    return str(field.default) if isinstance(field.default, Path) else field.default


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)]


def _commented(lines: Iterator[str]) -> Iterator[str]:
    """Comment out what is not a comment yet."""
    yield from (line if line.startswith("#") or not line else f"#{line}" for line in lines)
