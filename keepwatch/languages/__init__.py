"""The languages of page, messages and reports: English texts, and what stands for them in another language.

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

from markupsafe import escape

from config.said import Said

_HERE = Path(__file__).parent

WORDS = (
    "PASSED", "FAILED", "INCONCLUSIVE", "SHORT", "succeeded", "failed", "interrupted", "inconclusive", "passed",
    "held", "running", "ok", "unknown", "absent", "waiting", "firing", "pending", "recovering", "resolved", "day",
    "week", "month", "drill journal", "log of plans", "Unknown", "Mostly", "Starting", "Not sure", "So far", "Not all",
    "Yes, but", "proven", "proven, loss above RPO", "proven, slower than RTO", "proven, last drill inconclusive",
    "drill failed", "drill inconclusive", "structure whole, not restored", "read, not restored", "only sampled",
    "no snapshot yet", "not drilled yet", "no drill set up", "proof too old",
    "under way", "called for", "needs care", "to improve", "Acknowledge", "Silence", "start", "finish",
    "no news", "no checks", "starting", "well so far", "well",
    "full", "incremental", "drill", "verify", "forget", "prune", "extend", "planted drill",
    "recovered", "gone", "no longer configured",
    "hardware", "software", "network", "human error", "attack", "disaster", "rare", "unlikely", "possible", "likely",
    "almost certain", "negligible", "minor", "moderate", "major", "severe",
    "CPU", "Memory", "Disk", "Load", "no backups", "promise broken", "not proven", "%(count)s critical",
    "%(count)s warning", "Processor and memory",
    "Disks", "Network", "Hardware", "System", "Services", "Data and logs", "Other",
)  # fmt: skip
"""Words that come as values, which no search of the code for texts would find."""


@dataclass(frozen=True, slots=True)
class Language:
    """Says texts in one language. ``tag`` as BCP 47 has it."""

    tag: str
    texts: Mapping[str, str]

    def __call__(self, text: str, /, **values: Any) -> str:
        """Return the text in this language, with the values in it."""
        if isinstance(text, Said):
            return self(text.text, **text.values)
        said = self.texts.get(text, text)
        return said % {name: self.value(value) for name, value in values.items()} if values else said

    def value(self, value: Any) -> Any:
        """Return in this language what is a text, and everything else as it is."""
        return self(value) if isinstance(value, Said) else value


@dataclass(frozen=True, slots=True)
class PageLanguage:
    """A language for templates: what is put into a text may be HTML already, and is escaped when it is not."""

    language: Language

    @property
    def tag(self) -> str:
        """As BCP 47 has it."""
        return self.language.tag

    def __call__(self, text: str, /, **values: Any) -> str:
        """Return the text in this language, with the values in it."""
        said = self.language(text)
        return escape(said) % {name: self.value(value) for name, value in values.items()} if values else said

    def value(self, value: Any) -> Any:
        """Return in this language what is a text, and everything else as it is."""
        return self.language.value(value)


@cache
def language(tag: str) -> Language:
    """Return a language by its tag. Raises KeyError for one that we do not speak."""
    if tag == "en":
        return Language("en", {})
    file = _HERE / f"{tag}.toml"
    if not file.exists():
        raise KeyError(tag)
    return Language(tag, tomllib.loads(file.read_text(encoding="utf-8")))


ENGLISH = language("en")
