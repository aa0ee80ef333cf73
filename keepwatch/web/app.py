"""The addresses of the web server: page, metrics, health, JSON. Everything is answered from the view in memory.

Reads only (GET and HEAD) but for what :mod:`keepwatch.web.intake` takes, and under its own names only: the Host header
is checked, so that no website can reach the page through a name of its own that points here. Errors are pages without
tracebacks; those go to the log.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from keepwatch.host_metrics import HostMetricsOff
from keepwatch.metrics import MetricsPage
from keepwatch.view import View
from keepwatch.web.access import Access, Gatekeeper
from keepwatch.web.api import LISTS, as_json, dump, part_as_json
from keepwatch.web.door import Doorkeeper
from keepwatch.web.intake import Intake
from keepwatch.web.page import STATIC, PageRenderer
from monitor.exposition import CONTENT_TYPE
from monitor.inbox import Inbox

_REASONS = {404: "There is no such page.", 405: "This address can only be read.", 500: "Something broke on our side."}

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    view: Callable[[], View],
    clock: Callable[[], datetime],
    *,
    page: MetricsPage | None = None,
    host_metrics: Callable[[], bytes] | None = None,
    access: Access | None = None,
    names: Collection[str] = (),
    inbox: Inbox | None = None,
    not_ready: Callable[[], str | None] = lambda: None,
) -> ASGIApp:
    """Make the application.

    ``view`` returns the latest view at once; ``page`` the metrics, made from the same view when left out;
    ``host_metrics`` makes those of the host within milliseconds (a thread for it would cost a scrape's worth of them),
    or raises HostMetricsOff; ``not_ready`` is the daemon's own reason why it is not ready yet (a store that is not
    open), None when there is none. With ``access``, others than this machine may connect, by address or by one of
    ``names``, and its users are asked for. ``inbox`` takes what jobs report and others push.
    """
    shown = PageRenderer(clock)

    async def index(_: Request) -> Response:
        return Response(shown.page(view()), media_type="text/html")

    async def fragment(request: Request) -> Response:
        body = shown.fragment(view())
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, media_type="text/html", headers={"ETag": etag})

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

    routes: list[tuple[str, Endpoint]] = [
        ("/", index),
        ("/fragment", fragment),
        *_metrics_routes(page or MetricsPage(view), host_metrics),
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
    inner: ASGIApp = Gatekeeper(starlette, access) if access else starlette
    if inbox:
        inner = Intake(inner, inbox, clock)
    return Doorkeeper(inner, names, addresses=access is not None)


def _metrics_routes(page: MetricsPage, host_metrics: Callable[[], bytes] | None) -> Iterator[tuple[str, Endpoint]]:
    async def own(_: Request) -> Response:
        return Response(page.render(), headers={"Content-Type": CONTENT_TYPE})

    async def of_host(_: Request) -> Response:
        assert host_metrics is not None
        try:
            return Response(host_metrics(), headers={"Content-Type": CONTENT_TYPE})
        except HostMetricsOff as off:
            return PlainTextResponse(f"404 {off}\n", 404)

    yield "/metrics", own
    if host_metrics is not None:
        yield "/metrics/node", of_host


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
