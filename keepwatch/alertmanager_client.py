"""Speaks with one Alertmanager, by its API v2: alerts and silences, out and back. Waits for answers; keeps nothing.

An address may carry a user and password; neither they nor any part of the address but its host come into an error.
"""

import base64
import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from keepwatch.alertmanager_wire import Document

_TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 32 << 20


class AlertmanagerError(Exception):
    """It could not be asked, or refused."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A password is for the server that was named, not for whom it names."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


class AlertmanagerClient:
    """Every method raises AlertmanagerError. Safe to use from one thread at a time."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        where = parts.hostname or ""
        self.name = f"{where}:{parts.port}" if parts.port else where
        """Host and port: what may be shown of the address."""
        place = f"[{where}]" if ":" in where else where
        netloc = f"{place}:{parts.port}" if parts.port else place
        self._base = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/") + "/api/v2", "", ""))
        self._headers = {"User-Agent": "keepwatch", "Content-Type": "application/json"}
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    def post_alerts(self, alerts: list[Document]) -> None:
        """Tell it of alerts that fire or have ended."""
        self._ask("POST", "/alerts", alerts)

    def alerts_of(self, host: str) -> list[Document]:
        """Return the alerts of a machine that it believes to fire."""
        matcher = quote(f'host="{host}"')
        return self._list(f"/alerts?filter={matcher}&active=true&silenced=true&inhibited=true")

    def silences(self) -> list[Document]:
        """Return all silences that it remembers, expired ones included."""
        return self._list("/silences")

    def post_silence(self, silence: Document) -> None:
        """Make a silence, or change the one whose id it has."""
        self._ask("POST", "/silences", silence)

    def end_silence(self, silence_id: str) -> None:
        """End a silence."""
        self._ask("DELETE", f"/silence/{quote(silence_id, safe='')}")

    def _list(self, path: str) -> list[Document]:
        answer = self._ask("GET", path)
        if not isinstance(answer, list):
            raise AlertmanagerError(
                f"asking Alertmanager at {self.name}: the answer is no list; is it an Alertmanager?"
            )
        return answer

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, self._headers, method=method)  # noqa: S310 - http(s) by settings
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                content = answer.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(300).decode("utf-8", "replace").strip()
            raise AlertmanagerError(f"asking Alertmanager at {self.name}: it answers {error.code} {said}") from None
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise AlertmanagerError(f"asking Alertmanager at {self.name}: {reason or type(error).__name__}") from None
        try:
            return json.loads(content) if content.strip() else None
        except ValueError:
            raise AlertmanagerError(f"asking Alertmanager at {self.name}: the answer is no JSON") from None
