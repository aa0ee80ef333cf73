"""A proxy before an S3 server that does harm to a seeded share of the requests, as networks do on bad days.

It speaks HTTP/1.1 on loopback and passes everything else on as it came, so that signatures hold.
"""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

FAULTS = ("internal error", "slow down", "unavailable", "reset before", "reset after", "truncated", "delay")
"""``reset after`` is the nasty one: the server has done it, and the client never hears of it."""
_STATUS = {"internal error": (500, "InternalError"), "slow down": (503, "SlowDown"), "unavailable": (502, "BadGateway")}
_DEADLINE_SECONDS = 60.0
_FOLDERS = ("data", "index", "snapshots", "locks", "keys")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class FaultyProxy:
    """Use it as a context manager. ``share`` of the requests meet a fault of ``faults``, drawn with ``seed``.

    Every request takes ``latency_seconds`` longer than it would.
    """

    def __init__(
        self, upstream: str, *, seed: int = 1, share: float = 0.0, faults: tuple[str, ...] = FAULTS,
        latency_seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self.upstream, self.share, self.faults, self.latency_seconds = upstream, share, faults, latency_seconds
        self.asked: Counter[str] = Counter()
        """Requests that were passed on, by method and the first folder below the repository."""
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._writes_left: int | None = None
        self._denied: tuple[str, ...] = ()
        self._together: dict[str, threading.Barrier] = {}
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def refuse_writes_after(self, count: int) -> None:
        """Let so many more PUTs pass, then answer each with a refusal that no retry helps against."""
        with self._lock:
            self._writes_left = count

    def deny(self, *methods: str) -> None:
        """Answer these methods with AccessDenied, as a server does to credentials without the right."""
        with self._lock:
            self._denied = methods

    def let_pass_together(self, what: str, count: int) -> None:
        """Let requests for ``what`` (as `asked` has it) pass only when so many wait; one that waits alone is lost."""
        self._together[what] = threading.Barrier(count)

    def wait_for_others(self, method: str, path: str) -> None:
        """Raises BrokenBarrierError when they do not come."""
        what = f"{method} {_folder(path)}"
        with self._lock:
            self.asked[what] += 1
        time.sleep(self.latency_seconds)
        if what in self._together:
            self._together[what].wait(_DEADLINE_SECONDS)

    def choose(self, method: str) -> str:
        with self._lock:
            fault = ""
            if method in self._denied:
                fault = "denied"
            elif method == "PUT" and self._writes_left is not None:
                self._writes_left -= 1
                fault = "denied" if self._writes_left < 0 else ""
            if not fault and self._random.random() < self.share:
                fault = self._random.choice(self.faults)
            self.done[fault or "passed"] += 1
            return fault


def _folder(path: str) -> str:
    return next((folder for folder in _FOLDERS if f"/{folder}/" in path.partition("?")[0]), "")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyProxy

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):  # the client has had enough
            self.close_connection = True

    def _serve(self) -> None:
        fault = self.owner.choose(self.command)
        if fault == "reset before":
            self._reset()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "denied":
            self._refuse(403, "AccessDenied")
            return
        if fault in _STATUS:
            self._refuse(*_STATUS[fault])
            return
        if fault == "delay":
            time.sleep(0.2)
        try:
            self.owner.wait_for_others(self.command, self.path)
        except threading.BrokenBarrierError:
            self._refuse(403, "WaitedAlone")
            return
        status, headers, content = self._ask(body)
        if fault == "reset after":
            self._reset()
            return
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}:
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if fault == "truncated" and content:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self._reset()
            return
        self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815 - the base's names

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.owner.upstream, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _refuse(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.wfile.close()
        self.rfile.close()
        self.connection.close()

    def finish(self) -> None:
        if not self.wfile.closed:
            super().finish()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""
