"""Go's ways of writing strings, byte for byte: ``encoding/json`` for values, ``strconv.Quote`` for names inside of it.

Names are text as ``os`` functions give it, with bytes that are no UTF-8 as lone surrogates; nothing is lost either way.
"""

import re
import unicodedata

is_plain = re.compile(r"[ !#-%'-;=?-\[\]-~]*").fullmatch
"""Tells whether a text stands for itself in both ways of quoting."""
_JSON_SHORT = {
    '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f",
}  # fmt: skip
_JSON_LONG = {chr(c) for c in range(0x20)} | {"<", ">", "&", "\u2028", "\u2029"}
_QUOTE_SHORT = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def json_string(text: str) -> str:
    """Quote as Go's encoding/json does. Bytes that were not UTF-8 become U+FFFD, escaped."""
    if is_plain(text):
        return f'"{text}"'
    return '"' + "".join(map(_json_char, text)) + '"'


def _json_char(char: str) -> str:
    if char in _JSON_SHORT:
        # Go before 1.22 wrote \b and \f long; every release that keepwatch meets reads both
        return _JSON_SHORT[char] if char not in "\b\f" else f"\\u{ord(char):04x}"
    if char in _JSON_LONG:
        return f"\\u{ord(char):04x}"
    return "\\ufffd" if "\udc80" <= char <= "\udcff" else char


def quote_name(name: str) -> str:
    """The inner part of Go's strconv.Quote: how restic keeps any byte of a name through JSON."""
    return name if is_plain(name) else "".join(map(_quote_char, name))


def _quote_char(char: str) -> str:
    if char in _QUOTE_SHORT:
        return _QUOTE_SHORT[char]
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char == " " or unicodedata.category(char)[0] in "LMNPS":
        return char
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_UNQUOTE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|[abfnrtv\\\"'])")
_UNQUOTE_SHORT = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 0x5C, '"': 0x22, "'": 0x27,
}  # fmt: skip


def unquote_name(text: str) -> bytes:
    """Undo :func:`quote_name`; octal escapes are read too. Raises ValueError when it is not well quoted."""
    if "\\" not in text and '"' not in text:
        return raw_bytes(text)
    raw, end = bytearray(), 0
    for match in _UNQUOTE.finditer(text):
        raw += _unquoted_plain(text[end : match.start()])
        escape, end = match.group(1), match.end()
        if escape[0] == "x":
            raw.append(int(escape[1:], 16))
        elif escape[0] in "uU":
            raw += chr(int(escape[1:], 16)).encode()
        elif len(escape) == 3:
            raw.append(int(escape, 8))
        else:
            raw.append(_UNQUOTE_SHORT[escape])
    raw += _unquoted_plain(text[end:])
    return bytes(raw)


def _unquoted_plain(text: str) -> bytes:
    if "\\" in text or '"' in text:
        raise ValueError(f"the name {text!r} is not quoted as Go does")
    return raw_bytes(text)


def raw_bytes(text: str) -> bytes:
    """The bytes of a name that ``os`` functions gave as str. Nodes are sorted by them."""
    return text.encode("utf-8", "surrogateescape")


def as_text(raw: bytes) -> str:
    """Undo :func:`raw_bytes`."""
    return raw.decode("utf-8", "surrogateescape")
