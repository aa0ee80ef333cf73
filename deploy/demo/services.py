"""The office's neighbours on the network, on loopback: the tax authority's gateway, the customers' portal, the desk.

The desk is the office's own page: what goes wrong right now, and the messages that keepwatch has sent to its inbox.
"""

import json
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ledger import Books


class Service:
    """One HTTP server on its own thread, which can be closed and opened again."""

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._port = port
        self._handler = handler
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Listen; does nothing when it does already. Raises OSError when the port is taken."""
        if self._server is None:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler)
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Stop listening; connections are refused afterwards."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the terminal is for what happens in the office."""

    def answer(self, status: int, body: str, kind: str = "text/plain") -> None:
        """Send a whole response."""
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


class Gateway:
    """The tax authority's gateway: takes invoices by POST, and says by GET /health how it feels."""

    def __init__(self, port: int) -> None:
        self.ill = threading.Event()
        """Answers 500 to whoever asks how it is."""
        self.stalled = threading.Event()
        """Takes no invoices."""
        self.url = f"http://127.0.0.1:{port}"
        gateway = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                self.answer(500, "out of order") if gateway.ill.is_set() else self.answer(200, "ready")

            def do_POST(self) -> None:
                self.body()
                self.answer(503, "try again later") if gateway.stalled.is_set() else self.answer(202, "taken")

        self.service = Service(port, Handler)


class Portal:
    """The customers' portal: a port that is open, or not."""

    def __init__(self, port: int, books: Books) -> None:
        class Handler(_Quiet):
            def do_GET(self) -> None:
                self.answer(200, f"{books.standing()[0]} invoices\n")

        self.service = Service(port, Handler)


class Desk:
    """The office's page at / and its inbox at /inbox, where Apprise's json:// delivers."""

    def __init__(self, port: int, books: Books, faults: Callable[[], list[str]], keepwatch: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.inbox: deque[tuple[datetime, str, str, str]] = deque(maxlen=50)
        """When, kind (Apprise's info, success, warning, failure), title, text; newest first."""
        desk = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                if self.path == "/inbox.json":
                    rows = [{"at": at.isoformat(), "kind": k, "title": t, "text": x} for at, k, t, x in desk.inbox]
                    self.answer(200, json.dumps(rows), "application/json")
                else:
                    self.answer(200, desk.page(books, faults(), keepwatch), "text/html")

            def do_POST(self) -> None:
                message = json.loads(self.body())
                kind, title, text = (str(message.get(key, "")) for key in ("type", "title", "message"))
                desk.inbox.appendleft((datetime.now(UTC), kind, title, text))
                self.answer(200, "thank you")

        self.service = Service(port, Handler)

    def page(self, books: Books, faults: list[str], keepwatch: str) -> str:
        """The page, made new for each request."""
        count, waiting, cents, _ = books.standing()
        wrong = "".join(f"<li>{escape(fault)}</li>" for fault in faults) or "<li class=ok>nothing right now</li>"
        letters = "".join(
            f"<article class={escape(kind)}><time>{at.astimezone():%H:%M:%S}</time> <b>{escape(title)}</b>"
            f"<pre>{escape(text)}</pre></article>"
            for at, kind, title, text in self.inbox
        )
        return _PAGE.format(
            count=count, waiting=waiting, total=f"{cents / 100:,.2f}", wrong=wrong, keepwatch=escape(keepwatch),
            letters=letters or "<p>No message yet.</p>",
        )  # fmt: skip


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<meta http-equiv=refresh content=2><title>Invoice office</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
body{{color:#1f2933;background:#f7f7f4}}
b.n{{font-size:1.6rem}} li{{color:#b42318}} li.ok{{color:#2f6f4f}} time{{color:#667}}
pre{{white-space:pre-wrap;margin:.3rem 0}} article{{background:#fff;border-left:4px solid #999;padding:.4rem .8rem}}
article{{margin:.5rem 0}}
.failure{{border-color:#b42318}} .warning{{border-color:#c77700}} .success{{border-color:#2f6f4f}}
</style><h1>Invoice office</h1>
<p><b class=n>{count}</b> invoices over <b class=n>{total}</b>, <b class=n>{waiting}</b> not yet with the tax authority.
<h2>What is wrong right now</h2><ul>{wrong}</ul><p>What keepwatch makes of it: <a href="{keepwatch}">{keepwatch}</a>
<h2>Inbox</h2>{letters}</html>"""
