"""The outermost layer of the web server: refuses foreign Host headers and sets the security headers on every answer.

Without the check of Host, any website could reach this server through a name of its own that points to this machine,
and read the page with the reader's own browser.
"""

import ipaddress
import logging
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

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


class Doorkeeper:
    """Outermost layer: refuses foreign Host headers and sets the security headers on every answer, errors included."""

    def __init__(self, app: ASGIApp, names: Collection[str] = (), *, addresses: bool = False) -> None:
        """``names`` are the page's own besides loopback's; ``addresses`` lets in who writes this machine's address."""
        self._app = app
        self._names = frozenset((*LOOPBACK_NAMES, *(name.lower() for name in names)))
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what asks for this server."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if not self._answers_to(host):
            log.warning("foreign host refused", extra={"host": repr(host[:100])})
            refusal = PlainTextResponse(
                f"421 this server answers to {', '.join(LOOPBACK_NAMES)} and the host of [web] external_url only;"
                " a reverse proxy has to send one of them as Host\n",
                421,
            )
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _answers_to(self, host: str) -> bool:
        name = _name_of(host)
        return name in self._names or (self._addresses and name is not None and _is_address(name))


def _name_of(host: str) -> str | None:
    """Return a Host header without its port, in small letters; None when it is no such thing."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, ""
    return name.lower() if not port or port.isdigit() else None


def _is_address(name: str) -> bool:
    """Tell whether it is a bare address. No website can have one as its name, so none can pretend to be this one."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
