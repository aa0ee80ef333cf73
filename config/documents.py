"""TOML files as one document that remembers where everything was written.

Reads keepwatch.toml and ``conf.d/*.toml`` beside it and merges them: tables merge, arrays of tables append, and the
same value in two files is a problem, since whichever won would surprise somebody. Knows nothing of what keys mean.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.positions import Path as Keys
from config.positions import positions
from config.problems import Problem

_COMMAND_LINE = Path("command line")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_AT_LINE = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; ``file`` None is the embedded default."""

    file: Path | None
    line: int | None

    def __str__(self) -> str:
        """Write it as editors read it."""
        return f"{self.file or 'embedded default'}:{self.line}"


@dataclass(slots=True)
class Document:
    """Merged tables, the place of each path in them, and what was wrong with the files themselves."""

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Keys, Place] = field(default_factory=dict)
    files: list[Path | None] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def place(self, keys: Keys) -> Place:
        """Return where ``keys``, or the nearest table around it, was written."""
        for length in range(len(keys), 0, -1):
            if place := self.places.get(keys[:length]):
                return place
        return Place(self.files[0], 1)

    def problem(self, keys: Keys, problem: str, got: str | None = None) -> Problem:
        """Make a problem with its place."""
        place = self.place(keys)
        return Problem(place.file, place.line, dotted(keys, self.data), problem, got)

    def add(self, text: str, file: Path | None) -> None:
        """Merge one more file's text, noting what is wrong with it."""
        self.files.append(file)
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            at = _AT_LINE.search(str(error))
            line = int(at[1]) if at and at[1] else text.count("\n") + 1
            what = _AT_LINE.sub("", str(error)).strip()
            self.problems.append(Problem(file, line, "", f"not valid TOML: {what[:1].lower()}{what[1:]}"))
            return
        self._merge(self.data, data, (), {keys: Place(file, line) for keys, line in positions(text).items()})

    def decide(self, keys: tuple[str, str], value: str) -> None:
        """Put ``value`` in place of whatever the files say: somebody chose it when the program was started."""
        table = self.data.setdefault(keys[0], {})
        if isinstance(table, dict):  # what it is instead is a problem of its own
            table[keys[1]] = value
            self.places[keys] = Place(_COMMAND_LINE, 1)

    def _merge(self, into: dict[str, Any], new: dict[str, Any], table: Keys, places: Mapping[Keys, Place]) -> None:
        """Merge ``new`` into the same ``table`` of this document. Outside of lists a path is the same in every file."""
        for key, value in new.items():
            keys, have = (*table, key), into.get(key)
            if have is None:
                into[key] = value
                self._adopt(keys, keys, places)
            elif isinstance(have, dict) and isinstance(value, dict):
                self._merge(have, value, keys, places)
            elif _is_array_of_tables(have) and _is_array_of_tables(value):
                for index in range(len(value)):
                    self._adopt((*keys, len(have) + index), (*keys, index), places)
                have.extend(value)
            else:
                problem = f"already set at {self.place(keys)}; remove one of them"
                self.problems.append(Problem(places[keys].file, places[keys].line, dotted(keys, self.data), problem))

    def _adopt(self, here: Keys, there: Keys, places: Mapping[Keys, Place]) -> None:
        for keys, place in places.items():
            if keys[: len(there)] == there:
                self.places[here + keys[len(there) :]] = place


def read(path: Path) -> Document:
    """Read ``path`` and ``conf.d/*.toml`` beside it, in the order of their names. Never raises: see ``problems``."""
    document = Document()
    for file in (path, *sorted(path.parent.glob("conf.d/*.toml"))):
        try:
            document.add(file.read_bytes().decode(), file)
        except OSError as error:
            document.files.append(file)
            reason = (error.strerror or str(error)).lower()
            document.problems.append(Problem(file, None, "", f"cannot be read: {reason}"))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            document.files.append(file)
            document.problems.append(Problem(file, line, "", "not UTF-8 text; save the file as UTF-8"))
    return document


def dotted(keys: Keys, data: object) -> str:
    """Write a path for people: ``jobs.documents.rpo``, ``checks[root disk].warning``, ``notify[2].url``."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            data = data[key] if isinstance(data, list) and key < len(data) else None
            name = data.get("name") if isinstance(data, dict) else None
            text += f"[{name}]" if isinstance(name, str) else f"[{key + 1}]"
        else:
            data = data.get(key) if isinstance(data, dict) else None
            text += ("." if text else "") + (key if _BARE_KEY.fullmatch(key) else f'"{key}"')
    return text


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
