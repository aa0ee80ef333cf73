"""Serves the web application from a thread of its own, on sockets that are bound before anything else starts.

Leaves signals, logging and the process alone: it starts, it stops, and a port in use is an error at construction.
"""

import asyncio
import errno
import socket
import ssl
import threading
import time

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from keepwatch.errors import KeepwatchError

_BACKLOG = 64
_MAX_CONNECTIONS = 64
_REQUEST_SECONDS = 20.0
"""How long a client may take to say what it wants, body included. How long we take to answer is another matter."""
_POLL_SECONDS = 0.005


class ListenError(KeepwatchError):
    """The address of the page cannot be listened on."""


class WebServer:
    """One application on one host and port. ``start`` and ``stop`` once each."""

    def __init__(self, app: ASGIApp, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Bind and listen at once; port 0 takes a free one. Raises ListenError."""
        self._sockets = _listen(host, port)
        self.host = host
        self.port: int = self._sockets[0].getsockname()[1]
        config = uvicorn.Config(
            app, http=_Conversation, ws="none", loop="asyncio", lifespan="off", log_config=None, log_level="warning",
            access_log=False, server_header=False, date_header=False, proxy_headers=False,
            limit_concurrency=_MAX_CONNECTIONS, timeout_graceful_shutdown=1, backlog=_BACKLOG,
        )  # fmt: skip
        self._scheme = "https" if tls else "http"
        self._server = _Server(config, tls)
        self._thread = threading.Thread(target=self._server.run, args=(self._sockets,), name="web", daemon=True)

    @property
    def url(self) -> str:
        """Address of the page, with a slash at its end."""
        return f"{self._scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    def start(self, timeout: float = 10.0) -> None:
        """Answer requests from now on; those that came since construction are waiting. Raises ListenError."""
        self._thread.start()
        deadline = time.monotonic() + timeout
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ListenError(f"serving the page on {self.url}: the web server did not start", hint="see the log")
            time.sleep(_POLL_SECONDS)

    def stop(self, timeout: float = 5.0) -> None:
        """Finish the requests under way and free the port; after ``timeout`` seconds leave them behind."""
        if self._thread.is_alive():
            self._server.request_stop()
            self._thread.join(timeout)
        for listener in self._sockets:
            listener.close()


class _Conversation(H11Protocol):
    """One connection. Whoever does not finish a request in time is hung up on: a few dozen that only hold the line
    would else keep everybody out for ever.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take in a part of a request."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._be_patient()
        super().connection_lost(exc)

    def _be_patient(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """uvicorn that sleeps until it is told to stop, instead of waking ten times a second to look."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._tls = tls
        self._told = threading.Event()
        self._wake: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def request_stop(self) -> None:
        """Tell it, from any thread, that it shall stop."""
        self._told.set()
        if self._wake is not None:
            loop, event = self._wake
            loop.call_soon_threadsafe(event.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, with our own context for TLS: uvicorn's would keep its first certificate for ever."""
        self.config.ssl = self._tls
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """Wait for the word. Date headers and request limits, uvicorn's other reasons to wake, are switched off."""
        event = asyncio.Event()
        self._wake = (asyncio.get_running_loop(), event)
        if not self._told.is_set():
            await event.wait()
        self.should_exit = True


def _listen(host: str, port: int) -> list[socket.socket]:
    """Bind every address of ``host`` to the same port: "localhost" is IPv4 and, where there is one, IPv6."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(
            f"listening on {host}:{port}: {error.strerror}", hint="give an address of this machine as [web] listen"
        ) from error
    addresses = list(dict.fromkeys((family, address[0]) for family, _, _, _, address in found))
    listeners: list[socket.socket] = []
    for family, address in addresses:
        # the protocol by name: asyncio switches off Nagle's delay (40 ms an answer) only where it reads IPPROTO_TCP
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and (listeners or address != addresses[-1][1]):
                continue
            for other in listeners:
                other.close()
            raise ListenError(f"listening on {host}:{port}: {error.strerror}", hint=_hint(error, port)) from error
        port = listener.getsockname()[1]
        listeners.append(listener)
    return listeners


def _hint(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            "another program, maybe another keepwatch, has this port"
            f" (`ss -ltnp 'sport = :{port}'` names it); stop it, or give another port as [web] listen"
            " of your settings, which `keepwatch config init` begins"
        )
    if error.errno == errno.EACCES:
        return "ports below 1024 need root; give a higher one as [web] listen"
    return "give an address of this machine as [web] listen"
