"""docs/checks.md: every type of check, its readings, settings and defaults, from the models themselves.

``python -m config.checks_page >docs/checks.md`` writes it; a test compares. Nothing of it is kept by hand but the words
on top.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from config.checks import TYPES, CheckBase, model_of
from config.sample import check_table

_HEAD = """\
# Checks

What keepwatch can watch. Each check has a `name`, a `type`, thresholds (`warning`, `critical`) on its readings, and
what `keepwatch config init` writes above the checks: `every`, `timeout`, `for`, `depends_on` and so on.

- A threshold without `reading` is on the type's main reading, the first one of its table. Write `"> 85%"`, `"< 10GiB"`,
  `">= 5m"`, `"!= 0"`, or `{ reading = "inodes_used", raise = "> 85%", clear = "< 80%" }`, or a list of them.
- Some types bring thresholds of their own: they stand in the example. They hold where neither `warning` nor
  `critical` is given. `warning = []` means none.
- A check with `include` and `exclude` watches whatever the machine has, each thing as an entity with an alert of its
  own. Both take names and patterns (`*`, `?`, `[ab]`). What is included by its full name has to be there.
- A machine that has no such thing, or lacks the tool, is `absent`: shown, never an alert. A tool that fails is
  `unknown`, and becomes an alert about missing data.
- Units: `ratio` (1 is all of it; write `85%`), `bytes`, `bytes per second`, `seconds` (write `5m`), `celsius`, `rpm`,
  `per second`, `count`, `number`.

In the examples, `#key = value` shows a default, or an example where there is none.
"""


def checks_page() -> str:
    """Return the text of docs/checks.md."""
    models = {tag: model_of(tag) for tag in TYPES}
    lines = [_HEAD]
    for area, tags in _areas(models).items():
        lines += [f"## {area}", "", ", ".join(f"[{tag}](#{tag})" for tag in tags), ""]
        for tag in tags:
            lines += _type(tag, models[tag])
    return "\n".join(lines).rstrip() + "\n"


def _areas(models: Mapping[str, type[CheckBase]]) -> dict[str, list[str]]:
    """Group types by the module that they stand in; its docstring says what they have in common."""
    areas: dict[str, list[str]] = {}
    for tag, model in models.items():
        first = (inspect.getdoc(inspect.getmodule(model)) or "").partition("\n\n")[0].replace("\n", " ")
        title = first.removeprefix("Settings of checks of ").removesuffix(".")
        areas.setdefault(title[0].upper() + title[1:], []).append(tag)
    return areas


def _type(tag: str, model: type[CheckBase]) -> Iterator[str]:
    yield from (f"### {tag}", "")
    yield from (" ".join(part.split()) + "\n" for part in (inspect.getdoc(model) or "").split("\n\n"))
    if model.readings:
        yield from ("| reading | unit |", "|---|---|")
        yield from (f"| `{name}` | {unit.replace('_', ' ')} |" for name, unit in model.readings.items())
    else:
        yield "Its readings are named by what it looks at."
    yield from ("", "```toml")
    written: dict[str, Any] = {"name": f"my {tag}", "type": tag}
    required = {name: field for name, field in model.model_fields.items() if field.is_required() and field.examples}
    written |= {name: (field.examples or [None])[0] for name, field in required.items() if name not in written}
    table = [line for line in check_table(tag, written) if line]
    yield from table[table.index("[[checks]]") :]
    yield from ("```", "")


if __name__ == "__main__":
    sys.stdout.write(checks_page())
