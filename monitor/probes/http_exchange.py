"""One HTTP request and its answer, bounded in everything: one deadline for look-up, connection, TLS, sending and
reading, and a cap on the body. On ``http.client``; it follows no redirects, uses no proxy and keeps no connection.
"""

import base64
import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

from monitor.probes.address import Unreachable, connect

BODY_LIMIT_BYTES = 1024 * 1024
_LEFT_AS_IS = "/%:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``url`` may carry a user and password, which become an Authorization header."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``certificate`` is the server's, in DER form, for https."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    cut: bool
    """The body was longer than ``BODY_LIMIT_BYTES``; the rest was not read."""
    certificate: bytes | None


class Untrusted(Unreachable):
    """The server's certificate does not hold."""


def exchange(request: Request, *, verify_tls: bool, deadline: float) -> Answer:
    """Send ``request`` and read the answer. ``deadline`` is on the monotonic clock.

    Raises Unreachable (Untrusted for a bad certificate) with the reason, ProbeError when the fault is on this side.
    """
    if not is_address(request.url):
        raise Unreachable("the address is not one of http or https with a host and a port")
    parts = urlsplit(request.url)
    where = f"{parts.scheme}://{parts.hostname}"
    try:
        raw, certificate = _connected(parts, verify_tls=verify_tls, deadline=deadline)
        with raw:
            return _asked(request, parts, raw, certificate, deadline)
    except TimeoutError as error:
        raise Unreachable(f"no whole answer from {where} in time") from error
    except ssl.SSLError as error:
        raise Unreachable(f"TLS with {where} failed: {error.reason or error}") from error
    except http.client.HTTPException as error:
        raise Unreachable(f"{where} does not answer in HTTP: {type(error).__name__} {error}".rstrip()) from error
    except OSError as error:
        raise Unreachable(f"{where} broke the connection off: {(error.strerror or str(error)).lower()}") from error


def is_address(url: str) -> bool:
    """Tell whether ``url`` is one that can be asked: http or https, a host, and a port that exists."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number or beyond 65535, or half an IPv6 address
        return False


def certificate_of(url: str, deadline: float) -> bytes | None:
    """Return the certificate that an https server shows, whatever it is worth; None when it shows none."""
    try:
        raw, certificate = _connected(urlsplit(url), verify_tls=False, deadline=deadline)
    except (OSError, Unreachable):
        return None
    raw.close()
    return certificate


def _connected(parts: SplitResult, *, verify_tls: bool, deadline: float) -> tuple[socket.socket, bytes | None]:
    secure = parts.scheme == "https"
    host = parts.hostname or ""
    raw, _ = connect(host, parts.port or (443 if secure else 80), deadline)
    if not secure:
        return raw, None
    try:
        raw.settimeout(_remaining(deadline))
        wrapped = _tls(verify_tls).wrap_socket(raw, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raw.close()
        _tls.cache_clear()  # so that a certificate authority installed meanwhile is known at the next run
        raise Untrusted(f"the certificate of {host} does not hold: {error.verify_message.rstrip('.')}") from error
    except BaseException:
        raw.close()
        raise
    return wrapped, wrapped.getpeercert(binary_form=True)


@functools.cache
def _tls(verify: bool) -> ssl.SSLContext:
    """One context for all: the system's certificate authorities take 10 ms and a megabyte to load."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _asked(
    request: Request, parts: SplitResult, raw: socket.socket, certificate: bytes | None, deadline: float
) -> Answer:
    default_port = 443 if parts.scheme == "https" else 80
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or default_port)
    connection.default_port = default_port  # which the Host header leaves out
    connection.sock = cast(socket.socket, DeadlineSocket(raw, deadline))
    query = f"?{parts.query}" if parts.query else ""
    target = quote((parts.path or "/") + query, safe=_LEFT_AS_IS)
    body = None if request.body is None else request.body.encode()
    connection.request(request.method, target, body, _headers(request, parts))
    with connection.getresponse() as response:
        received = bytearray()
        while len(received) <= BODY_LIMIT_BYTES and (piece := response.read(65_536)):
            received += piece
        if len(received) <= BODY_LIMIT_BYTES and response.length:
            raise http.client.IncompleteRead(bytes(received[:0]), response.length)
        headers = {name.lower(): value for name, value in response.getheaders()}
        cut = len(received) > BODY_LIMIT_BYTES
        return Answer(response.status, headers, bytes(received[:BODY_LIMIT_BYTES]), cut, certificate)


def _headers(request: Request, parts: SplitResult) -> dict[str, str]:
    headers = {"User-Agent": "keepwatch", "Accept": "*/*", "Connection": "close"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    given = {name.lower() for name in request.headers}
    return {name: value for name, value in headers.items() if name.lower() not in given} | dict(request.headers)


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("timed out")
    return remaining


class DeadlineSocket:
    """What ``http.client`` uses of a socket, with the deadline instead of a time-out for each call: a server that sends
    a byte a second would never run into the latter.
    """

    def __init__(self, raw: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send all of it. Raises TimeoutError at the deadline."""
        self._raw.settimeout(_remaining(self._deadline))
        self._raw.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Give the other direction."""
        assert mode == "rb"
        return io.BufferedReader(_DeadlineReader(self._raw, self._deadline))

    def close(self) -> None:
        """Left to whoever opened it."""


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: socket.socket, deadline: float) -> None:
        super().__init__()
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(_remaining(self._deadline))
        return self._raw.recv_into(buffer)
