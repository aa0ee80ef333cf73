"""Takes secrets out of text before it leaves the machine: those that the settings know, and what looks like one.

Two nets, since either alone has holes: every secret value that is configured, with the parts of URLs it is made of; and
patterns of passwords, tokens and keys in any text. What is replaced becomes ``[secret]``.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from config.secrets import SecretError, read_secret_file
from config.settings import Settings

MARK = "[secret]"
_SHORTEST = 4
"""Shorter ones are no secrets, and replacing them would make nonsense of the text."""
_SECRET_FILES = re.compile(r"(password|secret|key|token|credential).*_file$|^(access_key_id_file)$")
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MARK),
    (re.compile(r"(//)[^/@\s\"']+@"), rf"\g<1>{MARK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\g<1> {MARK}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MARK),
    (re.compile(r"(\s-u\s+[^\s:]+:)[^\s\"']+"), rf"\g<1>{MARK}"),
)
_NAMED = re.compile(
    r"(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|authorization"
    r"|credentials?)\\?[\"']?\s*[=:]\s*)(?:(\\?[\"'])(?:(?!\2).)*\2|[^\s,;&\"'\\]+)"
)
"""``password = VALUE`` in any of the ways people and programs write it; a quoted value keeps its quotes."""


class Scrubber:
    """Knows the secrets of one machine."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {text for secret in secrets for text in _forms(secret) if len(text) >= _SHORTEST}
        ordered = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets. What is valid JSON before stays so."""
        if self._known:
            text = self._known.sub(MARK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return _NAMED.sub(lambda found: f"{found[1]}{found[2] or ''}{MARK}{found[2] or ''}", text)


def secrets_of(settings: Settings, environ: Mapping[str, str], written: str) -> Iterator[str]:
    """Give every secret that the settings hold or lead to: texts, files, and the environment variables they name.

    ``written``: the configuration as it stands in its files.
    """
    yield from _secrets_in(settings, environ)
    for name in re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", written):
        if value := environ.get(name):
            yield value
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "RESTIC_PASSWORD"):
        if value := environ.get(name):
            yield value


def _secrets_in(value: Any, environ: Mapping[str, str]) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if isinstance(inner, Path) and _SECRET_FILES.search(name):
                try:
                    yield read_secret_file(inner, environ).get_secret_value()
                except SecretError:
                    continue  # what cannot be read cannot be told
            else:
                yield from _secrets_in(inner, environ)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets_in(inner, environ)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets_in(inner, environ)


def _forms(secret: str) -> Iterator[str]:
    """Give a secret as it may turn up: whole, as JSON and URLs write it, and, of a URL, each part that can be one."""
    for written in (secret, secret.strip()):
        yield written
        yield json.dumps(written, ensure_ascii=False)[1:-1]
        yield json.dumps(written)[1:-1]
        yield quote(written, safe="")
    if "://" not in secret:
        return
    try:
        parts = urlsplit(secret)
        host, password, user = parts.hostname or "", parts.password, parts.username
    except ValueError:
        return
    pieces = [password, *(part for part in parts.path.split("/") if len(part) >= 6)]
    pieces += [value for _, value in parse_qsl(parts.query) if len(value) >= 6 and "@" not in value]
    if "." not in host and host not in ("localhost", os.uname().nodename):
        pieces += [host, parts.netloc.rpartition("@")[2]]  # a token where others have a host
    if user and len(user) >= 8:
        pieces.append(user)
    for piece in pieces:
        if piece:
            yield piece
            yield unquote(piece)
