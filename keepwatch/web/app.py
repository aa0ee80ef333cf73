"""The addresses of the web server: page, metrics, health, JSON. Everything is answered from the view in memory.

Reads only (GET and HEAD), for loopback names only: the Host header is checked, so that no website can reach the page
through a name of its own that points here. Errors are pages without tracebacks; those go to the log.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keepwatch.metrics import MetricsPage
from keepwatch.view import View
from keepwatch.web.api import LISTS, as_json, dump, part_as_json
from keepwatch.web.page import STATIC, PageRenderer
from monitor.exposition import CONTENT_TYPE

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_REASONS = {404: "There is no such page.", 405: "This address can only be read.", 500: "Something broke on our side."}
_log = logging.getLogger(__name__)


def create_app(
    view: Callable[[], View],
    clock: Callable[[], datetime],
    *,
    page: MetricsPage | None = None,
    not_ready: Callable[[], str | None] = lambda: None,
) -> ASGIApp:
    """Make the application.

    ``view`` returns the latest view at once; ``page`` the metrics, made from the same view when left out; ``not_ready``
    the daemon's own reason why it is not ready yet (a store that is not open), None when there is none.
    """
    shown = PageRenderer(clock)
    figures = page or MetricsPage(view)

    async def index(_: Request) -> Response:
        return Response(shown.page(view()), media_type="text/html")

    async def fragment(request: Request) -> Response:
        body = shown.fragment(view())
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, media_type="text/html", headers={"ETag": etag})

    async def exposition(_: Request) -> Response:
        return Response(figures.render(), headers={"Content-Type": CONTENT_TYPE})

    async def ready(_: Request) -> Response:
        reason = not_ready() or waiting_for_checks(view())
        return PlainTextResponse(f"not ready: {reason}\n" if reason else "keepwatch is ready\n", 503 if reason else 200)

    async def whole_view(_: Request) -> Response:
        return Response(dump(as_json(view())), media_type="application/json")

    async def part(_: Request, name: str) -> Response:
        return Response(dump(part_as_json(view(), name)), media_type="application/json")

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return _error(request, error.status_code, error.headers, shown)
        return _error(request, 500, {"Connection": "close"}, shown)  # uvicorn hangs up after a bug; say so

    routes: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        ("/", index),
        ("/fragment", fragment),
        ("/metrics", exposition),
        ("/-/healthy", healthy),
        ("/-/ready", ready),
        ("/api/v1/view", whole_view),
        *((f"/api/v1/{name}", partial(part, name=name)) for name in LISTS),
        ("/static/{name}", static),
    ]
    starlette = Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes],
        exception_handlers={HTTPException: failed, Exception: failed},
    )
    return _Doorkeeper(starlette)


async def healthy(_: Request) -> Response:
    """Answer as long as there is a web server to answer; whether the loop advances is the watchdog's question."""
    return PlainTextResponse("keepwatch is alive\n")


async def static(request: Request) -> Response:
    """Send one of our own few files."""
    found = STATIC.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    return Response(found.content, media_type=found.media_type)


def waiting_for_checks(view: View) -> str | None:
    """Return why the first round of checks is not done yet; None when every check has run."""
    waiting = [c.check for c in view.checks if c.checked_at is None]
    if not waiting:
        return None
    named = ", ".join(waiting[:5]) + (", ..." if len(waiting) > 5 else "")
    return f"{len(waiting)} of {len(view.checks)} checks did not run yet: {named}"


def _error(request: Request, status: int, headers: Mapping[str, str] | None, shown: PageRenderer) -> Response:
    """Answer in the form that was asked for: JSON below /api/, a page for browsers, a line of text for the rest."""
    reason = _REASONS.get(status, "The request cannot be answered.")
    if request.url.path.startswith("/api/"):
        return Response(dump({"error": reason, "status": status}), status, headers, "application/json")
    if "text/html" in request.headers.get("accept", ""):
        return Response(shown.error(status, reason), status, headers, "text/html")
    return PlainTextResponse(f"{status} {reason}\n", status, headers)


class _Doorkeeper:
    """Outermost layer: refuses foreign Host headers and sets the security headers on every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if not is_loopback_name(host):
            _log.warning("foreign host refused", extra={"host": repr(host[:100])})
            refusal = PlainTextResponse(
                f"421 this server answers to {', '.join(LOOPBACK_NAMES)} only;"
                " a reverse proxy has to send one of them as Host\n",
                421,
            )
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def is_loopback_name(host: str) -> bool:
    """Tell whether a Host header, with or without port, names this machine's loopback."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, ""
    return name.lower() in LOOPBACK_NAMES and (not port or port.isdigit())
