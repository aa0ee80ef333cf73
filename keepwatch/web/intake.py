"""What may be written over the web: pings of the operator's jobs, and readings that somebody pushes.

These addresses ask for a token of their own instead of a user, so that a cron job needs no account. A browser that is
sent here by somebody else's page is refused. Nothing is judged here, and bodies are capped.

    GET, POST /ping/TOKEN                    the job has succeeded
              /ping/TOKEN/start|fail|log     it begins, it has failed, here is its log
              /ping/TOKEN/EXITCODE           it has ended with that exit code
    POST      /api/v1/push/NAME              readings as JSON, with ``Authorization: Bearer TOKEN``
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from keepwatch.web.api import dump
from monitor.inbox import Inbox, UnknownSender, Unreadable

log = logging.getLogger(__name__)

LONGEST_LOG_BYTES = 100_000
LONGEST_PUSH_BYTES = 256_000
_OURS = ("/ping/", "/api/v1/push/")
_FROM_ELSEWHERE = ("cross-site", "same-site")


class Intake:
    """Answers its own addresses, and hands everything else to ``app``."""

    def __init__(self, app: ASGIApp, inbox: Inbox, clock: Callable[[], datetime]) -> None:
        self._app = app
        self._inbox = inbox
        self._clock = clock
        self._own = Starlette(
            routes=[
                Route("/ping/{token}", self._ping, methods=["GET", "POST"]),
                Route("/ping/{token}/{kind}", self._ping, methods=["GET", "POST"]),
                Route("/api/v1/push/{name}", self._push, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose by the path."""
        ours = scope["type"] == "http" and scope["path"].startswith(_OURS)
        await (self._own if ours else self._app)(scope, receive, send)

    async def _ping(self, request: Request) -> Response:
        if (refusal := _refusal(request)) is not None:
            return refusal
        kind = request.path_params.get("kind", "success")
        try:
            body = await _body(request, LONGEST_LOG_BYTES)
            name = await asyncio.to_thread(
                self._inbox.ping, request.path_params["token"], kind, body.decode("utf-8", "replace"), self._clock()
            )
        except (UnknownSender, Unreadable, OSError) as error:
            return PlainTextResponse(f"{error}\n", _status(error))
        log.info("heartbeat received", extra={"check": name, "kind": kind})
        return PlainTextResponse("OK\n")

    async def _push(self, request: Request) -> Response:
        if (refusal := _refusal(request)) is not None:
            return refusal
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            body = await _body(request, LONGEST_PUSH_BYTES)
            given = token.strip() if scheme.lower() == "bearer" else ""
            taken = await asyncio.to_thread(self._inbox.push, request.path_params["name"], given, body, self._clock())
        except (UnknownSender, Unreadable, OSError) as error:
            answer = {"error": str(error), "status": _status(error)}
            return Response(dump(answer), _status(error), media_type="application/json")
        return Response(dump({"readings": taken}), media_type="application/json")


def _refusal(request: Request) -> Response | None:
    """Refuse what a page of another site makes a browser send: such a request carries where it comes from."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site") in _FROM_ELSEWHERE or (origin and origin != str(request.base_url)[:-1]):
        return PlainTextResponse("403 not from another site\n", 403)
    return None


async def _body(request: Request, limit: int) -> bytes:
    received = bytearray()
    try:
        async for piece in request.stream():
            received += piece
            if len(received) > limit:
                raise _TooLong(f"the body may have {limit} bytes")
    except ClientDisconnect:
        raise Unreadable("the body broke off") from None
    return bytes(received)


class _TooLong(Unreadable):
    pass


def _status(error: Exception) -> int:
    if isinstance(error, UnknownSender):
        return 404
    if isinstance(error, _TooLong):
        return 413
    return 400 if isinstance(error, Unreadable) else 503
