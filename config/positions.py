"""Where in a TOML text each key stands, which tomllib does not say.

:func:`positions` gives the line of every table, key and array item by its path, such as ``("checks", 2, "path")``.
It expects text that tomllib has accepted and judges nothing; the grammar followed is TOML 1.0 (https://toml.io/en/v1.0.0).
"""

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]
"""Keys and list indices from the top of the document."""

_SPACE = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
"""White space, line ends and comments."""
_KEY = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+')
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'  # up to two quotation marks may stand right before the closing three
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\r\n]*")
"""Numbers, booleans and moments: up to whatever can follow a value."""


def positions(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, of every path in valid TOML ``text``; tables made by the way have one, too."""
    return _Scanner(text).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._items: dict[Path, int] = {}
        """How many ``[[headers]]`` each array of tables has had so far."""
        self._found: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._key_and_value(table)
            self._skip(_GAP)
        return self._found

    def _header(self) -> Path:
        start, is_item = self._at, self._text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        keys = self._dotted_key()
        self._at += 2 if is_item else 1
        path: Path = ()
        for place, key in enumerate(keys):
            path += (key,)
            self._note(path, start)
            if is_item and place == len(keys) - 1:
                self._items[path] = self._items.get(path, 0) + 1
            if path in self._items:
                path += (self._items[path] - 1,)
                self._note(path, start)
        return path

    def _key_and_value(self, table: Path) -> None:
        start = self._at
        path = table
        for key in self._dotted_key():
            path += (key,)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _dotted_key(self) -> list[str]:
        """Read ``a . "b".c`` and the space around it; stops at what follows."""
        keys = []
        while True:
            self._skip(_SPACE)
            raw = self._skip(_KEY)
            keys.append(_unquoted(raw))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self, path: Path) -> None:
        match self._text[self._at : self._at + 1]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_PLAIN)

    def _array(self, path: Path) -> None:
        self._at += 1
        self._skip(_GAP)
        index = 0
        while self._text[self._at] != "]":
            self._note((*path, index), self._at)
            self._value((*path, index))
            self._separator()
            index += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip(_GAP)
        while self._text[self._at] != "}":
            self._key_and_value(path)
            self._separator()
        self._at += 1

    def _separator(self) -> None:
        self._skip(_GAP)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_GAP)

    def _note(self, path: Path, at: int) -> None:
        self._found.setdefault(path, bisect_right(self._line_starts, at))

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"not valid TOML at offset {self._at}")
        self._at = match.end()
        return match[0]


def _unquoted(raw: str) -> str:
    if raw[0] == "'":
        return raw[1:-1]
    return str(tomllib.loads(f"key = {raw}")["key"]) if raw[0] == '"' else raw
