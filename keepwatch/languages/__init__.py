"""The languages of page and reports: English texts, and what stands for them in another language.

A text is its own key, as in gettext, and one TOML file a language holds the translations; a text without one is shown
in English, and a test fails. Values go into ``%(name)s``. Names, numbers, log lines and command lines are never
translated: whoever searches for help with them has to find them.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

WORDS = (
    "PASSED", "FAILED", "INCONCLUSIVE", "SHORT", "succeeded", "partial", "failed", "interrupted", "inconclusive",
    "passed", "held", "left out", "ok", "warning", "critical", "unknown", "absent", "firing", "pending", "recovering",
    "resolved", "hardware", "software", "network", "human error", "attack", "disaster", "day", "week", "month",
    "drill journal", "log of plans",
)  # fmt: skip
"""Words that come as values, which no search of the code for texts would find."""


@dataclass(frozen=True, slots=True)
class Language:
    """Says texts in one language. ``tag`` as BCP 47 has it."""

    tag: str
    texts: Mapping[str, str]

    def __call__(self, text: str, **values: Any) -> str:
        """Return the text in this language, with the values in it."""
        said = self.texts.get(text, text)
        return said % values if values else said


@cache
def language(tag: str) -> Language:
    """Return a language by its tag. Raises KeyError for one that we do not speak."""
    if tag == "en":
        return Language("en", {})
    file = _HERE / f"{tag}.toml"
    if not file.exists():
        raise KeyError(tag)
    return Language(tag, tomllib.loads(file.read_text(encoding="utf-8")))
