"""Reading web.config.yml, the file by which Prometheus' exporters get TLS and users (exporter-toolkit's format).

Refuses every key that it does not know and every value that Python's ``ssl`` cannot honour, by name: a setting that is
read and not kept would be worse than none. Paths in the file are relative to it. Serves nothing and keeps nothing.
Format: https://prometheus.io/docs/prometheus/latest/configuration/https/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepwatch.errors import KeepwatchError

TLS_VERSIONS = ("TLS12", "TLS13")
"""The older ones are broken, and OpenSSL 3 does not speak them as it comes."""
CLIENT_AUTH = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_CANNOT = ("RequestClientCert", "RequireAnyClientCert")
_CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
_HEADERS = (
    "Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "X-XSS-Protection",
    "Content-Security-Policy",
)  # fmt: skip
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_USER_HINT = "make one with: htpasswd -nBC 10 USER"


class WebConfigError(KeepwatchError):
    """The file cannot be read, or says what cannot be kept."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """``tls_server_config``. Versions are of ``TLS_VERSIONS``; ``ciphers`` and ``curve`` in OpenSSL's words."""

    cert_file: Path
    key_file: Path
    client_auth_type: str = "NoClientCert"
    client_ca_file: Path | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: str | None = None
    prefer_server_cipher_suites: bool = True
    curve: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What has to be read again when it changes."""
        return (self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else []))


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The whole file. ``users`` maps a name to the bcrypt hash of its password."""

    tls: TlsConfig | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def asks_who(self) -> bool:
        """Whether somebody without password and client certificate stays outside."""
        return bool(self.users) or (self.tls is not None and self.tls.client_auth_type == "RequireAndVerifyClientCert")


def read_web_config(path: Path) -> WebConfig:
    """Read and check the file. Raises WebConfigError."""
    import yaml  # only who has such a file pays for the library

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WebConfigError(
            f"reading {path}: {error.strerror}", hint="[web] web_config_file names a file that keepwatch may read"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # the library's words would show the line, and a password's hash may stand there
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place else ""
        raise WebConfigError(f"reading {path}: it is no YAML{where}") from None
    top = _Table(path, "", document if document is not None else {})
    config = WebConfig(_tls(top.table("tls_server_config")), _users(top), _headers(top))
    top.end()
    return config


class _Table:
    """One mapping of the file: hands out its keys, typed, and complains of those that are left."""

    def __init__(self, file: Path, name: str, value: object) -> None:
        if not isinstance(value, dict):
            raise WebConfigError(f"reading {file}: {name or 'the file'} must be a mapping")
        self.file = file
        self._name = name
        self._left: dict[Any, Any] = dict(value)

    def wrong(self, key: str, what: str, hint: str | None = None) -> WebConfigError:
        return WebConfigError(f"reading {self.file}: {self._name and f'{self._name}.'}{key} {what}", hint=hint)

    def table(self, key: str) -> "_Table | None":
        value = self._left.pop(key, None)
        return None if value is None else _Table(self.file, f"{self._name and f'{self._name}.'}{key}", value)

    def text(self, key: str, otherwise: str = "") -> str:
        value = self._left.pop(key, None)
        if value is None:
            return otherwise
        if not isinstance(value, str):
            raise self.wrong(key, "must be text")
        return value

    def texts(self, key: str) -> list[str]:
        value = self._left.pop(key, None) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "must be a list of texts")
        return value

    def flag(self, key: str, *, otherwise: bool) -> bool:
        value = self._left.pop(key, otherwise)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def path(self, key: str) -> Path | None:
        written = self.text(key)
        return self.file.parent / written if written else None

    def one_of(self, key: str, known: tuple[str, ...], otherwise: str) -> str:
        written = self.text(key) or otherwise
        if written not in known:
            raise self.wrong(key, f"must be one of {', '.join(known)}, not {written}")
        return written

    def rest(self) -> dict[Any, Any]:
        left, self._left = self._left, {}
        return left

    def end(self) -> None:
        for key in self._left:
            raise self.wrong(str(key), "is not known here", hint="keepwatch keeps all that it reads, and nothing else")


def _tls(table: _Table | None) -> TlsConfig | None:
    if table is None:
        return None
    client_auth = table.text("client_auth_type") or "NoClientCert"
    if client_auth in _CANNOT:
        raise table.wrong("client_auth_type", f"{client_auth} asks for certificates that nobody checks", "verify them")
    if client_auth not in CLIENT_AUTH:
        raise table.wrong("client_auth_type", f"must be one of {', '.join(CLIENT_AUTH)}, not {client_auth}")
    cert, key, ca = table.path("cert_file"), table.path("key_file"), table.path("client_ca_file")
    if cert is None or key is None:
        raise table.wrong("cert_file" if cert is None else "key_file", "is missing", "TLS needs both")
    if (ca is None) == (client_auth != "NoClientCert"):
        raise table.wrong("client_ca_file", "and a client_auth_type that verifies belong together")
    curves = table.texts("curve_preferences")
    if len(curves) > 1 or not set(curves) <= _CURVES.keys():
        raise table.wrong("curve_preferences", f"can be one of {', '.join(_CURVES)}", "or leave it out: all are fine")
    suites = [suite for suite in table.texts("cipher_suites") if "_WITH_" in suite]  # TLS 1.3's cannot be chosen
    config = TlsConfig(
        cert, key, client_auth, ca,
        table.one_of("min_version", TLS_VERSIONS, "TLS12"),
        table.one_of("max_version", TLS_VERSIONS, "TLS13"),
        ":".join(map(openssl_cipher, suites)) or None,
        table.flag("prefer_server_cipher_suites", otherwise=True),
        _CURVES[curves[0]] if curves else None,
    )  # fmt: skip
    table.end()
    return config


def openssl_cipher(suite: str) -> str:
    """Return OpenSSL's name of a suite that Go names as IANA does.

    ``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`` is ``ECDHE-RSA-AES128-GCM-SHA256``; RSA alone as key exchange has no name.
    """
    exchange, _, cipher = suite.removeprefix("TLS_").partition("_WITH_")
    cipher = re.sub(r"AES_(\d+)", r"AES\1", cipher).replace("_CBC", "")
    cipher = cipher.replace("3DES_EDE", "DES_CBC3").replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305")
    return "-".join(part.replace("_", "-") for part in (exchange, cipher) if part != "RSA")


def _users(top: _Table) -> dict[str, str]:
    table = top.table("basic_auth_users")
    users: dict[str, str] = {}
    for name, hashed in table.rest().items() if table else ():
        if not isinstance(name, str) or not name or ":" in name:
            raise top.wrong("basic_auth_users", "has a name that is empty or has a colon", _USER_HINT)
        if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            raise top.wrong("basic_auth_users", f"has no bcrypt hash for {name}", _USER_HINT)
        users[name] = hashed
    return users


def _headers(top: _Table) -> dict[str, str]:
    table = top.table("http_server_config")
    if table is None:
        return {}
    table.flag("http2", otherwise=True)  # this server speaks HTTP/1.1 either way
    headers = table.table("headers")
    found: dict[str, str] = {}
    if headers is not None:
        found = {name: value for name in _HEADERS if (value := headers.text(name))}
        headers.end()
    table.end()
    return found
