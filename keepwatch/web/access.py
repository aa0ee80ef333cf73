"""Who may see the page: TLS and users of a web.config.yml, read again whenever one of its files changes.

As the exporters do: a new certificate counts for the next connection, a changed user for the next request, and every
address asks for the password. A file that has become bad changes nothing but the log: the last good one stays.
Passwords are compared on one thread at a time and the outcome is remembered, since bcrypt is slow on purpose.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keepwatch.web.web_config import TlsConfig, WebConfig, WebConfigError, read_web_config

log = logging.getLogger(__name__)

_REMEMBERED = 100
_NOBODY = "$2b$10$CwTycUXWue0Thq9StjUM0uJ8/TqLbKlaMmrZx3RJP2lQkHFxYTgaa"
"""Compared with when there is no such user, so that the time taken does not tell who there is."""
_LONGEST_PASSWORD = 72
"""bcrypt has never looked at more bytes."""
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Access:
    """The file in force. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises WebConfigError when the file, or a certificate in it, is bad: a daemon shall not start open."""
        self._path = path
        self._lock = threading.Lock()
        self._config = read_web_config(path)
        self._context = tls_context(self._config.tls) if self._config.tls else None
        self._stamp = self._stamp_now()
        if not self._config.asks_who:
            log.warning("page open to everybody who can connect", extra={"web_config_file": str(path)})

    @property
    def has_tls(self) -> bool:
        """Whether TLS is spoken; a change of this needs a restart."""
        return self._context is not None

    def config(self) -> WebConfig:
        """Return what the file says now, or what it said when it was last good."""
        with self._lock:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read_again()
            return self._config

    def context(self) -> ssl.SSLContext:
        """Return the context for a connection that begins now."""
        self.config()
        assert self._context is not None
        return self._context

    def _read_again(self) -> None:
        try:
            config = read_web_config(self._path)
            if (config.tls is None) == self.has_tls:
                raise WebConfigError(f"reading {self._path}: to begin or end with TLS, restart keepwatch")
            context = tls_context(config.tls) if config.tls else None
        except WebConfigError as error:
            log.error("web config refused", extra={"reason": error, "hint": error.hint})
            return
        self._config, self._context = config, context
        log.info("web config read again", extra={"path": str(self._path)})

    def _stamp_now(self) -> _Stamp:
        tls = self._config.tls
        return tuple(map(_stamp, (self._path, *(tls.files if tls else ()))))


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Make a server's context. Raises WebConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    doing = f"taking {tls.cert_file} and {tls.key_file}"
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        if tls.client_ca_file is not None:
            doing = f"taking {tls.client_ca_file}"
            context.load_verify_locations(tls.client_ca_file)
            demanded = tls.client_auth_type == "RequireAndVerifyClientCert"
            context.verify_mode = ssl.CERT_REQUIRED if demanded else ssl.CERT_OPTIONAL
        doing = "taking min_version, max_version, cipher_suites and curve_preferences"
        context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
        if tls.ciphers:
            context.set_ciphers(tls.ciphers)
        if tls.curve:
            context.set_ecdh_curve(tls.curve)
        if tls.prefer_server_cipher_suites:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    except (OSError, ssl.SSLError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise WebConfigError(f"{doing} for TLS: {why}", hint="openssl x509 -in CERT -noout -text shows one") from error
    return context


class ReloadingContext(ssl.SSLContext):
    """What asyncio takes for one context: each connection is wrapped by the one that is in force when it begins."""

    access: Access

    @classmethod
    def of(cls, access: Access) -> "ReloadingContext":
        """Make it for one file."""
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made.access = access
        return made

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection by today's certificate."""
        return self.access.context().wrap_bio(*args, **kwargs)


class Gatekeeper:
    """Asks for user and password where the file has users, and sets its headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._comparing = asyncio.Lock()
        self._known: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on who may come in."""
        config = self._access.config()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(config.headers)
            await send(message)

        if config.users and not await self._is_user(config, Headers(scope=scope).get("authorization", "")):
            refusal = PlainTextResponse("401 name and password, please\n", 401, {"WWW-Authenticate": "Basic"})
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    async def _is_user(self, config: WebConfig, authorization: str) -> bool:
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        name, password = credentials
        hashed = config.users.get(name)
        key = hashlib.sha256(b"\0".join((name.encode(), (hashed or _NOBODY).encode(), password))).digest()
        if key not in self._known:
            async with self._comparing:
                if key not in self._known:
                    right = await asyncio.to_thread(_matches, password, hashed or _NOBODY)
                    while len(self._known) >= _REMEMBERED:
                        del self._known[next(iter(self._known))]
                    self._known[key] = right and hashed is not None
        return self._known[key]


def _matches(password: bytes, hashed: str) -> bool:
    import bcrypt  # only who has users pays for the library

    return bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed.encode())


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon and b"\0" not in password else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _no_password() -> str:
    raise ValueError("the key has a passphrase, which nobody is there to type")
