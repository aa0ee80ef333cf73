"""Does a web address answer as it should: status, a text in the body, how fast, how long the certificate lasts."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.assertions import header_faults, json_faults
from monitor.probes.certificate import not_after
from monitor.probes.http_exchange import Answer, Request, Untrusted, certificate_of, exchange, is_address
from monitor.result import Finding, Measurement, Reading, Status

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_HOPS = 5
NOTHING: Mapping[str, Any] = MappingProxyType({})
_SECRET_HEADERS = {"authorization", "cookie", "proxy-authorization"}


class HttpProbe:
    """One request, redirects followed unless they are what is expected.

    A redirect from https to http is refused, and credentials are not carried to another host. ``clock`` tells the time
    against which the certificate is held.
    """

    def __init__(
        self,
        request: Request,
        *,
        timeout_seconds: float,
        clock: Callable[[], datetime],
        expect_status: Collection[int] = (200,),
        contains: str | None = None,
        matches: str | None = None,
        expect_json: Mapping[str, str | int | float | bool] = NOTHING,
        expect_headers: Mapping[str, str] = NOTHING,
        verify_tls: bool = True,
    ) -> None:
        self._request = request
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._expect_status = expect_status
        self._contains = contains
        self._matches = re.compile(matches) if matches else None
        self._expect_json = expect_json
        self._expect_headers = expect_headers
        self._verify_tls = verify_tls

    def measure(self) -> Measurement:
        """Return ``response_time`` (seconds, up to the last byte of the last answer), ``status_code`` and, for https,
        ``certificate_expires_in`` (seconds, negative when it has).

        CRITICAL when there is no answer, the status is not expected, or the body lacks the text.
        """
        began = time.monotonic()
        deadline = began + self._timeout_seconds
        try:
            answer = self._follow(deadline)
        except Untrusted as reason:
            unmeasured = Reading("response_time", float("nan"), "seconds")
            validity = self._validity(certificate_of(self._request.url, deadline))
            return Measurement([unmeasured, *validity], Finding(Status.CRITICAL, str(reason)))
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        readings = [
            Reading("response_time", time.monotonic() - began, "seconds"),
            Reading("status_code", answer.status, "count"),
            *self._validity(answer.certificate),
        ]
        fault = self._fault(answer)
        return Measurement(readings, Finding(Status.CRITICAL, fault) if fault else None)

    def _follow(self, deadline: float) -> Answer:
        request = self._request
        for _ in range(_MOST_HOPS + 1):
            answer = exchange(request, verify_tls=self._verify_tls, deadline=deadline)
            target = answer.headers.get("location")
            if answer.status in self._expect_status or answer.status not in _REDIRECTS or not target:
                return answer
            request = _redirected(request, answer.status, target)
        raise Unreachable(f"{shown(self._request.url)} redirects more than {_MOST_HOPS} times")

    def _validity(self, certificate: bytes | None) -> list[Reading]:
        if not certificate:
            return []
        left = (not_after(certificate) - self._clock()).total_seconds()
        return [Reading("certificate_expires_in", left, "seconds")]

    def _fault(self, answer: Answer) -> str | None:
        address, status = shown(self._request.url), answer.status
        if answer.status not in self._expect_status:
            expected = " or ".join(str(status) for status in self._expect_status)
            return Said(
                "%(address)s answered %(status)s, expected %(expected)s",
                address=address, status=status, expected=expected,
            )
        if self._contains is not None and self._contains not in _text(answer):
            return Said(
                "%(address)s answered %(status)s, but %(place)s lacks the text %(contains)s",
                address=address, status=status, place=_place(answer), contains=repr(self._contains),
            )
        if self._matches and not self._matches.search(_text(answer)):
            pattern = self._matches.pattern
            return Said(
                "%(address)s answered %(status)s, but nothing in %(place)s matches %(pattern)s",
                address=address, status=status, place=_place(answer), pattern=repr(pattern),
            )
        faults = header_faults(answer.headers, self._expect_headers)
        if self._expect_json:
            faults += json_faults(_text(answer), self._expect_json)
        if not faults:
            return None
        return Said(
            "%(address)s answered %(status)s, but %(faults)s", address=address, status=status, faults="; ".join(faults)
        )


def shown(url: str) -> str:
    """Return an address without user, password, query and fragment, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _redirected(request: Request, status: int, target: str) -> Request:
    try:
        url = urljoin(request.url, target)
    except ValueError:
        url = ""
    if not is_address(url):
        raise Unreachable(f"{shown(request.url)} redirects to something that is not a web address")
    before, after = urlsplit(request.url), urlsplit(url)
    if before.scheme == "https" and after.scheme == "http":
        raise Unreachable(f"{shown(request.url)} redirects to {shown(url)}, which is not encrypted")
    headers: Mapping[str, str] = request.headers
    if (before.scheme, before.hostname, before.port) != (after.scheme, after.hostname, after.port):
        headers = {name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}
    elif before.username is not None and after.username is None:
        url = after._replace(netloc=before.netloc).geturl()
    if status in (307, 308) or request.method == "HEAD":  # RFC 9110, 15.4: only these keep a POST a POST
        return replace(request, url=url, headers=headers)
    return replace(request, url=url, headers=headers, method="GET", body=None)


def _place(answer: Answer) -> str:
    if answer.cut:
        return Said("the first %(count)s bytes of the answer", count=len(answer.body))
    return Said("the answer")


def _text(answer: Answer) -> str:
    _, _, charset = answer.headers.get("content-type", "").lower().partition("charset=")
    try:
        return answer.body.decode(charset.split(";")[0].strip(" \"'") or "utf-8", "replace")
    except LookupError:
        return answer.body.decode("utf-8", "replace")
